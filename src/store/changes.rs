//! The table `changes`: which caps changed, in order, for who must be told.
//!
//! Each shard has a sequence of its own, counted from 1. A change says only *what* changed; what it changed to is read
//! from `caps` when it is told, so that telling a thing twice, or late, is never wrong.

use super::codec::{put_varint, take_varint};
use super::row::RowKey;
use super::{Store, StoreError, Table};
use crate::model::{ShardId, TsMs};
use rocksdb::{IteratorMode, ReadOptions, WriteBatch};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// One change of a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub shard: ShardId,
    pub seq: u64,
    /// When it was written.
    pub at: TsMs,
    /// The row key in `caps`.
    pub row_key: Vec<u8>,
}

impl Change {
    /// Whose cap changed, and of which key.
    pub fn user_and_key(&self) -> Option<(&str, std::borrow::Cow<'_, str>)> {
        RowKey::parse(&self.row_key)
    }
}

pub(super) fn row(shard: ShardId, seq: u64) -> [u8; 9] {
    let mut row = [0; 9];
    row[0] = shard.0;
    row[1..].copy_from_slice(&seq.to_be_bytes());
    row
}

pub(super) fn value(out: &mut Vec<u8>, at: TsMs, row_key: &[u8]) {
    put_varint(out, at.0);
    out.extend_from_slice(row_key);
}

pub(super) fn seq_of(row: &[u8]) -> Result<u64, StoreError> {
    let seq = row.get(1..).and_then(|seq| seq.try_into().ok());
    seq.map(u64::from_be_bytes).ok_or(StoreError::Corrupt { table: "changes", what: "a sequence is not 8 bytes" })
}

impl Store {
    /// Told whenever [`Store::durable_seq`] of any shard rises.
    pub fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    /// The last change of a shard that is durable; 0 before the first.
    pub fn durable_seq(&self, shard: ShardId) -> u64 {
        self.durable_seq[shard.index()].load(Ordering::Acquire)
    }

    /// Says that a mirror has taken in every change of a shard up to here.
    pub fn set_told(&self, shard: ShardId, seq: u64) {
        self.told_seq[shard.index()].store(seq, Ordering::Relaxed);
    }

    /// Whether a mirror has taken in every change of a shard up to here; without a mirror there is nobody to tell.
    pub fn is_told(&self, shard: ShardId, seq: u64) -> bool {
        !self.keep_changes || self.told_seq[shard.index()].load(Ordering::Relaxed) >= seq
    }

    /// The changes of a shard up to here are no longer held: who was told less must be told everything.
    pub fn trimmed_to(&self, shard: ShardId) -> u64 {
        self.trimmed_to[shard.index()].load(Ordering::Acquire)
    }

    /// Makes changes known to who tells them, once they are durable.
    pub fn publish(&self, written: impl IntoIterator<Item = (ShardId, u64)>) {
        let mut any = false;
        for (shard, seq) in written {
            any |= self.durable_seq[shard.index()].fetch_max(seq, Ordering::AcqRel) < seq;
        }
        if any {
            self.changed.notify_one();
        }
    }

    /// Up to `max` durable changes of a shard after a sequence, in order. Blocks on disk.
    pub fn changes_after(&self, shard: ShardId, after: u64, max: usize) -> Result<Vec<Change>, StoreError> {
        let durable = self.durable_seq(shard);
        let mut options = ReadOptions::default();
        options.set_iterate_range(row(shard, after + 1).to_vec()..row(shard, durable + 1).to_vec());
        let rows = self.db.iterator_cf_opt(self.cf(Table::Changes), options, IteratorMode::Start);
        rows.take(max)
            .map(|row| {
                let (key, value) = row.map_err(StoreError::rocks("reading changes"))?;
                let mut rest = &value[..];
                let at = take_varint(&mut rest);
                let at = at.ok_or(StoreError::Corrupt { table: "changes", what: "a change ends too soon" })?;
                Ok(Change { shard, seq: seq_of(&key)?, at: TsMs(at), row_key: rest.to_vec() })
            })
            .collect()
    }

    /// Drops the changes up to a sequence, in several shards. Blocks on disk.
    pub fn trim_changes(&self, up_to: impl IntoIterator<Item = (ShardId, u64)>) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let mut batch = WriteBatch::default();
        let mut trimmed = Vec::new();
        for (shard, seq) in up_to {
            if seq > self.trimmed_to(shard) {
                batch.delete_range_cf(self.cf(Table::Changes), row(shard, 0), row(shard, seq + 1));
                self.put_trimmed_to(&mut batch, shard, seq);
                trimmed.push((shard, seq));
            }
        }
        // First nobody may rely on them, then they go.
        for (shard, seq) in trimmed {
            self.trimmed_to[shard.index()].fetch_max(seq, Ordering::AcqRel);
        }
        self.db.write(batch).map_err(StoreError::rocks("trimming changes")).inspect_err(|_| self.poison())
    }
}
