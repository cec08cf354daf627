//! The table `changes`: which caps changed, in order, for who must be told.
//!
//! Each shard has a sequence of its own, counted from 1. Who copies a state (the mirror) takes from a change only *what*
//! changed, and reads from `caps` to what, so that telling a thing twice, or late, is never wrong. Who tells a story takes
//! what it says.
//!
//! A row is when it was written (varint, ms), until when the key was capped then (varint, 0 where it no longer was), what
//! became of the cap (u8: 0 capped, 1 extended, 2 shortened, 3 ended), and the row key in `caps`.

use super::codec::{put_varint, take_varint};
use super::row::RowKey;
use super::{Store, StoreError, Table};
use crate::model::{CapChange, ShardId, TsMs};
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
    pub change: CapChange,
    /// Until when the key was capped then.
    pub until: Option<TsMs>,
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

pub(super) fn value(out: &mut Vec<u8>, at: TsMs, (change, until): (CapChange, Option<TsMs>), row_key: &[u8]) {
    put_varint(out, at.0);
    put_varint(out, until.map_or(0, |until| until.0));
    out.push(match change {
        CapChange::Capped => 0,
        CapChange::Extended => 1,
        CapChange::Shortened => 2,
        CapChange::Ended => 3,
    });
    out.extend_from_slice(row_key);
}

pub(super) fn parse(shard: ShardId, key: &[u8], value: &[u8]) -> Result<Change, StoreError> {
    let fields = |mut rest: &[u8]| {
        let (at, until) = (TsMs(take_varint(&mut rest)?), take_varint(&mut rest)?);
        let (&change, row_key) = rest.split_first()?;
        let change = match change {
            0 => CapChange::Capped,
            1 => CapChange::Extended,
            2 => CapChange::Shortened,
            3 => CapChange::Ended,
            _ => return None,
        };
        Some((at, (until > 0).then_some(TsMs(until)), change, row_key.to_vec()))
    };
    let corrupt = StoreError::Corrupt { table: "changes", what: "a change cannot be read" };
    let (at, until, change, row_key) = fields(value).ok_or(corrupt)?;
    Ok(Change { shard, seq: seq_of(key)?, at, change, until, row_key })
}

/// Whether the bytes are a change.
pub(super) fn is_row(key: &[u8], value: &[u8]) -> bool {
    key.first().is_some_and(|&shard| parse(ShardId(shard), key, value).is_ok())
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

    /// Says that there is a mirror, which knows nothing yet.
    pub fn expect_mirror(&self) {
        ShardId::all().for_each(|shard| self.set_told(shard, 0));
    }

    /// Says that a mirror has taken in every change of a shard up to here.
    pub fn set_told(&self, shard: ShardId, seq: u64) {
        self.told_seq[shard.index()].store(seq, Ordering::Relaxed);
    }

    /// Whether a mirror has taken in every change of a shard up to here; without a mirror there is nobody to tell.
    pub fn is_told(&self, shard: ShardId, seq: u64) -> bool {
        self.told_seq[shard.index()].load(Ordering::Relaxed) >= seq
    }

    /// Says that changes of a shard after this one are still wanted by somebody beside the mirror; `u64::MAX` is by nobody.
    pub fn set_wanted_after(&self, shard: ShardId, seq: u64) {
        self.wanted_after[shard.index()].store(seq, Ordering::Relaxed);
    }

    /// Up to where changes of a shard may go for all that anybody beside the mirror cares.
    pub fn wanted_after(&self, shard: ShardId) -> u64 {
        self.wanted_after[shard.index()].load(Ordering::Relaxed)
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
        let changes = rows.take(max).map(|row| {
            let (key, value) = row.map_err(StoreError::rocks("reading changes"))?;
            parse(shard, &key, &value)
        });
        changes.collect::<Result<_, StoreError>>().inspect_err(|error| {
            self.unreadable(Table::Changes, error);
            // They are no longer held: who was told less is told everything.
            let _ = self.trim_changes([(shard, durable)]);
        })
    }

    /// Has whoever follows the changes of a shard begin anew: something changed that no change says.
    pub fn forget_changes(&self, shard: ShardId) -> Result<(), StoreError> {
        let seq = self.next_seq(shard);
        self.trim_changes([(shard, seq)])?;
        self.publish([(shard, seq)]);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_change_never_change() {
        let shard = ShardId(0xf0);
        let mut out = Vec::new();
        value(&mut out, TsMs(300), (CapChange::Extended, Some(TsMs(301))), b"\xf0u1\0\x0177");
        assert_eq!(out, b"\xac\x02\xad\x02\x01\xf0u1\0\x0177");
        let read = parse(shard, &row(shard, 9), &out).unwrap();
        assert_eq!((read.seq, read.at, read.change, read.until), (9, TsMs(300), CapChange::Extended, Some(TsMs(301))));
        assert_eq!(read.user_and_key().unwrap().0, "u1");
        out.clear();
        value(&mut out, TsMs(1), (CapChange::Ended, None), b"x");
        assert_eq!(out, b"\x01\0\x03x");
        assert_eq!(parse(shard, &row(shard, 9), &out).unwrap().until, None);
        assert!(parse(shard, &row(shard, 9), b"\x01").is_err());
    }
}
