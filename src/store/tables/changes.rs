//! The table `changes`: which caps changed, in order, for the consumers of the change log.
//!
//! Each shard has its own sequence, counted from 1. A consumer that keeps a copy (the mirror) takes from a change only
//! *which* key changed, and reads the current state from `caps`. So applying a change twice or late is never wrong. A
//! consumer that writes a history uses what the change says.
//!
//! A row has the time of the write (varint, ms), the end of the cap at that time (varint; 0 if it ended), the kind of
//! change (u8: 0 capped, 1 extended, 2 shortened, 3 ended), and the row key in `caps`.

use crate::model::{CapChange, ShardId, TsMs};
use crate::store::codec::{put_varint, take_varint};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::row::{RowKey, ShardPrefix};
use crate::store::table::Table;
use rocksdb::{IteratorMode, ReadOptions, WriteBatch};
use std::sync::Arc;

/// One change of a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The shard.
    pub shard: ShardId,
    /// Its number in the shard; numbers rise, with gaps where changes may have been lost.
    pub seq: u64,
    /// When it was written.
    pub at: TsMs,
    /// What became of the cap.
    pub change: CapChange,
    /// When the cap ended at that time; `None` if the key was not capped any more.
    pub until: Option<TsMs>,
    /// The row key in `caps`.
    pub row_key: Vec<u8>,
}

impl Change {
    /// The user and the key whose cap changed.
    pub fn user_and_key(&self) -> Option<(&str, std::borrow::Cow<'_, str>)> {
        RowKey::parse(&self.row_key)
    }
}

/// The key of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct ChangeKey {
    pub shard: ShardId,
    pub seq: u64,
}

impl ChangeKey {
    pub(in crate::store) fn bytes(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        bytes[0] = self.shard.0;
        bytes[1..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }
}

/// Appends the value of a change.
pub(in crate::store) fn encode_change(
    out: &mut Vec<u8>,
    at: TsMs,
    (change, until): (CapChange, Option<TsMs>),
    row_key: &[u8],
) {
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

pub(in crate::store) fn parse(shard: ShardId, key: &[u8], value: &[u8]) -> Result<Change, StoreError> {
    let seq = seq_of(key)?;
    decode(shard, seq, value).ok_or(StoreError::Corrupt { table: "changes", what: "a change cannot be read" })
}

fn decode(shard: ShardId, seq: u64, mut rest: &[u8]) -> Option<Change> {
    let (at, until) = (TsMs(take_varint(&mut rest)?), take_varint(&mut rest)?);
    let (&change, row_key) = rest.split_first()?;
    let change = match change {
        0 => CapChange::Capped,
        1 => CapChange::Extended,
        2 => CapChange::Shortened,
        3 => CapChange::Ended,
        _ => return None,
    };
    Some(Change { shard, seq, at, change, until: (until > 0).then_some(TsMs(until)), row_key: row_key.to_vec() })
}

/// Whether the bytes can be decoded as a change.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    key.first().is_some_and(|&shard| parse(ShardId(shard), key, value).is_ok())
}

pub(in crate::store) fn seq_of(row: &[u8]) -> Result<u64, StoreError> {
    let seq = row.get(1..).and_then(|seq| seq.try_into().ok());
    seq.map(u64::from_be_bytes).ok_or(StoreError::Corrupt { table: "changes", what: "a sequence is not 8 bytes" })
}

/// The table.
pub(in crate::store) struct Changes {
    db: Arc<Db>,
}

impl Changes {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Up to `max` changes of a shard between two sequences, in order. Blocks on disk.
    pub(in crate::store) fn between(
        &self,
        shard: ShardId,
        after: u64,
        up_to: u64,
        max: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let start = ChangeKey { shard, seq: after + 1 }.bytes().to_vec();
        let end = ChangeKey { shard, seq: up_to + 1 }.bytes().to_vec();
        let mut changes = Vec::new();
        for row in self.db.rows(Table::Changes, start..end, "reading changes").take(max) {
            let (key, value) = row?;
            changes.push(parse(shard, &key, &value)?);
        }
        Ok(changes)
    }

    /// The last change of a shard in the table. Blocks on disk.
    pub(in crate::store) fn last(&self, shard: ShardId) -> Result<Option<u64>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(ShardPrefix(shard).rows());
        let mut rows = self.db.rocks.iterator_cf_opt(self.db.cf(Table::Changes), options, IteratorMode::End);
        let Some(row) = rows.next() else { return Ok(None) };
        let (key, _) = row.map_err(StoreError::rocks("finding the last change"))?;
        seq_of(&key).map(Some)
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, key: ChangeKey, value: &[u8]) {
        batch.put_cf(self.db.cf(Table::Changes), key.bytes(), value);
    }

    pub(in crate::store) fn delete_up_to(&self, batch: &mut WriteBatch, key: ChangeKey) {
        let (first, end) = (ChangeKey { seq: 0, ..key }, ChangeKey { seq: key.seq + 1, ..key });
        batch.delete_range_cf(self.db.cf(Table::Changes), first.bytes(), end.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_change_never_change() {
        let shard = ShardId(0xf0);
        let mut out = Vec::new();
        encode_change(&mut out, TsMs(300), (CapChange::Extended, Some(TsMs(301))), b"\xf0u1\0\x0177");
        assert_eq!(out, b"\xac\x02\xad\x02\x01\xf0u1\0\x0177");
        let read = parse(shard, &ChangeKey { shard, seq: 9 }.bytes(), &out).unwrap();
        assert_eq!((read.seq, read.at, read.change, read.until), (9, TsMs(300), CapChange::Extended, Some(TsMs(301))));
        assert_eq!(read.user_and_key().unwrap().0, "u1");
        out.clear();
        encode_change(&mut out, TsMs(1), (CapChange::Ended, None), b"x");
        assert_eq!(out, b"\x01\0\x03x");
        assert_eq!(parse(shard, &ChangeKey { shard, seq: 9 }.bytes(), &out).unwrap().until, None);
        assert!(parse(shard, &ChangeKey { shard, seq: 9 }.bytes(), b"\x01").is_err());
    }
}
