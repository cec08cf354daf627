//! The table `over`: events of keys that were capped when they happened, the newest of them; and how many events were counted
//! in each hour, by writer.
//!
//! | key | value |
//! | --- | --- |
//! | 0, hour since 1970 (u32), writer (u8) | events that it counted (varint) |
//! | 1, sequence (u64) | an event, or several alike |
//!
//! An event is 1 (u8, version), when it was counted, how much sooner it happened, how many there were, what the rule counted, its
//! limit (varints), the cause (u8), and kind, rule, user and key (each its length and bytes). Numbers in keys are big-endian.

use crate::model::{Kind, OverCause, RuleId, TsMs};
use crate::store::codec::{put_bytes, put_varint, take_text, take_varint};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::{IteratorMode, ReadOptions, WriteBatch};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long they are kept.
pub const OVER_KEPT: Duration = Duration::from_secs(35 * 86_400);
/// How many are kept at most.
pub const OVER_ROWS: u64 = 1_000_000;

const HOURS: u8 = 0;
const EVENTS: u8 = 1;
const VERSION: u8 = 1;
/// Rows of one round of [`Over::trim`] that are looked at.
const TRIM_ROWS: usize = 10_000;

/// An event that is over, or several of one user, key, rule and cause that were counted at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverRow {
    /// Its number; 0 of one that is not written yet.
    pub seq: u64,
    /// When it was counted.
    pub at: TsMs,
    /// When it happened; of several, the last.
    pub ts: TsMs,
    /// How many there are.
    pub events: u64,
    /// The user.
    pub user: String,
    /// The key that was capped.
    pub key: String,
    /// The kind of the event.
    pub kind: Kind,
    /// The rule that had capped it.
    pub rule: RuleId,
    /// Why.
    pub cause: OverCause,
    /// What the rule counted before it.
    pub count: u64,
    /// The limit of the rule.
    pub limit: u64,
}

impl OverRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for number in [self.at.0, self.at.0.saturating_sub(self.ts.0), self.events, self.count, self.limit] {
            put_varint(out, number);
        }
        out.push(code(self.cause));
        for text in [self.kind.as_str(), self.rule.as_str(), &self.user, &self.key] {
            put_bytes(out, text.as_bytes());
        }
    }

    fn decode(seq: u64, bytes: &[u8]) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let at = TsMs(take_varint(&mut rest)?);
        let ts = TsMs(at.0.checked_sub(take_varint(&mut rest)?)?);
        let (events, count, limit) = (take_varint(&mut rest)?, take_varint(&mut rest)?, take_varint(&mut rest)?);
        let (&cause, mut rest) = rest.split_first()?;
        let cause = OverCause::ALL.into_iter().find(|known| code(*known) == cause)?;
        let (kind, rule) = (Kind::new(take_text(&mut rest)?).ok()?, RuleId::new(take_text(&mut rest)?).ok()?);
        let (user, key) = (take_text(&mut rest)?.to_owned(), take_text(&mut rest)?.to_owned());
        Some(Self { seq, at, ts, events, user, key, kind, rule, cause, count, limit })
    }
}

/// Part of the format: never changed.
fn code(cause: OverCause) -> u8 {
    match cause {
        OverCause::Unknown => 0,
        OverCause::InFlight => 1,
        OverCause::Mirror => 2,
        OverCause::Ignored => 3,
        OverCause::Lapsed => 4,
        OverCause::RuleChange => 5,
        OverCause::Backfill => 6,
    }
}

const CORRUPT: StoreError = StoreError::Corrupt { table: "over", what: "a row ends too soon" };

fn event_key(seq: u64) -> [u8; 9] {
    let mut key = [EVENTS; 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn hour_key(hour: u32, writer: u8) -> [u8; 6] {
    let mut key = [HOURS; 6];
    key[1..5].copy_from_slice(&hour.to_be_bytes());
    key[5] = writer;
    key
}

fn seq_of(key: &[u8]) -> Option<u64> {
    key.strip_prefix(&[EVENTS]).and_then(|seq| seq.try_into().ok()).map(u64::from_be_bytes)
}

/// Whether the bytes can be decoded as a row.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    match seq_of(key) {
        Some(seq) => OverRow::decode(seq, value).is_some(),
        None => key.len() == 6 && key[0] == HOURS && take_varint(&mut &*value).is_some(),
    }
}

/// The table.
pub struct Over {
    db: Arc<Db>,
    /// The sequence of the next row.
    next: OnceLock<AtomicU64>,
}

impl Over {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db, next: OnceLock::new() }
    }

    fn next(&self) -> &AtomicU64 {
        self.next.get_or_init(|| {
            let last = self.newest_first(None).next();
            // One that cannot be read costs its place at most: the row is written over.
            AtomicU64::new(last.and_then(Result::ok).map_or(1, |row| row.seq + 1))
        })
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, row: &OverRow, scratch: &mut Vec<u8>) {
        scratch.clear();
        row.encode(scratch);
        let seq = self.next().fetch_add(1, Ordering::Relaxed);
        batch.put_cf(self.db.cf(Table::Over), event_key(seq), scratch);
    }

    pub(in crate::store) fn put_counted(
        &self,
        batch: &mut WriteBatch,
        (hour, writer): (u32, u8),
        events: u64,
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        put_varint(scratch, events);
        batch.put_cf(self.db.cf(Table::Over), hour_key(hour, writer), scratch);
    }

    /// Rows before a sequence, or all, newest first. Each blocks on disk.
    pub fn newest_first(&self, before: Option<u64>) -> impl Iterator<Item = Result<OverRow, StoreError>> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(event_key(0).to_vec()..event_key(before.unwrap_or(u64::MAX)).to_vec());
        options.fill_cache(false);
        let rows = self.db.rocks.iterator_cf_opt(self.db.cf(Table::Over), options, IteratorMode::End);
        rows.map(|row| {
            let (key, value) = row.map_err(StoreError::rocks("reading what is over"))?;
            seq_of(&key).and_then(|seq| OverRow::decode(seq, &value)).ok_or(CORRUPT)
        })
    }

    /// Events counted in each hour from one on, by all writers. Blocks on disk.
    pub fn counted_since(&self, hour: u32) -> Result<u64, StoreError> {
        let mut events = 0u64;
        let range = hour_key(hour, 0).to_vec()..vec![EVENTS];
        for row in self.db.rows(Table::Over, range, "reading how many events were counted") {
            let (_, value) = row?;
            events += take_varint(&mut &*value).ok_or(CORRUPT)?;
        }
        Ok(events)
    }

    /// How many events a writer has counted in an hour so far. Blocks on disk.
    pub fn counted(&self, hour: u32, writer: u8) -> Result<u64, StoreError> {
        let value = self.db.rocks.get_cf(self.db.cf(Table::Over), hour_key(hour, writer));
        let value = value.map_err(StoreError::rocks("reading how many events were counted"))?;
        value.map_or(Ok(0), |value| take_varint(&mut &*value).ok_or(CORRUPT))
    }

    /// Removes rows that are too old or too many. Called from time to time. Blocks on disk.
    pub fn trim(&self, now: TsMs) -> Result<(), StoreError> {
        let oldest = now.saturating_sub(OVER_KEPT.as_millis() as u64);
        let next = self.next().load(Ordering::Relaxed);
        let mut keep_from = next.saturating_sub(OVER_ROWS);
        let range = event_key(0).to_vec()..event_key(u64::MAX).to_vec();
        let (mut first, mut rows) = (None, self.db.rows(Table::Over, range, "reading what is over"));
        for row in rows.by_ref().take(TRIM_ROWS) {
            let (key, value) = row?;
            let seq = seq_of(&key).ok_or(CORRUPT)?;
            first.get_or_insert(seq);
            if OverRow::decode(seq, &value).is_some_and(|row| row.at >= oldest) {
                break;
            }
            keep_from = keep_from.max(seq + 1);
        }
        drop(rows);
        let mut batch = WriteBatch::default();
        let table = self.db.cf(Table::Over);
        if first.is_some_and(|first| first < keep_from) {
            batch.delete_range_cf(table, event_key(0), event_key(keep_from));
        }
        let hour = hour_of(oldest);
        let old_hours = hour_key(0, 0).to_vec()..hour_key(hour, 0).to_vec();
        if self.db.rows(Table::Over, old_hours, "reading how many events were counted").next().is_some() {
            batch.delete_range_cf(table, hour_key(0, 0), hour_key(hour, 0));
        }
        if batch.is_empty() { Ok(()) } else { self.db.write(batch, "removing what was over") }
    }

    /// At most so many rows are there, of events that are over. Blocks on disk.
    pub(in crate::store) fn rows_max(&self) -> u64 {
        let range = event_key(0).to_vec()..event_key(u64::MAX).to_vec();
        let first = self.db.rows(Table::Over, range, "reading what is over").next().and_then(Result::ok);
        let first = first.and_then(|(key, _)| seq_of(&key));
        first.map_or(0, |first| self.next().load(Ordering::Relaxed).saturating_sub(first))
    }

    /// Adds the removal of a user's rows to a batch, after a sequence, a bounded number of rows at a time. Returns the
    /// sequence to go on after; `None` at the end. Blocks on disk.
    pub(in crate::store) fn erase(
        &self,
        batch: &mut WriteBatch,
        user: &str,
        after: u64,
        max: usize,
    ) -> Result<Option<u64>, StoreError> {
        let range = event_key(after + 1).to_vec()..event_key(u64::MAX).to_vec();
        for (number, row) in self.db.rows(Table::Over, range, "reading what is over").enumerate() {
            let (key, value) = row?;
            let seq = seq_of(&key).ok_or(CORRUPT)?;
            // Of one that cannot be read it is not known whose it is.
            if OverRow::decode(seq, &value).is_none_or(|row| row.user == user) {
                batch.delete_cf(self.db.cf(Table::Over), &key);
            }
            if number + 1 == max {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

/// The hour of an instant, since 1970.
pub fn hour_of(at: TsMs) -> u32 {
    u32::try_from(at.0 / 3_600_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    fn row(seq: u64, at: u64, user: &str) -> OverRow {
        OverRow {
            seq,
            at: TsMs(at),
            ts: TsMs(at - 300),
            events: 2,
            user: user.to_owned(),
            key: "da:1".to_owned(),
            kind: Kind::IMPRESSION,
            rule: RuleId::new("r").unwrap(),
            cause: OverCause::Ignored,
            count: 5,
            limit: 4,
        }
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap()
    }

    fn put(store: &Store, rows: &[OverRow]) {
        let mut commit = store.begin_commit();
        rows.iter().for_each(|row| commit.put_over(row));
        commit.write().unwrap();
    }

    fn seqs(store: &Store) -> Vec<u64> {
        store.over().newest_first(None).map(|row| row.unwrap().seq).collect()
    }

    #[test]
    fn the_bytes_of_a_row_never_change() {
        let mut bytes = Vec::new();
        row(7, 1_000, "u").encode(&mut bytes);
        assert_eq!(bytes, b"\x01\xe8\x07\xac\x02\x02\x05\x04\x03\x0aimpression\x01r\x01u\x04da:1");
        assert_eq!(OverRow::decode(7, &bytes), Some(row(7, 1_000, "u")));
        assert_eq!(event_key(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(hour_key(258, 3), [0, 0, 0, 1, 2, 3]);
        for len in 0..bytes.len() {
            assert_eq!(OverRow::decode(7, &bytes[..len]), None, "{len}");
        }
        assert_eq!(OverCause::ALL.map(code), [1, 2, 3, 4, 5, 6, 0]);
    }

    #[test]
    fn rows_are_numbered_on_after_a_restart_and_go_once_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let day = 86_400_000;
        let first = store(&dir);
        put(&first, &[row(0, 10 * day, "a"), row(0, 20 * day, "b")]);
        first.close().unwrap();
        drop(first);
        let again = store(&dir);
        put(&again, &[row(0, 30 * day, "a")]);
        assert_eq!(seqs(&again), [3, 2, 1]);
        assert_eq!(again.over().newest_first(Some(3)).count(), 2);
        again.over().trim(TsMs(45 * day)).unwrap();
        assert_eq!(seqs(&again), [3, 2, 1], "35 days are kept");
        again.over().trim(TsMs(45 * day + 1)).unwrap();
        assert_eq!(seqs(&again), [3, 2]);
        again.over().trim(TsMs(99 * day)).unwrap();
        assert_eq!(seqs(&again), [0u64; 0]);
    }

    #[test]
    fn counts_of_hours_are_added_up_over_writers() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let mut commit = store.begin_commit();
        for (hour, writer, events) in [(5, 0, 10), (6, 0, 20), (6, 255, 30)] {
            commit.put_counted(hour, writer, events);
        }
        commit.put_over(&row(0, 1_000, "u"));
        commit.write().unwrap();
        assert_eq!([0, 6, 7].map(|hour| store.over().counted_since(hour).unwrap()), [60, 50, 0]);
        assert_eq!((store.over().counted(6, 255).unwrap(), store.over().counted(6, 1).unwrap()), (30, 0));
    }

    #[test]
    fn the_rows_of_a_user_are_erased_some_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        put(&store, &[row(0, 1_000, "a"), row(0, 1_000, "b"), row(0, 1_000, "a"), row(0, 1_000, "a")]);
        assert_eq!(store.over().rows_max(), 4);
        let erase = |after: u64| {
            let mut commit = store.begin_commit();
            let next = store.over().erase(&mut commit.batch, "a", after, 3).unwrap();
            commit.write().unwrap();
            next
        };
        assert_eq!((erase(0), seqs(&store)), (Some(3), vec![4, 2]));
        assert_eq!((erase(3), seqs(&store)), (None, vec![2]));
    }
}
