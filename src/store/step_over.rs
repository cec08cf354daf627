//! Steps over rows that cannot be read, and counts and logs them: they affect their own users only.

use super::db::{Db, KeyRange};
use super::error::StoreError;
use super::table::Table;
use rocksdb::DBRawIterator;

/// How many bytes after the common prefix of two keys the search for the end of the damage distinguishes.
const SEARCHED: usize = 6;

impl Db {
    /// The readable rows of a table in a range, in order. What cannot be read is counted and stepped over.
    pub(in crate::store) fn readable(&self, table: Table, range: KeyRange, fill_cache: bool) -> Readable<'_> {
        let rows = self.raw_rows(table, range.clone(), fill_cache);
        let last = range.start.clone();
        Readable { db: self, table, rows, last, range, fill_cache, begun: false, gaps: 0 }
    }
}

/// Rows of a table, except those that cannot be read.
pub(in crate::store) struct Readable<'s> {
    db: &'s Db,
    table: Table,
    rows: DBRawIterator<'s>,
    /// The key of the last row; at first, the beginning of the range.
    last: Vec<u8>,
    range: KeyRange,
    fill_cache: bool,
    begun: bool,
    /// How often something could not be read.
    pub gaps: u64,
}

impl Readable<'_> {
    /// The next row that can be read.
    pub(in crate::store) fn next(&mut self) -> Option<(&[u8], &[u8])> {
        if std::mem::replace(&mut self.begun, true) {
            self.rows.next()
        } else {
            self.rows.seek_to_first()
        }
        while !self.rows.valid() {
            let error = self.rows.status().err()?;
            self.db.count_unreadable(self.table, &StoreError::rocks("reading rows in their order")(error));
            self.gaps += 1;
            self.rows = seek_past(|| self.db.raw_rows(self.table, self.range.clone(), self.fill_cache), &self.last)?;
        }
        self.last.clear();
        self.last.extend_from_slice(self.rows.key()?);
        self.rows.item()
    }

    /// Counts the last row as one that cannot be decoded.
    pub(in crate::store) fn count_undecodable(&mut self, error: &StoreError) {
        self.db.count_unreadable(self.table, error);
        self.gaps += 1;
    }
}

/// Seeks a key; `None` if that fails.
fn seek<'d>(mut rows: DBRawIterator<'d>, key: &[u8]) -> Option<DBRawIterator<'d>> {
    rows.seek(key);
    (rows.valid() || rows.status().is_ok()).then_some(rows)
}

/// Up to eight bytes as a big-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// Finds the first readable row after a key behind which reading fails. Returns an iterator there, or at the end;
/// `None` if nothing can be read up to the end.
///
/// The end of the damage is not known. So keys ever further away are tried until a seek succeeds. Then a binary search
/// goes back from there. Each try needs a new iterator: one that failed may go on failing where a new one does not.
pub(in crate::store) fn seek_past<'d>(fresh: impl Fn() -> DBRawIterator<'d>, last: &[u8]) -> Option<DBRawIterator<'d>> {
    let mut low = last.to_vec();
    let mut found = None;
    'far: for len in (1..=last.len()).rev() {
        for step in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut key = last[..len].to_vec();
            key[len - 1] = key[len - 1].saturating_add(step);
            if key > low {
                if let Some(rows) = seek(fresh(), &key) {
                    found = Some((rows, key));
                    break 'far;
                }
                low = key;
            }
        }
    }
    let (mut rows, mut high) = found?;
    let shared = low.iter().zip(&high).take_while(|(a, b)| a == b).count();
    let width = shared + 1 + SEARCHED;
    low.resize(width, 0);
    high.resize(width, 0);
    let (mut from, mut to) = (number(&low[shared..]), number(&high[shared..]));
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        low[shared..].copy_from_slice(&middle.to_be_bytes()[8 - (width - shared)..]);
        match seek(fresh(), &low) {
            Some(nearer) => (rows, to) = (nearer, middle),
            None => from = middle,
        }
    }
    Some(rows)
}
