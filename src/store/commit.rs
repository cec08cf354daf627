//! A commit: everything that one turn of a writer changes, in one atomic write.

use super::change_log::ChangeLog;
use super::codec::encode_log;
use super::db::Db;
use super::error::StoreError;
use super::logs::Logs;
use super::options::Durability;
use super::overlay::Overlay;
use super::overlay::flush::{Flusher, Step};
use super::tables::Tables;
use super::tables::changes::{ChangeKey, encode_change};
use super::tables::due::DueRow;
use super::tables::journal::put_row;
use super::tables::kafka_offsets::MarkKey;
use super::tables::meta::{LOG_POLICY_FIELD, LOG_POSITION_FIELD, ShardField};
use super::tables::reservations::ReservationRow;
use crate::model::{CapPlan, Log, SHARDS, ShardId, TsMs};
use rocksdb::{WriteBatch, WriteOptions};

/// What a commit writes to.
#[derive(Clone, Copy)]
pub(in crate::store) struct Parts<'s> {
    pub db: &'s Db,
    pub tables: &'s Tables,
    pub logs: &'s Logs,
    pub overlay: &'s Overlay,
    pub flusher: &'s Flusher,
    pub changes: &'s ChangeLog,
    pub durability: Durability,
}

/// Collects writes. Nothing is visible before [`Commit::write`].
pub struct Commit<'s> {
    pub(in crate::store) parts: Parts<'s>,
    pub(in crate::store) batch: WriteBatch,
    /// The changed logs, as a row of the journal.
    journal: Vec<u8>,
    /// By shard, the sequence of the last change; 0 if there is none.
    written: Vec<u64>,
    /// Buffer for encoding rows.
    scratch: Vec<u8>,
}

impl<'s> Commit<'s> {
    pub(in crate::store) fn new(parts: Parts<'s>) -> Self {
        let mut batch = WriteBatch::default();
        parts.db.put_sync_note(&mut batch);
        Self { parts, batch, journal: Vec::new(), written: vec![0; SHARDS], scratch: Vec::with_capacity(512) }
    }

    /// Writes a log, once per commit; an empty log is removed. Fastest if the logs of a shard follow each other.
    pub fn put_log(&mut self, row_key: &[u8], log: &Log, may_cap: bool) {
        self.scratch.clear();
        encode_log(&mut self.scratch, log, may_cap);
        put_row(&mut self.journal, row_key, &self.scratch);
    }

    /// Writes the rows of a key's cap: `caps`, its timer, and its change.
    pub fn put_cap(&mut self, row_key: &[u8], plan: &CapPlan, now: TsMs) {
        let Parts { tables, changes, .. } = self.parts;
        if plan.row_changes {
            match plan.row {
                Some(row) => tables.caps.put(&mut self.batch, row_key, row, &mut self.scratch),
                None => tables.caps.delete(&mut self.batch, row_key),
            }
        }
        if let Some(due) = plan.timer_remove {
            tables.due.delete(&mut self.batch, due, row_key, &mut self.scratch);
        }
        if let Some(due) = plan.timer_add {
            tables.due.put(&mut self.batch, due, row_key, &mut self.scratch);
        }
        if plan.notify && changes.are_kept() {
            let shard = ShardId(row_key[0]);
            let seq = changes.next_seq(shard);
            self.scratch.clear();
            encode_change(&mut self.scratch, now, plan.change(), row_key);
            changes.table().put(&mut self.batch, ChangeKey { shard, seq }, &self.scratch);
            self.written[shard.index()] = seq;
        }
    }

    /// Removes timers of one shard that fired. They must be all timers from the first to the last of them.
    pub fn remove_fired(&mut self, fired: &[DueRow]) {
        self.parts.tables.due.delete_fired(&mut self.batch, fired, &mut self.scratch);
    }

    /// Stores the answer to a call of `/reserve` under user and id.
    pub fn put_reservation(&mut self, row_key: &[u8], row: &ReservationRow) {
        self.parts.tables.reservations.put(&mut self.batch, row_key, row, &mut self.scratch);
    }

    /// Records the revision of the rules by which a shard's caps were judged.
    pub fn put_rules_revision(&mut self, shard: ShardId, revision: u64) {
        self.parts.tables.meta.put(&mut self.batch, shard, ShardField::RulesRevision, revision);
    }

    /// Moves a writer's mark: with this write, its shards have the partition's records up to `next`.
    pub fn put_kafka_mark(&mut self, mark: &MarkKey, next: u64) {
        self.parts.tables.kafka_offsets.put_mark(&mut self.batch, mark, next);
    }

    /// Records that a record below the mark was not counted, and why. Its dead letter must arrive.
    pub fn put_kafka_aside(&mut self, mark: &MarkKey, offset: u64, code: &str) {
        self.parts.tables.kafka_offsets.put_aside(&mut self.batch, mark, offset, code);
    }

    /// Stores where the unit stands in the log of a cluster.
    pub fn put_log_position(&mut self, position: &[u8]) {
        self.batch.put(LOG_POSITION_FIELD, position);
    }

    /// Stores the policy that the log of a cluster brought into force.
    pub fn put_log_policy(&mut self, policy: &[u8]) {
        self.batch.put(LOG_POLICY_FIELD, policy);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.journal.is_empty()
    }

    /// Writes all of it or nothing. It is visible at once and survives the end of the process; it survives a power cut
    /// once a later [`Store::sync`](super::Store::sync) has returned. Returns the changes, to be published when they
    /// are durable. Poisons the store on failure.
    pub fn write(mut self) -> Result<Vec<(ShardId, u64)>, StoreError> {
        let Parts { db, overlay, flusher, .. } = self.parts;
        db.refuse_if_poisoned()?;
        if self.is_empty() {
            return Ok(Vec::new());
        }
        if !self.journal.is_empty() {
            // Before the gate: a freeze takes the gate alone, so waiting inside it for a flush would deadlock.
            flusher.make_room()?;
        }
        // No freeze may come between taking a position in the journal and putting the rows into the overlay: a frozen
        // overlay stands for every row of the journal up to its position.
        let entered = overlay.enter();
        if !self.journal.is_empty() {
            flusher.journal().put(&mut self.batch, overlay.next_position(), &self.journal);
        }
        let mut options = WriteOptions::default();
        options.set_memtable_insert_hint_per_batch(true);
        db.write_with(self.batch, &options, "writing a batch")?;
        if self.parts.durability == Durability::Wal {
            db.note_written()?;
        }
        flusher.at(Step::Journalled);
        overlay.take_in(&self.journal).inspect_err(|_| db.poison())?;
        drop(entered);
        let written = ShardId::all().zip(self.written).filter(|(_, seq)| *seq > 0);
        Ok(written.collect())
    }
}
