//! The table `due`: when a cap ends that somebody outside was told of.

use super::row::shard_rows;
use super::{Store, StoreError, Table};
use crate::model::{ShardId, TsMs};

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    pub due: TsMs,
    /// The row key in `caps` and `logs`.
    pub row_key: Vec<u8>,
}

/// 48 bits of milliseconds reach to the year 10889, past every log time and window.
const TIME_BYTES: usize = 6;

pub(super) fn write_row(out: &mut Vec<u8>, due: TsMs, row_key: &[u8]) {
    // A row key begins with its shard, which leads here too.
    out.extend_from_slice(&row_key[..1]);
    out.extend_from_slice(&due.0.to_be_bytes()[8 - TIME_BYTES..]);
    out.extend_from_slice(&row_key[1..]);
}

/// The first key that a timer at `due` can have.
pub(super) fn bound(shard: ShardId, due: TsMs) -> Vec<u8> {
    let mut bound = vec![shard.0];
    bound.extend_from_slice(&due.0.to_be_bytes()[8 - TIME_BYTES..]);
    bound
}

pub(super) fn parse(row: &[u8]) -> Option<DueRow> {
    let (head, rest) = row.split_at_checked(1 + TIME_BYTES)?;
    let mut due = [0; 8];
    due[8 - TIME_BYTES..].copy_from_slice(&head[1..]);
    let row_key = [&head[..1], rest].concat();
    Some(DueRow { due: TsMs(u64::from_be_bytes(due)), row_key })
}

/// Whether the bytes are a timer.
pub(super) fn is_row(row: &[u8]) -> bool {
    parse(row).is_some()
}

const TOO_SHORT: StoreError = StoreError::Corrupt { table: "due", what: "a row ends too soon" };

impl Store {
    /// Up to `max` timers of a shard, in order, from the instant `from` on and due at or before `until`. Blocks on
    /// disk. `from` spares the walk over the tombstones of what has fired.
    pub fn due(&self, shard: ShardId, from: TsMs, until: TsMs, max: usize) -> Result<Vec<DueRow>, StoreError> {
        let range = bound(shard, from)..bound(shard, until.saturating_add(1));
        let mut rows = self.readable(Table::Due, range, true);
        let mut due = Vec::new();
        while due.len() < max
            && let Some((key, _)) = rows.next()
        {
            match parse(key) {
                Some(row) => due.push(row),
                None => rows.spoilt(&TOO_SHORT),
            }
        }
        Ok(due)
    }

    /// The first timer of a shard. Blocks on disk.
    pub fn first_due(&self, shard: ShardId) -> Result<Option<TsMs>, StoreError> {
        let mut rows = self.readable(Table::Due, shard_rows(shard), true);
        while let Some((key, _)) = rows.next() {
            match parse(key) {
                Some(row) => return Ok(Some(row.due)),
                None => rows.spoilt(&TOO_SHORT),
            }
        }
        Ok(None)
    }
}
