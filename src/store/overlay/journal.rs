//! The table `journal`: by its place (u64, big-endian), what a turn made of the logs that it changed. A row is
//!
//! ```text
//! key      varint, ..   length and bytes of a row key
//! value    varint, ..   length and bytes of the log as in `logs`; none where it was removed
//! ```
//!
//! for each of them. They are the logs themselves, not the events: what is made of events depends on the rules and on the
//! time, and after a crash these may be others.

use super::super::codec::{put_bytes, take_bytes};
use super::super::{Store, StoreError, Table};
use rocksdb::IteratorMode;
use std::sync::atomic::Ordering;

const CORRUPT: fn(&'static str) -> StoreError = |what| StoreError::Corrupt { table: "journal", what };

/// Appends what became of one log.
pub(in super::super) fn put_row(out: &mut Vec<u8>, row_key: &[u8], value: &[u8]) {
    put_bytes(out, row_key);
    put_bytes(out, value);
}

/// The row keys and values in a row of the journal.
pub(in super::super) fn rows(mut journal: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), StoreError>> {
    std::iter::from_fn(move || {
        if journal.is_empty() {
            return None;
        }
        let mut row = || {
            let key = take_bytes(&mut journal).filter(|key| !key.is_empty())?;
            Some((key, take_bytes(&mut journal)?))
        };
        let row = row().ok_or_else(|| CORRUPT("it ends too soon"));
        if row.is_err() {
            journal = &[];
        }
        Some(row)
    })
}

impl Store {
    /// Puts what the journal has into the overlay again, when the store is opened.
    pub(in super::super) fn recover_journal(&self) -> Result<(), StoreError> {
        let mut recovered = 0u64;
        for row in self.db.iterator_cf(self.cf(Table::Journal), IteratorMode::Start) {
            let (position, journal) = row.map_err(StoreError::rocks("reading the journal"))?;
            let position = position.as_ref().try_into().map(u64::from_be_bytes);
            let position = position.map_err(|_| CORRUPT("a place in it is not 8 bytes"))?;
            self.overlay.position.store(position, Ordering::Relaxed);
            self.overlay.take_in(&journal)?;
            recovered += 1;
            // As much as in the run before, and no more: what is written to a file meanwhile is gone from the journal.
            self.make_room()?;
        }
        if recovered > 0 {
            let bytes = self.overlay.figures().active_bytes;
            tracing::info!(turns = recovered, bytes, "the end was not clean: logs were recovered from the journal");
        }
        Ok(())
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
