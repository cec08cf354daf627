//! The table `journal`: by its position (u64, big-endian), the logs that a commit changed. A row is
//!
//! ```text
//! key      varint, ..   length and bytes of a row key
//! value    varint, ..   length and bytes of the log as in `logs`; none where it was removed
//! ```
//!
//! They are the logs, not the events: what becomes of events depends on the rules and the time, which may be others
//! after a crash.

use crate::store::codec::{put_bytes, take_bytes};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::{IteratorMode, WriteBatch};
use std::sync::Arc;

const CORRUPT: fn(&'static str) -> StoreError = |what| StoreError::Corrupt { table: "journal", what };

/// Appends one log, as it is after the commit.
pub(in crate::store) fn put_row(out: &mut Vec<u8>, row_key: &[u8], value: &[u8]) {
    put_bytes(out, row_key);
    put_bytes(out, value);
}

/// The row keys and values in a row of the journal.
pub(in crate::store) fn rows(mut journal: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), StoreError>> {
    std::iter::from_fn(move || {
        if journal.is_empty() {
            return None;
        }
        let row = take_row(&mut journal).ok_or_else(|| CORRUPT("it ends too soon"));
        if row.is_err() {
            journal = &[];
        }
        Some(row)
    })
}

fn take_row<'j>(journal: &mut &'j [u8]) -> Option<(&'j [u8], &'j [u8])> {
    let key = take_bytes(journal).filter(|key| !key.is_empty())?;
    Some((key, take_bytes(journal)?))
}

/// The table.
pub(in crate::store) struct Journal {
    db: Arc<Db>,
}

impl Journal {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Every row with its position, in order. Blocks on disk.
    pub(in crate::store) fn all(&self) -> impl Iterator<Item = Result<(u64, Box<[u8]>), StoreError>> {
        let rows = self.db.rocks.iterator_cf(self.db.cf(Table::Journal), IteratorMode::Start);
        rows.map(|row| {
            let (position, journal) = row.map_err(StoreError::rocks("reading the journal"))?;
            let position = position.as_ref().try_into().map(u64::from_be_bytes);
            Ok((position.map_err(|_| CORRUPT("a position in it is not 8 bytes"))?, journal))
        })
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, position: u64, rows: &[u8]) {
        batch.put_cf(self.db.cf(Table::Journal), position.to_be_bytes(), rows);
    }

    /// Adds the removal of every row up to a position to a write.
    pub(in crate::store) fn trim(&self, batch: &mut WriteBatch, up_to: u64) {
        batch.delete_range_cf(self.db.cf(Table::Journal), 0u64.to_be_bytes(), (up_to + 1).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_row_never_change() {
        let mut journal = Vec::new();
        put_row(&mut journal, b"\xf0u1\0\x0177", b"\x00\x80");
        put_row(&mut journal, b"\xf0u1\0c:1", b"");
        assert_eq!(journal, b"\x07\xf0u1\0\x0177\x02\x00\x80\x07\xf0u1\0c:1\x00");
        let rows: Result<Vec<_>, _> = rows(&journal).collect();
        assert_eq!(rows.unwrap(), [(&b"\xf0u1\0\x0177"[..], &b"\x00\x80"[..]), (b"\xf0u1\0c:1", b"")]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let mut journal = Vec::new();
        put_row(&mut journal, b"\xf0u1\0\x0177", b"\x00\x80");
        for end in 1..journal.len() {
            assert_eq!(rows(&journal[..end]).last(), Some(Err(CORRUPT("it ends too soon"))));
        }
        assert!(rows(&[0, 0]).any(|row| row.is_err()));
    }
}
