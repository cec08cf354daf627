//! The table `due`: timers for the ends of caps.

use crate::model::{ShardId, TsMs};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::row::ShardPrefix;
use crate::store::table::Table;
use rocksdb::WriteBatch;
use std::sync::Arc;

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// When it fires.
    pub due: TsMs,
    /// The row key in `caps` and `logs`.
    pub row_key: Vec<u8>,
}

/// 48 bits of milliseconds reach to the year 10889, past every log time and window.
const TIME_BYTES: usize = 6;

/// Appends the key of a timer: shard, instant, and the rest of the row key.
pub(in crate::store) fn write_key(out: &mut Vec<u8>, due: TsMs, row_key: &[u8]) {
    // A row key begins with its shard, which leads here too.
    out.extend_from_slice(&row_key[..1]);
    out.extend_from_slice(&due.0.to_be_bytes()[8 - TIME_BYTES..]);
    out.extend_from_slice(&row_key[1..]);
}

/// The prefix of the keys of all timers of a shard at one instant.
pub(in crate::store) struct InstantPrefix(pub ShardId, pub TsMs);

impl InstantPrefix {
    /// The first possible key of such a timer.
    pub(in crate::store) fn first_key(&self) -> Vec<u8> {
        let mut key = vec![self.0.0];
        key.extend_from_slice(&self.1.0.to_be_bytes()[8 - TIME_BYTES..]);
        key
    }
}

pub(in crate::store) fn parse(row: &[u8]) -> Option<DueRow> {
    let (head, rest) = row.split_at_checked(1 + TIME_BYTES)?;
    let mut due = [0; 8];
    due[8 - TIME_BYTES..].copy_from_slice(&head[1..]);
    let row_key = [&head[..1], rest].concat();
    Some(DueRow { due: TsMs(u64::from_be_bytes(due)), row_key })
}

/// Whether the bytes can be decoded as a timer.
pub(in crate::store) fn is_row(row: &[u8]) -> bool {
    parse(row).is_some()
}

const TOO_SHORT: StoreError = StoreError::Corrupt { table: "due", what: "a row ends too soon" };

/// From this many timers of one shard on, they are removed as a range. Fewer are removed one by one, since every later
/// read of the table checks each range tombstone until compaction.
const RANGE_FROM: usize = 64;

/// The table.
pub struct Due {
    db: Arc<Db>,
}

impl Due {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Up to `max` timers of a shard, in order, from `from` on and due at or before `until`. `from` spares a scan over
    /// the tombstones of fired timers. Blocks on disk.
    pub fn between(&self, shard: ShardId, from: TsMs, until: TsMs, max: usize) -> Result<Vec<DueRow>, StoreError> {
        let end = InstantPrefix(shard, until.saturating_add(1)).first_key();
        let range = InstantPrefix(shard, from).first_key()..end;
        let mut rows = self.db.readable(Table::Due, range, true);
        let mut due = Vec::new();
        while due.len() < max
            && let Some((key, _)) = rows.next()
        {
            match parse(key) {
                Some(row) => due.push(row),
                None => rows.count_undecodable(&TOO_SHORT),
            }
        }
        Ok(due)
    }

    /// The first timer of a shard. Blocks on disk.
    pub fn first(&self, shard: ShardId) -> Result<Option<TsMs>, StoreError> {
        let mut rows = self.db.readable(Table::Due, ShardPrefix(shard).rows(), true);
        while let Some((key, _)) = rows.next() {
            match parse(key) {
                Some(row) => return Ok(Some(row.due)),
                None => rows.count_undecodable(&TOO_SHORT),
            }
        }
        Ok(None)
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, due: TsMs, row_key: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        write_key(scratch, due, row_key);
        batch.put_cf(self.db.cf(Table::Due), scratch, []);
    }

    pub(in crate::store) fn delete(&self, batch: &mut WriteBatch, due: TsMs, row_key: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        write_key(scratch, due, row_key);
        batch.delete_cf(self.db.cf(Table::Due), scratch);
    }

    /// Removes timers of one shard that fired. They must be all timers from the first to the last of them.
    pub(in crate::store) fn delete_fired(&self, batch: &mut WriteBatch, fired: &[DueRow], scratch: &mut Vec<u8>) {
        let (Some(first), Some(last)) = (fired.first(), fired.last()) else { return };
        if fired.len() < RANGE_FROM {
            for row in fired {
                self.delete(batch, row.due, &row.row_key, scratch);
            }
            return;
        }
        scratch.clear();
        write_key(scratch, last.due, &last.row_key);
        // The end of a range is exclusive.
        scratch.push(0);
        let mut start = Vec::with_capacity(first.row_key.len() + 8);
        write_key(&mut start, first.due, &first.row_key);
        batch.delete_range_cf(self.db.cf(Table::Due), &start, scratch);
    }
}
