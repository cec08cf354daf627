//! The change log: which caps changed, in order, by shard, for as long as a consumer needs it.
//!
//! ```text
//!  commit ──▶ table `changes` ──publish──▶ durable ──▶ consumers: cursor, cursor, ..
//!                   ▲                                        │ ack
//!                   └──────────── trim, at the least ◀───────┘
//! ```
//!
//! A change gets its sequence when it is written, and becomes visible when it is durable: [`ChangeLog::publish`] wakes
//! all consumers. A consumer subscribes, reads with [`ChangeLog::after`], and acknowledges what it no longer needs.
//! [`ChangeLog::trim`] removes what all of them have acknowledged. A consumer with too many waiting changes is given up
//! on: it finds that it lags ([`ChangeCursor::trimmed_to`]) and starts over with the rows of `caps`.

mod confirmed;
mod consumer;
mod cursor;
mod signal;
#[cfg(test)]
mod tests;

pub use confirmed::Mirrored;
pub use consumer::Bounds;
pub use cursor::{ChangeCursor, ChangeSignal, ChangeWatch};

use super::db::Db;
use super::error::StoreError;
use super::table::Table;
use super::tables::changes::{Change, ChangeKey, Changes};
use super::tables::meta::{Meta, ShardField};
use crate::model::{ShardId, ShardSet};
use consumer::{Consumer, ShardCounters};
use rocksdb::WriteBatch;
use signal::Signal;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Changes that one epoch of a sequence has room for, as a power of two: more than a shard ever has.
const EPOCH_BITS: u32 = 40;

/// The changes of caps in order, by shard, for consumers that each acknowledge how far they are.
pub struct ChangeLog {
    db: Arc<Db>,
    table: Changes,
    meta: Meta,
    shards: ShardSet,
    /// Whether changes are kept at all.
    are_kept: bool,
    /// The last sequence given out. Only the shard's writer raises it.
    last_seq: ShardCounters,
    /// The last durable sequence.
    durable_seq: ShardCounters,
    /// Changes up to this sequence are removed.
    trimmed_to: ShardCounters,
    consumers: RwLock<Vec<Arc<Consumer>>>,
    published: Arc<Signal>,
}

impl ChangeLog {
    pub(in crate::store) fn new(db: &Arc<Db>, shards: ShardSet, are_kept: bool) -> Self {
        Self {
            db: db.clone(),
            table: Changes::new(db.clone()),
            meta: Meta::new(db.clone()),
            shards,
            are_kept,
            last_seq: ShardCounters::default(),
            durable_seq: ShardCounters::default(),
            trimmed_to: ShardCounters::default(),
            consumers: RwLock::default(),
            published: Arc::default(),
        }
    }

    /// Finds the last sequence of every shard: of its last change, or of what was trimmed.
    ///
    /// If `changes_are_void`, no change written before is read any more.
    pub(in crate::store) fn load(&self, changes_are_void: bool) -> Result<(), StoreError> {
        // If every run so far kept changes and none was lost, consumers resume where they are. Otherwise every sequence
        // moves to the next epoch, and consumers in an earlier one start over.
        let is_unbroken = !changes_are_void && self.meta.are_changes_unbroken()?;
        let mut batch = WriteBatch::default();
        for shard in self.shards.iter() {
            let mut trimmed_to = self.meta.get(shard, ShardField::TrimmedTo)?.unwrap_or(0);
            let last = self.table.last(shard);
            if let Err(error) = &last {
                self.db.count_unreadable(Table::Changes, error);
            }
            let is_unbroken = is_unbroken && last.is_ok();
            let mut seq = last.unwrap_or_default().unwrap_or(0).max(trimmed_to);
            if !is_unbroken && self.are_kept {
                // Far above every sequence ever given out, so that no old position can match.
                seq = ((seq >> EPOCH_BITS) + 1) << EPOCH_BITS;
                trimmed_to = seq;
                self.meta.put(&mut batch, shard, ShardField::TrimmedTo, seq);
            }
            self.last_seq[shard].store(seq, Ordering::Relaxed);
            self.durable_seq[shard].store(seq, Ordering::Release);
            self.trimmed_to[shard].store(trimmed_to, Ordering::Release);
        }
        self.db.write(batch, "writing where the changes begin")
    }

    pub(in crate::store) fn are_kept(&self) -> bool {
        self.are_kept
    }

    pub(in crate::store) fn table(&self) -> &Changes {
        &self.table
    }

    pub(in crate::store) fn next_seq(&self, shard: ShardId) -> u64 {
        self.last_seq[shard].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The shards of this log.
    pub fn shards(&self) -> ShardSet {
        self.shards
    }

    /// The sequence of a shard's last change, durable or about to be; 0 before the first.
    pub fn last_seq(&self, shard: ShardId) -> u64 {
        self.last_seq[shard].load(Ordering::Relaxed)
    }

    /// The sequence of a shard's last durable change; 0 before the first.
    pub fn durable_seq(&self, shard: ShardId) -> u64 {
        self.durable_seq[shard].load(Ordering::Acquire)
    }

    /// Changes of a shard up to this sequence are removed. A consumer below it must start over.
    pub fn trimmed_to(&self, shard: ShardId) -> u64 {
        self.trimmed_to[shard].load(Ordering::Acquire)
    }

    /// Publishes changes to all consumers, once they are durable.
    pub fn publish(&self, written: impl IntoIterator<Item = (ShardId, u64)>) {
        let mut any = false;
        for (shard, seq) in written {
            any |= self.durable_seq[shard].fetch_max(seq, Ordering::AcqRel) < seq;
        }
        if any {
            self.published.raise();
        }
    }

    /// Up to `max` durable changes of a shard after a sequence, in order. Blocks on disk.
    pub fn after(&self, shard: ShardId, after: u64, max: usize) -> Result<Vec<Change>, StoreError> {
        let durable = self.durable_seq(shard);
        self.table.between(shard, after, durable, max).inspect_err(|error| {
            self.db.count_unreadable(Table::Changes, error);
            // Changes that cannot be read are dropped. A consumer that needs them starts over.
            let _ = self.drop_up_to([(shard, durable)]);
        })
    }

    /// Makes the consumers of a shard start over: something changed that no change says.
    pub fn forget(&self, shard: ShardId) -> Result<(), StoreError> {
        let seq = self.next_seq(shard);
        self.drop_up_to([(shard, seq)])?;
        self.publish([(shard, seq)]);
        Ok(())
    }

    fn unsubscribe(&self, consumer: &Arc<Consumer>) {
        let mut consumers = self.consumers.write().unwrap_or_else(PoisonError::into_inner);
        consumers.retain(|other| !Arc::ptr_eq(other, consumer));
    }

    fn consumers(&self) -> RwLockReadGuard<'_, Vec<Arc<Consumer>>> {
        self.consumers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every consumer of this name has confirmed a shard's changes up to here; true if there is none.
    pub fn is_confirmed(&self, name: &str, shard: ShardId, seq: u64) -> bool {
        let consumers = self.consumers();
        let mut of_name = consumers.iter().filter(|consumer| consumer.name == name);
        of_name.all(|consumer| consumer.confirmed[shard].load(Ordering::Relaxed) >= seq)
    }

    /// When the consumer of this name had confirmed a shard's changes up to here.
    pub fn confirmed_at(&self, name: &str, shard: ShardId, seq: u64) -> Mirrored {
        let consumers = self.consumers();
        let mut found = Mirrored::Nobody;
        for consumer in consumers.iter().filter(|consumer| consumer.name == name) {
            if consumer.confirmed[shard].load(Ordering::Relaxed) < seq {
                return Mirrored::NotYet;
            }
            found = Mirrored::Since(consumer.confirmed_at(shard, seq));
        }
        found
    }

    /// Removes the changes that every consumer has acknowledged, after giving up on consumers with too many waiting.
    /// Removes nothing while there is no consumer. Each consumer calls it from time to time. Blocks on disk.
    pub fn trim(&self) -> Result<(), StoreError> {
        let consumers = self.consumers();
        for consumer in consumers.iter() {
            self.give_up_where_too_much_waits(consumer);
        }
        let mut old = Vec::new();
        for shard in self.shards.iter() {
            let retained = consumers.iter().map(|consumer| consumer.retained_after[shard].load(Ordering::Relaxed));
            if let Some(least) = retained.min().filter(|&least| least > self.trimmed_to(shard)) {
                old.push((shard, least));
            }
        }
        if old.is_empty() { Ok(()) } else { self.drop_up_to(old) }
    }

    /// How many changes of a shard wait for a consumer and are not given up.
    fn waiting(&self, consumer: &Consumer, shard: ShardId) -> u64 {
        let given_up = self.trimmed_to(shard).max(consumer.lagged_to[shard].load(Ordering::Acquire));
        let from = consumer.position[shard].load(Ordering::Relaxed).max(given_up);
        self.durable_seq(shard).saturating_sub(from)
    }

    fn give_up_where_too_much_waits(&self, consumer: &Consumer) {
        let total: u64 = self.shards.iter().map(|shard| self.waiting(consumer, shard)).sum();
        let mut shards = 0;
        for shard in self.shards.iter() {
            if total > consumer.bounds.total || self.waiting(consumer, shard) > consumer.bounds.of_shard {
                consumer.give_up(shard, self.durable_seq(shard));
                shards += 1;
            }
        }
        if shards > 0 {
            let consumer = consumer.name;
            tracing::warn!(consumer, shards, "too many changes wait: they are given up, and all caps sent instead");
        }
    }

    /// Removes the changes of several shards up to a sequence, whoever still needs them. Blocks on disk.
    pub(in crate::store) fn drop_up_to(
        &self,
        up_to: impl IntoIterator<Item = (ShardId, u64)>,
    ) -> Result<(), StoreError> {
        self.db.refuse_if_poisoned()?;
        let mut batch = WriteBatch::default();
        let mut trimmed = Vec::new();
        for (shard, seq) in up_to {
            if seq > self.trimmed_to(shard) {
                self.table.delete_up_to(&mut batch, ChangeKey { shard, seq });
                self.meta.put(&mut batch, shard, ShardField::TrimmedTo, seq);
                trimmed.push((shard, seq));
            }
        }
        // First the position, then the rows: a reader in between sees that it lags, and does not take a gap for the
        // end.
        for (shard, seq) in trimmed {
            self.trimmed_to[shard].fetch_max(seq, Ordering::AcqRel);
        }
        self.db.write(batch, "trimming changes")
    }
}
