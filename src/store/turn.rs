//! One turn of a writer: everything it changes, in one atomic write.

use super::codec::{encode_cap, encode_log};
use super::overlay::{Step, put_row};
use super::wal::note;
use super::{DueRow, Durability, ReservationRow, Store, StoreError, Table, changes, due};
use crate::model::{CapPlan, Log, SHARDS, ShardId, TsMs};
use rocksdb::{WriteBatch, WriteOptions};
use std::sync::atomic::Ordering;

/// Collects writes; nothing is seen of them before [`Turn::commit`].
pub struct Turn<'s> {
    pub(super) store: &'s Store,
    pub(super) batch: WriteBatch,
    /// The logs that changed: a row of the journal.
    journal: Vec<u8>,
    /// The last change written, by shard; 0 where there is none.
    written: Vec<u64>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// From so many timers of one shard on, they are removed as a range: fewer are cheaper one by one, for every range
/// tombstone is asked in every later read of its table until compaction.
pub(super) const RANGE_FROM: usize = 64;

impl Store {
    pub fn turn(&self) -> Turn<'_> {
        let mut batch = WriteBatch::default();
        // Only the log has it: after a crash it says what of the log was promised.
        batch.put_log_data(note(self.synced_seq.load(Ordering::Relaxed)));
        Turn {
            store: self,
            batch,
            journal: Vec::new(),
            written: vec![0; SHARDS],
            key: Vec::with_capacity(512),
            value: Vec::with_capacity(512),
        }
    }
}

impl Turn<'_> {
    /// Writes a log, once; an empty one is removed. Logs of one shard come one after another, or it takes longer.
    pub fn put_log(&mut self, row_key: &[u8], log: &Log, may_cap: bool) {
        self.value.clear();
        encode_log(&mut self.value, log, may_cap);
        put_row(&mut self.journal, row_key, &self.value);
    }

    /// Brings the cap, the timer and the changes of a key in line with a plan.
    pub fn put_cap(&mut self, row_key: &[u8], plan: &CapPlan, now: TsMs) {
        let store = self.store;
        if plan.row_changes {
            match plan.row {
                Some(row) => {
                    self.value.clear();
                    encode_cap(&mut self.value, row);
                    self.batch.put_cf(store.cf(Table::Caps), row_key, &self.value);
                }
                None => self.batch.delete_cf(store.cf(Table::Caps), row_key),
            }
        }
        if let Some(due) = plan.timer_remove {
            self.key.clear();
            due::write_row(&mut self.key, due, row_key);
            self.batch.delete_cf(store.cf(Table::Due), &self.key);
        }
        if let Some(due) = plan.timer_add {
            self.key.clear();
            due::write_row(&mut self.key, due, row_key);
            self.batch.put_cf(store.cf(Table::Due), &self.key, []);
        }
        if plan.tell && store.keep_changes {
            let shard = ShardId(row_key[0]);
            let seq = store.next_seq(shard);
            self.value.clear();
            changes::value(&mut self.value, now, plan.change(), row_key);
            self.batch.put_cf(store.cf(Table::Changes), changes::row(shard, seq), &self.value);
            self.written[shard.index()] = seq;
        }
    }

    /// Removes timers of one shard that have fired. They must be all that there are from the first to the last.
    pub fn remove_fired(&mut self, fired: &[DueRow]) {
        let (Some(first), Some(last)) = (fired.first(), fired.last()) else { return };
        let cf = self.store.cf(Table::Due);
        if fired.len() >= RANGE_FROM {
            self.key.clear();
            due::write_row(&mut self.key, last.due, &last.row_key);
            // The end of a range is not in it.
            self.key.push(0);
            let mut start = Vec::with_capacity(first.row_key.len() + 8);
            due::write_row(&mut start, first.due, &first.row_key);
            self.batch.delete_range_cf(cf, &start, &self.key);
            return;
        }
        for row in fired {
            self.key.clear();
            due::write_row(&mut self.key, row.due, &row.row_key);
            self.batch.delete_cf(cf, &self.key);
        }
    }

    /// Keeps the answer of a call of `/reserve` under its user and id.
    pub fn put_reservation(&mut self, row_key: &[u8], row: &ReservationRow) {
        self.value.clear();
        row.encode(&mut self.value);
        self.batch.put_cf(self.store.cf(Table::Reservations), row_key, &self.value);
    }

    /// Notes by which revision of the rules the caps of a shard are judged now.
    pub fn put_rules_mark(&mut self, shard: ShardId, revision: u64) {
        self.batch.put_cf(self.store.cf(Table::Meta), [shard.0, super::meta::RULES_FIELD], revision.to_be_bytes());
    }

    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.journal.is_empty()
    }

    /// Writes all of it or nothing. It is visible at once, and survives the end of the process; a power cut only once
    /// [`Store::sync`] has returned after it. The changes written are returned, to be published when durable. Poisons
    /// the store where it fails.
    pub fn commit(mut self) -> Result<Vec<(ShardId, u64)>, StoreError> {
        let store = self.store;
        if store.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        if self.is_empty() {
            return Ok(Vec::new());
        }
        if !self.journal.is_empty() {
            store.make_room()?;
        }
        let entered = store.overlay.enter();
        if !self.journal.is_empty() {
            let position = store.overlay.next_position().to_be_bytes();
            self.batch.put_cf(store.cf(Table::Journal), position, &self.journal);
        }
        let mut options = WriteOptions::default();
        options.set_memtable_insert_hint_per_batch(true);
        let done = store.db.write_opt(self.batch, &options);
        done.map_err(StoreError::rocks("writing a batch")).inspect_err(|_| store.poison())?;
        if store.durability == Durability::Wal {
            store.note_written().inspect_err(|_| store.poison())?;
        }
        store.at(Step::Journalled);
        store.overlay.take_in(&self.journal).inspect_err(|_| store.poison())?;
        drop(entered);
        let written = ShardId::all().zip(self.written).filter(|(_, seq)| *seq > 0);
        Ok(written.collect())
    }
}
