//! The bytes of a write batch of RocksDB: what it changes, row by row.
//!
//! First sequence (u64) and count (u32), little-endian, then the records: a tag, for all tables but `default` the number of the
//! table, then key and value, each led by its length.

use super::codec::{take_bytes, take_varint};
use super::table::Table;
use rocksdb::{ColumnFamily, DB, WriteBatch};
use std::ops::Range;

/// Bytes before the first record.
pub(super) const HEAD: usize = 12;

const DELETE: u8 = 0x0;
const PUT: u8 = 0x1;
const LOG_DATA: u8 = 0x3;
const DELETE_IN: u8 = 0x4;
const PUT_IN: u8 = 0x5;
const DELETE_RANGE_IN: u8 = 0xe;
const DELETE_RANGE: u8 = 0xf;

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'b> {
    Put,
    Delete {
        key: &'b [u8],
    },
    DeleteRange,
    /// Bytes that only the log has.
    Note,
}

/// A record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record<'b> {
    /// The number of its table; 0 is `default`.
    pub table: u64,
    pub change: Change<'b>,
    /// Where it stands in the batch.
    pub bytes: Range<usize>,
}

/// The count that a batch states of its rows.
pub(super) fn count(batch: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*batch.get(8..)?.first_chunk()?))
}

/// The records of a batch; `None` where it is not one that the store writes.
pub(super) fn records(batch: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut rest = batch.get(HEAD..)?;
    let mut records = Vec::new();
    let mut rows = 0;
    while let Some((&tag, after)) = rest.split_first() {
        let start = batch.len() - rest.len();
        rest = after;
        let table = if matches!(tag, DELETE_IN | PUT_IN | DELETE_RANGE_IN) { take_varint(&mut rest)? } else { 0 };
        let key = take_bytes(&mut rest)?;
        let change = match tag {
            LOG_DATA => Change::Note,
            DELETE | DELETE_IN => Change::Delete { key },
            PUT | PUT_IN => take_bytes(&mut rest).map(|_| Change::Put)?,
            DELETE_RANGE | DELETE_RANGE_IN => take_bytes(&mut rest).map(|_| Change::DeleteRange)?,
            _ => return None,
        };
        rows += u32::from(change != Change::Note);
        records.push(Record { table, change, bytes: start..batch.len() - rest.len() });
    }
    (count(batch) == Some(rows)).then_some(records)
}

/// The number that batches have for a table.
pub(super) fn number_of(rocks: &DB, table: Table) -> Option<u64> {
    let family: &ColumnFamily = rocks.cf_handle(table.name())?;
    let mut batch = WriteBatch::default();
    batch.put_cf(family, b"k", b"");
    records(batch.data())?.first().map(|record| record.table)
}
