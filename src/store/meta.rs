//! What a store knows about itself: its format, its id, how it was last closed, and where the sequences stand.

use super::row::shard_rows;
use super::{FORMAT, Store, StoreError, StoreInfo, Table};
use crate::model::{ShardId, TsMs};
use crate::random::{random_id, secret_key};
use rocksdb::{IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use std::sync::atomic::Ordering;

const FORMAT_FIELD: &[u8] = b"format";
const ID_FIELD: &[u8] = b"store_id";
/// 32 hex digits: under what key users who were erased are hashed.
const ERASURE_KEY_FIELD: &[u8] = b"erasure_key";
/// `on` or `off`: whether the last run noted changes.
pub(super) const CHANGES_FIELD: &[u8] = b"changes";
/// The machine's boot id while a run is under way; absent after a clean end.
const RUNNING_FIELD: &[u8] = b"running_on_boot";
/// The last time of day that was believed, in ms.
const CLOCK_FIELD: &[u8] = b"clock";
/// There while the time of day was not believed and caps have not been judged anew since.
const CLOCK_DOUBTED_FIELD: &[u8] = b"clock_doubted";
/// How the last run signed that mirrored to Redis.
const MIRROR_RUN_FIELD: &[u8] = b"mirror_run";
/// How many changes an epoch of a sequence has room for, as a power of two: more than a shard ever has.
const EPOCH_BITS: u32 = 40;
/// In `meta`, after the shard: the changes up to this sequence are gone.
const TRIMMED_FIELD: u8 = b't';
/// In `meta`, after the shard: by which revision of the rules its caps were judged last.
pub(super) const RULES_FIELD: u8 = b'r';

impl Store {
    fn field(&self, field: &[u8]) -> Result<Option<String>, StoreError> {
        let value = self.db.get(field).map_err(StoreError::rocks("reading a field of the store"))?;
        value.map(|value| String::from_utf8(value).map_err(|_| corrupt("a field is no text"))).transpose()
    }

    pub(super) fn format(&self) -> Result<Option<u32>, StoreError> {
        let format = self.field(FORMAT_FIELD)?;
        format.map(|text| text.parse().map_err(|_| corrupt("the format is no number"))).transpose()
    }

    /// Reads who this store is; makes it up where it is new.
    pub(super) fn open_info(&self) -> Result<StoreInfo, StoreError> {
        if let Some(id) = self.field(ID_FIELD)? {
            return Ok(StoreInfo { id });
        }
        let id = random_id();
        self.db.put(ID_FIELD, &id).map_err(StoreError::rocks("writing the store's id"))?;
        Ok(StoreInfo { id })
    }

    /// Says that this version wrote here, and makes what a store of an earlier one lacks.
    pub(super) fn upgrade(&mut self) -> Result<(), StoreError> {
        if self.format()? != Some(FORMAT) {
            self.db.put(FORMAT_FIELD, FORMAT.to_string()).map_err(StoreError::rocks("writing the format"))?;
        }
        let key = match self.field(ERASURE_KEY_FIELD)? {
            Some(key) => key,
            None => {
                let key =
                    secret_key().map_err(|why| StoreError::Io { doing: "making the erasure key", kind: why.kind() })?;
                self.db.put(ERASURE_KEY_FIELD, &key).map_err(StoreError::rocks("writing the erasure key"))?;
                key
            }
        };
        let key = u128::from_str_radix(&key, 16).map_err(|_| corrupt("the erasure key is not 32 hex digits"))?;
        self.erasure_key = key.to_be_bytes();
        Ok(())
    }

    /// Finds the last sequence of every shard: that of its last change, or of what was trimmed.
    ///
    /// Where `changes_are_void` no change is read any more that was noted before.
    pub(super) fn load_sequences(&self, changes_are_void: bool) -> Result<(), StoreError> {
        // Changes were noted in every run so far, and none noted was lost: then Redis can be told from where it is.
        // Else every sequence steps into the next epoch, and whoever stands in an earlier one starts anew.
        let unbroken = !changes_are_void
            && self.field(CHANGES_FIELD)?.is_none_or(|kept| kept == "on")
            && self.field(RUNNING_FIELD)?.is_none_or(|boot| boot != UNKNOWN_BOOT && boot == boot_id());
        let mut batch = WriteBatch::default();
        for shard in ShardId::all() {
            let mut trimmed_to = self.stored_trimmed_to(shard)?;
            let last = self.last_change(shard);
            if let Err(error) = &last {
                self.unreadable(Table::Changes, error);
            }
            let unbroken = unbroken && last.is_ok();
            let mut seq = last.unwrap_or_default().unwrap_or(0).max(trimmed_to);
            if !unbroken && self.keep_changes {
                // Far above every number that was ever given out, so that no marker of the time before can be met.
                seq = ((seq >> EPOCH_BITS) + 1) << EPOCH_BITS;
                trimmed_to = seq;
                self.put_trimmed_to(&mut batch, shard, seq);
            }
            self.seq[shard.index()].store(seq, Ordering::Relaxed);
            self.durable_seq[shard.index()].store(seq, Ordering::Release);
            self.trimmed_to[shard.index()].store(trimmed_to, Ordering::Release);
        }
        self.db.write(batch).map_err(StoreError::rocks("writing where the changes begin"))
    }

    pub(super) fn mark_opened(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(CHANGES_FIELD, if self.keep_changes { "on" } else { "off" });
        batch.put(RUNNING_FIELD, boot_id());
        let mut options = WriteOptions::default();
        options.set_sync(self.dir.is_some());
        self.db.write_opt(batch, &options).map_err(StoreError::rocks("marking the store as open"))
    }

    pub(super) fn mark_closed(&self) -> Result<(), StoreError> {
        self.db.delete(RUNNING_FIELD).map_err(StoreError::rocks("marking the store as closed"))
    }

    /// The last time of day that was believed, by this process or an earlier one. Blocks on disk.
    pub fn last_believed(&self) -> Result<Option<TsMs>, StoreError> {
        let clock = self.field(CLOCK_FIELD)?;
        clock.map(|text| text.parse().map(TsMs).map_err(|_| corrupt("the clock is no number"))).transpose()
    }

    /// Notes the time of day as believed; it survives a power cut. Blocks on disk.
    pub fn put_last_believed(&self, now: TsMs) -> Result<(), StoreError> {
        self.put_field(CLOCK_FIELD, Some(&now.0.to_string()))
    }

    /// Whether the time of day was not believed, and caps are yet to be judged anew. Blocks on disk.
    pub fn is_clock_doubted(&self) -> Result<bool, StoreError> {
        Ok(self.field(CLOCK_DOUBTED_FIELD)?.is_some())
    }

    /// Notes whether the time of day is doubted. Blocks on disk.
    pub fn put_clock_doubted(&self, doubted: bool) -> Result<(), StoreError> {
        self.put_field(CLOCK_DOUBTED_FIELD, doubted.then_some("yes"))
    }

    /// Writes a field, or removes it; it is durable afterwards. Poisons the store where it fails.
    fn put_field(&self, field: &[u8], value: Option<&str>) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let done = match value {
            Some(value) => self.db.put(field, value),
            None => self.db.delete(field),
        };
        done.map_err(StoreError::rocks("writing a field of the store")).inspect_err(|_| self.poison())?;
        self.sync()
    }

    /// How the last run signed that mirrored to Redis.
    pub fn mirror_run(&self) -> Result<Option<String>, StoreError> {
        self.field(MIRROR_RUN_FIELD)
    }

    pub fn put_mirror_run(&self, mark: &str) -> Result<(), StoreError> {
        self.put_field(MIRROR_RUN_FIELD, Some(mark))
    }

    pub(super) fn put_trimmed_to(&self, batch: &mut WriteBatch, shard: ShardId, seq: u64) {
        batch.put_cf(self.cf(Table::Meta), [shard.0, TRIMMED_FIELD], seq.to_be_bytes());
    }

    /// By which revision of the rules the caps of a shard were judged last.
    pub fn rules_mark(&self, shard: ShardId) -> Result<Option<u64>, StoreError> {
        self.shard_number(shard, RULES_FIELD)
    }

    fn stored_trimmed_to(&self, shard: ShardId) -> Result<u64, StoreError> {
        Ok(self.shard_number(shard, TRIMMED_FIELD)?.unwrap_or(0))
    }

    pub(super) fn shard_number(&self, shard: ShardId, field: u8) -> Result<Option<u64>, StoreError> {
        let value = self.db.get_cf(self.cf(Table::Meta), [shard.0, field]);
        let value = value.map_err(StoreError::rocks("reading what is known of a shard"))?;
        let number = |value: Vec<u8>| value.as_slice().try_into().map(u64::from_be_bytes);
        value.map(number).transpose().map_err(|_| corrupt("a number is not 8 bytes"))
    }

    fn last_change(&self, shard: ShardId) -> Result<Option<u64>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(shard_rows(shard));
        let mut rows = self.db.iterator_cf_opt(self.cf(Table::Changes), options, IteratorMode::End);
        let Some(row) = rows.next() else { return Ok(None) };
        let (key, _) = row.map_err(StoreError::rocks("finding the last change"))?;
        super::changes::seq_of(&key).map(Some)
    }
}

/// Where the machine does not tell: then any end that was not clean may have been a power cut.
const UNKNOWN_BOOT: &str = "unknown";

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { table: "meta", what }
}

/// Changes with every start of the machine: what a process wrote without fsync may be gone only if this changed.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| UNKNOWN_BOOT.to_owned(), |id| id.trim().to_owned())
}

/// The same as a number; 0 where the machine does not tell.
pub(super) fn boot_number() -> u64 {
    let id = boot_id();
    if id == UNKNOWN_BOOT { 0 } else { xxhash_rust::xxh3::xxh3_64(id.as_bytes()).max(1) }
}
