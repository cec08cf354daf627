//! The table `audit`: who changed what, the newest of it. Its lines are in no shard, and name no user.

use crate::model::TsMs;
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use std::sync::{Arc, Mutex, PoisonError};

/// How many lines are kept.
pub const AUDIT_LINES: u64 = 10_000;

/// A line, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// One more than that of the line before.
    pub seq: u64,
    /// When it was written.
    pub at: TsMs,
    /// A JSON object.
    pub line: Vec<u8>,
}

/// The table.
pub struct Audit {
    db: Arc<Db>,
    /// The sequence of the next line; `None` before the first is written.
    next: Mutex<Option<u64>>,
}

impl Audit {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db, next: Mutex::new(None) }
    }

    /// Adds a line, and removes the one that is too many. Durable where it returns. Blocks on disk.
    pub fn append(&self, at: TsMs, line: &[u8]) -> Result<(), StoreError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = match *next {
            Some(seq) => seq,
            None => self.page(None, 1)?.first().map_or(1, |last| last.seq + 1),
        };
        let table = self.db.cf(Table::Audit);
        let mut batch = WriteBatch::default();
        batch.put_cf(table, seq.to_be_bytes(), encode(at, line));
        if let Some(old) = seq.checked_sub(AUDIT_LINES) {
            batch.delete_cf(table, old.to_be_bytes());
        }
        self.db.write_durably(batch, "writing a line of the audit")?;
        *next = Some(seq + 1);
        Ok(())
    }

    /// The newest lines from before a sequence, `max` at most, newest first. Blocks on disk.
    pub fn page(&self, before: Option<u64>, max: usize) -> Result<Vec<AuditRow>, StoreError> {
        let last = before.map_or(Some(u64::MAX), |seq| seq.checked_sub(1));
        let Some(last) = last.map(u64::to_be_bytes) else { return Ok(Vec::new()) };
        let mode = IteratorMode::From(&last, Direction::Reverse);
        let rows = self.db.rocks.iterator_cf(self.db.cf(Table::Audit), mode);
        let mut page = Vec::new();
        for row in rows.take(max) {
            let (key, value) = row.map_err(StoreError::rocks("reading the audit"))?;
            let row = decode(&key, &value);
            page.push(row.ok_or(StoreError::Corrupt { table: "audit", what: "a line is too short" })?);
        }
        Ok(page)
    }
}

fn encode(at: TsMs, line: &[u8]) -> Vec<u8> {
    [&at.0.to_be_bytes(), line].concat()
}

fn decode(key: &[u8], value: &[u8]) -> Option<AuditRow> {
    let (at, line) = value.split_first_chunk::<8>()?;
    let seq = u64::from_be_bytes(key.try_into().ok()?);
    Some(AuditRow { seq, at: TsMs(u64::from_be_bytes(*at)), line: line.to_vec() })
}

/// Whether the bytes are a row of the table.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    decode(key, value).is_some_and(|row| serde_json::from_slice::<serde::de::IgnoredAny>(&row.line).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    #[test]
    fn the_bytes_of_a_line_never_change() {
        let value = [&[0, 0, 1, 0x93, 0x51, 0xec, 0x64, 0], &b"{\"call\":\"x\"}"[..]].concat();
        assert_eq!(encode(TsMs(0x193_51ec_6400), b"{\"call\":\"x\"}"), value);
        let row = decode(&[0, 0, 0, 0, 0, 0, 0, 5], &value).unwrap();
        assert_eq!((row.seq, row.at, row.line.as_slice()), (5, TsMs(0x193_51ec_6400), &b"{\"call\":\"x\"}"[..]));
        assert!(is_row(&5u64.to_be_bytes(), &value));
        assert!(!is_row(&[5], &value) && !is_row(&5u64.to_be_bytes(), &value[..7]));
        assert!(!is_row(&5u64.to_be_bytes(), &value[..12]));
    }

    #[test]
    fn the_newest_lines_are_kept_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let options = || StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() };
        let store = Store::open(&options()).unwrap();
        assert_eq!(store.audit().page(None, 10), Ok(Vec::new()));
        store.audit().append(TsMs(7), b"{\"n\":1}").unwrap();
        store.audit().append(TsMs(8), b"{\"n\":2}").unwrap();
        drop(store);
        let store = Store::open(&options()).unwrap();
        // As if the table were nearly full.
        *store.audit().next.lock().unwrap() = Some(AUDIT_LINES + 1);
        store.audit().append(TsMs(9), b"{\"n\":3}").unwrap();
        let seqs = |before: Option<u64>, max: usize| -> Vec<u64> {
            store.audit().page(before, max).unwrap().iter().map(|row| row.seq).collect()
        };
        assert_eq!(seqs(None, 10), [AUDIT_LINES + 1, 2], "the first has gone");
        assert_eq!((seqs(Some(AUDIT_LINES + 1), 10), seqs(None, 1)), (vec![2], vec![AUDIT_LINES + 1]));
        assert_eq!((seqs(Some(2), 10), seqs(Some(0), 10)), (vec![], vec![]));
    }
}
