//! The store's own fields: format, id, how it was last closed, and the positions of sequences.

use crate::model::{ShardId, TsMs};
use crate::random::{random_id, secret_key};
use crate::store::boot::{UNKNOWN_BOOT, boot_id};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::WriteBatch;
use std::sync::Arc;

/// The version of everything on disk. A newer one is refused.
pub const FORMAT: u32 = 4;

const FORMAT_FIELD: &[u8] = b"format";
const ID_FIELD: &[u8] = b"store_id";
/// 32 hex digits: the key of the hashes of erased users.
const ERASURE_KEY_FIELD: &[u8] = b"erasure_key";
/// `on` or `off`: whether the last run kept changes.
pub(in crate::store) const CHANGES_FIELD: &[u8] = b"changes";
/// The machine's boot id while a run is under way; absent after a clean end.
const RUNNING_FIELD: &[u8] = b"running_on_boot";
/// The last time of day that was believed, in ms.
const CLOCK_FIELD: &[u8] = b"clock";
/// Present while the time of day is not believed, and until caps are judged again after that.
const CLOCK_DOUBTED_FIELD: &[u8] = b"clock_doubted";
/// The mark of the last run that mirrored to Redis.
const MIRROR_RUN_FIELD: &[u8] = b"mirror_run";

/// 32 hex digits, drawn whenever the store comes back from a copy: from then on it is another history than what the copied
/// store went on with.
const INCARNATION_FIELD: &[u8] = b"incarnation";

/// Where the unit stands in the log of a cluster.
pub(in crate::store) const LOG_POSITION_FIELD: &[u8] = b"log_position";
/// The policy that the log of a cluster brought into force.
pub(in crate::store) const LOG_POLICY_FIELD: &[u8] = b"log_policy";

/// A number that is stored for each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum ShardField {
    /// Changes up to this sequence are removed.
    TrimmedTo,
    /// The revision of the rules by which its caps were judged last.
    RulesRevision,
    /// When the oldest erasure was made whose bytes are still in files.
    ErasedSince,
}

impl ShardField {
    pub(in crate::store) fn key(self, shard: ShardId) -> [u8; 2] {
        let field = match self {
            Self::TrimmedTo => b't',
            Self::RulesRevision => b'r',
            Self::ErasedSince => b'e',
        };
        [shard.0, field]
    }
}

/// The table `meta`, and the store's own fields in `default`.
pub struct Meta {
    db: Arc<Db>,
}

impl Meta {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    fn field(&self, field: &[u8]) -> Result<Option<String>, StoreError> {
        let value = self.db.rocks.get(field).map_err(StoreError::rocks("reading a field of the store"))?;
        value.map(|value| String::from_utf8(value).map_err(|_| corrupt("a field is no text"))).transpose()
    }

    pub(in crate::store) fn format(&self) -> Result<Option<u32>, StoreError> {
        let format = self.field(FORMAT_FIELD)?;
        format.map(|text| text.parse().map_err(|_| corrupt("the format is no number"))).transpose()
    }

    /// Reads the id of this store, or makes one.
    pub(in crate::store) fn read_or_make_id(&self) -> Result<String, StoreError> {
        if let Some(id) = self.field(ID_FIELD)? {
            return Ok(id);
        }
        let id = random_id();
        self.db.rocks.put(ID_FIELD, &id).map_err(StoreError::rocks("writing the store's id"))?;
        Ok(id)
    }

    /// Records that this version wrote here, and adds what a store of an earlier version lacks. Returns the key of the
    /// hashes of erased users.
    pub(in crate::store) fn upgrade(&self) -> Result<[u8; 16], StoreError> {
        if self.format()? != Some(FORMAT) {
            self.db.rocks.put(FORMAT_FIELD, FORMAT.to_string()).map_err(StoreError::rocks("writing the format"))?;
        }
        let key = match self.field(ERASURE_KEY_FIELD)? {
            Some(key) => key,
            None => {
                let key =
                    secret_key().map_err(|why| StoreError::Io { doing: "making the erasure key", kind: why.kind() })?;
                self.db.rocks.put(ERASURE_KEY_FIELD, &key).map_err(StoreError::rocks("writing the erasure key"))?;
                key
            }
        };
        let key = u128::from_str_radix(&key, 16).map_err(|_| corrupt("the erasure key is not 32 hex digits"))?;
        Ok(key.to_be_bytes())
    }

    /// Whether every change was kept and none was lost: every run so far kept changes, and none ended by a power cut.
    pub(in crate::store) fn are_changes_unbroken(&self) -> Result<bool, StoreError> {
        let were_kept = self.field(CHANGES_FIELD)?.is_none_or(|kept| kept == "on");
        Ok(were_kept && self.field(RUNNING_FIELD)?.is_none_or(|boot| boot != UNKNOWN_BOOT && boot == boot_id()))
    }

    pub(in crate::store) fn mark_opened(&self, keep_changes: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(CHANGES_FIELD, if keep_changes { "on" } else { "off" });
        batch.put(RUNNING_FIELD, boot_id());
        self.db.write_durably(batch, "marking the store as open")
    }

    pub(in crate::store) fn mark_closed(&self) -> Result<(), StoreError> {
        self.db.rocks.delete(RUNNING_FIELD).map_err(StoreError::rocks("marking the store as closed"))
    }

    /// Where the unit stands in the log of a cluster, as it was stored; `None` before the first record. Blocks on disk.
    pub fn log_position(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.rocks.get(LOG_POSITION_FIELD).map_err(StoreError::rocks("reading the position in the log"))
    }

    /// The policy that the log of a cluster brought into force, as it was stored. Blocks on disk.
    pub fn log_policy(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.rocks.get(LOG_POLICY_FIELD).map_err(StoreError::rocks("reading the policy of the log"))
    }

    /// The last time of day that was believed, by this process or an earlier one. Blocks on disk.
    pub fn last_believed(&self) -> Result<Option<TsMs>, StoreError> {
        let clock = self.field(CLOCK_FIELD)?;
        clock.map(|text| text.parse().map(TsMs).map_err(|_| corrupt("the clock is no number"))).transpose()
    }

    /// Stores the time of day as believed; survives a power cut. Blocks on disk.
    pub fn put_last_believed(&self, now: TsMs) -> Result<(), StoreError> {
        self.put_field(CLOCK_FIELD, Some(&now.0.to_string()))
    }

    /// Whether the time of day was not believed, and caps must still be judged again. Blocks on disk.
    pub fn is_clock_doubted(&self) -> Result<bool, StoreError> {
        Ok(self.field(CLOCK_DOUBTED_FIELD)?.is_some())
    }

    /// Stores whether the time of day is doubted. Blocks on disk.
    pub fn put_clock_doubted(&self, doubted: bool) -> Result<(), StoreError> {
        self.put_field(CLOCK_DOUBTED_FIELD, doubted.then_some("yes"))
    }

    /// Writes or removes a field, durably. Poisons the store on failure.
    fn put_field(&self, field: &[u8], value: Option<&str>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        match value {
            Some(value) => batch.put(field, value),
            None => batch.delete(field),
        }
        self.db.write(batch, "writing a field of the store")?;
        self.db.sync()
    }

    /// The mark of the last run that mirrored to Redis. Blocks on disk.
    pub fn mirror_run(&self) -> Result<Option<String>, StoreError> {
        self.field(MIRROR_RUN_FIELD)
    }

    /// Stores the mark of this run. Blocks on disk.
    pub fn put_mirror_run(&self, mark: &str) -> Result<(), StoreError> {
        self.put_field(MIRROR_RUN_FIELD, Some(mark))
    }

    /// What this history of the store is called; `None` where it never came back from a copy.
    pub fn incarnation(&self) -> Result<Option<String>, StoreError> {
        self.field(INCARNATION_FIELD)
    }

    /// Begins another history, after the store came back from a copy: nobody outside is where the copy was. The mirror takes
    /// Redis for told by another run, and whoever follows the changes begins anew. `id` where it is to be another store, too.
    /// Durable where it returns.
    pub(in crate::store) fn begin_incarnation(&self, incarnation: &str, id: Option<&str>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(INCARNATION_FIELD, incarnation);
        batch.delete(MIRROR_RUN_FIELD);
        batch.put(CHANGES_FIELD, "off");
        if let Some(id) = id {
            batch.put(ID_FIELD, id);
        }
        self.db.write_durably(batch, "beginning anew after a copy")
    }

    /// A number that is stored for a shard.
    pub(in crate::store) fn get(&self, shard: ShardId, field: ShardField) -> Result<Option<u64>, StoreError> {
        let value = self.db.get(Table::Meta, &field.key(shard), "reading what is known of a shard")?;
        let Some(value) = value else { return Ok(None) };
        let bytes = value.as_ref().try_into().map_err(|_| corrupt("a number is not 8 bytes"))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, shard: ShardId, field: ShardField, number: u64) {
        batch.put_cf(self.db.cf(Table::Meta), field.key(shard), number.to_be_bytes());
    }

    pub(in crate::store) fn delete(&self, batch: &mut WriteBatch, shard: ShardId, field: ShardField) {
        batch.delete_cf(self.db.cf(Table::Meta), field.key(shard));
    }

    /// The revision of the rules by which a shard's caps were judged last.
    pub fn rules_revision(&self, shard: ShardId) -> Result<Option<u64>, StoreError> {
        self.get(shard, ShardField::RulesRevision)
    }
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { table: "meta", what }
}
