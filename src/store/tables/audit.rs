//! The table `audit`: who changed what, the newest of it. Its lines are in no shard, and name no user.

use crate::model::TsMs;
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many lines are kept.
pub const AUDIT_LINES: u64 = 10_000;

/// The longest line, in bytes. What a longer one has before and after is left out.
const LINE_MAX: usize = 8 << 10;

/// Who makes a change, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedBy {
    /// The id of the key that the call was made with; `None` where nobody asks for keys, or it was no call.
    pub key: Option<String>,
    /// The method and path of the call, without the id of a user.
    pub call: String,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuditEntry {
    /// Who makes it.
    pub by: ChangedBy,
    /// What it was before; null where there was nothing.
    pub before: Value,
    /// What it is now; null where there is nothing.
    pub after: Value,
}

impl AuditEntry {
    /// A change that no call made.
    pub fn without_call(what: &str, before: Value, after: Value) -> Self {
        Self { by: ChangedBy { key: None, call: what.to_owned() }, before, after }
    }

    fn line(&self) -> Vec<u8> {
        let Self { by: ChangedBy { key, call }, before, after } = self;
        let line = json!({"key": key, "call": call, "before": before, "after": after}).to_string();
        if line.len() <= LINE_MAX {
            return line.into_bytes();
        }
        json!({"key": key, "call": call, "before": null, "after": null, "cut": true}).to_string().into_bytes()
    }

    /// Writes the line into the log.
    fn tell(&self, at: TsMs) {
        let Self { by: ChangedBy { key, call }, before, after } = self;
        tracing::info!(target: "audit", at = at.0, key = key.as_deref().unwrap_or_default(), call, %before, %after);
    }
}

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

/// The keys of whoever may call, as they were when they were last looked at.
const KEYS_FIELD: &[u8] = b"keys_noted";

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

    /// Writes the line of a change that is no write of the store. Durable where it returns. Blocks on disk.
    pub fn append(&self, at: TsMs, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let lines = self.add(&mut batch, at, std::slice::from_ref(entry))?;
        self.db.write_durably(batch, "writing a line of the audit")?;
        lines.written();
        Ok(())
    }

    /// The keys of whoever may call, as they were noted last; `None` if they never were. Blocks on disk.
    pub fn noted_keys(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.rocks.get(KEYS_FIELD).map_err(StoreError::rocks("reading a field of the store"))
    }

    /// Notes the keys of whoever may call, with the line of their change, if it was one. Durable where it returns. Blocks on
    /// disk.
    pub fn note_keys(&self, at: TsMs, keys: &[u8], entry: Option<&AuditEntry>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(KEYS_FIELD, keys);
        let lines = self.add(&mut batch, at, entry.map_or(&[], std::slice::from_ref))?;
        self.db.write_durably(batch, "noting the keys")?;
        lines.written();
        Ok(())
    }

    /// Adds the lines of a change to the batch that makes it, so that both are written or neither; removes as many that are
    /// too many. Nobody else adds lines before the answer is gone. Blocks on disk.
    pub(in crate::store) fn add<'t>(
        &'t self,
        batch: &mut WriteBatch,
        at: TsMs,
        entries: &'t [AuditEntry],
    ) -> Result<Unwritten<'t>, StoreError> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seq = match *next {
            Some(seq) => seq,
            None => self.page(None, 1)?.first().map_or(1, |last| last.seq + 1),
        };
        let table = self.db.cf(Table::Audit);
        for entry in entries {
            batch.put_cf(table, seq.to_be_bytes(), encode(at, &entry.line()));
            if let Some(old) = seq.checked_sub(AUDIT_LINES) {
                batch.delete_cf(table, old.to_be_bytes());
            }
            seq += 1;
        }
        Ok(Unwritten { next, after: seq, at, entries })
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

/// Lines in a batch that is not written yet.
#[must_use = "lines that were written must say so"]
pub(in crate::store) struct Unwritten<'t> {
    next: MutexGuard<'t, Option<u64>>,
    /// The sequence of the line after them.
    after: u64,
    at: TsMs,
    entries: &'t [AuditEntry],
}

impl Unwritten<'_> {
    /// The batch was written: the next line comes after these, and the log has them, too.
    pub(in crate::store) fn written(mut self) {
        *self.next = Some(self.after);
        self.entries.iter().for_each(|entry| entry.tell(self.at));
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
        let entry = |n: u64| AuditEntry::without_call("x", Value::Null, json!(n));
        assert_eq!(store.audit().page(None, 10), Ok(Vec::new()));
        store.audit().append(TsMs(7), &entry(1)).unwrap();
        store.audit().append(TsMs(8), &entry(2)).unwrap();
        drop(store);
        let store = Store::open(&options()).unwrap();
        // As if the table were nearly full.
        *store.audit().next.lock().unwrap() = Some(AUDIT_LINES + 1);
        store.audit().append(TsMs(9), &entry(3)).unwrap();
        let seqs = |before: Option<u64>, max: usize| -> Vec<u64> {
            store.audit().page(before, max).unwrap().iter().map(|row| row.seq).collect()
        };
        assert_eq!(seqs(None, 10), [AUDIT_LINES + 1, 2], "the first has gone");
        assert_eq!((seqs(Some(AUDIT_LINES + 1), 10), seqs(None, 1)), (vec![2], vec![AUDIT_LINES + 1]));
        assert_eq!((seqs(Some(2), 10), seqs(Some(0), 10)), (vec![], vec![]));
    }
}
