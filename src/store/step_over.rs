//! Rows that cannot be read: counted, told, and stepped over, for they cost their own users only.

use super::{Store, StoreError, Table};
use rocksdb::{DBRawIterator, ReadOptions};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Bytes past the place where two keys differ that are told apart in the search for the end of damage.
const SEARCHED: usize = 6;

impl Store {
    /// Notes that something of a table could not be read.
    pub(super) fn unreadable(&self, table: Table, error: &StoreError) {
        let before = self.unreadable_rows.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("freqcap_unreadable_rows_total", "table" => table.name()).increment(1);
        // The first, and then ever more seldom: they may be many, and come again with every read.
        if (before + 1).is_power_of_two() {
            tracing::error!(
                table = table.name(), %error, so_far = before + 1,
                "rows cannot be read: their users are refused, all others are served; `freqcap verify` finds them all, \
                 `freqcap repair` gives them up"
            );
        }
    }

    /// How often something could not be read since the start.
    pub fn unreadable_rows(&self) -> u64 {
        self.unreadable_rows.load(Ordering::Relaxed)
    }

    /// The rows of a table in a range, in their order; what cannot be read is noted and stepped over.
    pub(super) fn readable(&self, table: Table, range: Range<Vec<u8>>, fill_cache: bool) -> Readable<'_> {
        let rows = self.rows_in(table, range.clone(), fill_cache);
        let last = range.start.clone();
        Readable { store: self, table, rows, last, range, fill_cache, begun: false, gaps: 0 }
    }

    /// An iterator over a range of a table.
    pub(super) fn rows_in(&self, table: Table, range: Range<Vec<u8>>, fill_cache: bool) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        options.fill_cache(fill_cache);
        self.db.raw_iterator_cf_opt(self.cf(table), options)
    }
}

/// Rows of a table, but for those that cannot be read.
pub(super) struct Readable<'s> {
    store: &'s Store,
    table: Table,
    rows: DBRawIterator<'s>,
    /// The key of the row given last; before the first, where they begin.
    last: Vec<u8>,
    range: Range<Vec<u8>>,
    fill_cache: bool,
    begun: bool,
    /// How often something could not be read.
    pub gaps: u64,
}

impl Readable<'_> {
    /// The next row that can be read.
    pub(super) fn next(&mut self) -> Option<(&[u8], &[u8])> {
        if std::mem::replace(&mut self.begun, true) {
            self.rows.next()
        } else {
            self.rows.seek_to_first()
        }
        while !self.rows.valid() {
            let error = self.rows.status().err()?;
            self.store.unreadable(self.table, &StoreError::rocks("reading rows in their order")(error));
            self.gaps += 1;
            let fresh = || self.store.rows_in(self.table, self.range.clone(), self.fill_cache);
            self.rows = seek_past(fresh, &self.last)?;
        }
        self.last.clear();
        self.last.extend_from_slice(self.rows.key()?);
        self.rows.item()
    }

    /// Notes that the row given last cannot be decoded.
    pub(super) fn spoilt(&mut self, error: &StoreError) {
        self.store.unreadable(self.table, error);
        self.gaps += 1;
    }
}

/// Finds the first row that can be read after a key behind which none can; an iterator that stands there, or at the end.
/// `None` where nothing can be read up to the end.
///
/// Where the damage ends is not known. Keys ever further from the last one are tried until one can be sought; then the
/// search goes back from there, halving the distance. Each try has an iterator of its own: one that failed may go on
/// failing where a new one does not.
pub(super) fn seek_past<'d>(fresh: impl Fn() -> DBRawIterator<'d>, last: &[u8]) -> Option<DBRawIterator<'d>> {
    let sought = |key: &[u8]| {
        let mut rows = fresh();
        rows.seek(key);
        (rows.valid() || rows.status().is_ok()).then_some(rows)
    };
    let mut low = last.to_vec();
    let mut found = None;
    'far: for len in (1..=last.len()).rev() {
        for step in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut key = last[..len].to_vec();
            key[len - 1] = key[len - 1].saturating_add(step);
            if key > low {
                if let Some(rows) = sought(&key) {
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
    let number = |key: &[u8]| key[shared..].iter().fold(0u64, |number, &byte| (number << 8) | u64::from(byte));
    let (mut from, mut to) = (number(&low), number(&high));
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        low[shared..].copy_from_slice(&middle.to_be_bytes()[8 - (width - shared)..]);
        match sought(&low) {
            Some(nearer) => (rows, to) = (nearer, middle),
            None => from = middle,
        }
    }
    Some(rows)
}
