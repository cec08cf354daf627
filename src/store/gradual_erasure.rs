//! The erasure of a user in steps, each with a bounded number of rows: whoever has a few rows is erased in the first one.
//!
//! 1. The logs and the calls are looked through. No event is later than the latest of them and of the turns meanwhile.
//! 2. One commit leaves the tombstone and the row that hides what is left (`erasing.rs`), and removes the calls.
//! 3. The caps go, so that outside readers are notified first; then the logs, and what was over. A row that was written since stays.
//!
//! After a crash 3 is begun anew: it skips what is gone already.

use super::codec::{decode_cap, decode_log};
use super::commit::Commit;
use super::db::KeyRange;
use super::erasing::{Erasure, Unfinished, is_from_before, latest};
use super::error::StoreError;
use super::row::UserPrefix;
use super::store::Store;
use super::table::Table;
use super::tables::audit::{AuditEntry, ChangedBy};
use crate::model::{CapRow, Log, ShardId, TsMs};

/// Maximum rows of a step, and bytes of logs at which one ends.
const STEP_ROWS: usize = 1_024;
const STEP_BYTES: usize = 4 << 20;
/// Rows of what was over, of whomever, that a step looks at.
const STEP_OVER: usize = 10_000;

/// An erasure under way. Only the writer of the user's shard takes its steps.
pub struct GradualErasure {
    user: Box<str>,
    by: ChangedBy,
    prefix: UserPrefix,
    stage: Stage,
    /// What of the table of this stage is left.
    left: KeyRange,
    /// The latest time of what was looked at.
    latest: TsMs,
    erasure: Erasure,
    /// Rows of what was over up to this sequence were looked at.
    over_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    LookAtLogs,
    LookAtCalls,
    Caps,
    Logs,
    Over,
    Done,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct ErasureStep {
    /// Changes to be published once they are durable.
    pub changes: Vec<(ShardId, u64)>,
    /// Caps that it removed.
    pub caps: u64,
}

impl GradualErasure {
    /// An erasure that has not begun.
    pub fn new(user: &str, by: ChangedBy) -> Self {
        Self::at(Stage::LookAtLogs, user, Erasure::default(), by)
    }

    /// Goes on with one that an earlier run began.
    pub fn resume(unfinished: Unfinished) -> Self {
        let Unfinished { user, so_far, by } = unfinished;
        Self::at(Stage::Caps, &user, so_far, by)
    }

    fn at(stage: Stage, user: &str, erasure: Erasure, by: ChangedBy) -> Self {
        let prefix = UserPrefix::new(user);
        let left = prefix.rows();
        Self { user: user.into(), by, prefix, stage, left, latest: TsMs(0), erasure, over_after: 0 }
    }

    /// Who is erased.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What was erased so far.
    pub fn erasure(&self) -> &Erasure {
        &self.erasure
    }

    /// Whether the tombstone is written: from then on it must be finished.
    pub fn is_begun(&self) -> bool {
        matches!(self.stage, Stage::Caps | Stage::Logs | Stage::Over | Stage::Done)
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Counts what a turn replaced or removed of what was left, in the write of that turn.
    pub fn add(&mut self, store: &Store, commit: &mut Commit<'_>, replaced: &Erasure) {
        self.erasure.add(replaced);
        store.erasing.put(&mut commit.batch, &self.user, &self.erasure, &self.by);
    }

    /// Takes the next step. `now` is the time of this turn, or the latest of the turns since the erasure was asked for.
    /// Blocks on disk.
    pub fn step(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        match self.stage {
            Stage::LookAtLogs => {
                if self.left == self.prefix.rows() && self.has_few_rows(store)? {
                    return self.at_once(store, now);
                }
                self.look_at_logs(store)?;
                Ok(ErasureStep::default())
            }
            Stage::LookAtCalls => {
                if self.look_at_calls(store) {
                    self.begin(store, now)
                } else {
                    Ok(ErasureStep::default())
                }
            }
            Stage::Caps => self.remove_caps(store, now),
            Stage::Logs => self.remove_logs(store, now),
            Stage::Over => self.remove_over(store, now),
            Stage::Done => Ok(ErasureStep::default()),
        }
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.left) = (stage, self.prefix.rows());
    }

    fn shard(&self) -> ShardId {
        self.prefix.shard()
    }

    /// Whether one commit can remove everything.
    fn has_few_rows(&self, store: &Store) -> Result<bool, StoreError> {
        let (mut rows, mut count, mut bytes) = (store.logs.readable_from(&self.prefix, self.left.clone()), 0, 0);
        while let Some((key, value)) = rows.next()? {
            (count, bytes) = (count + 1, bytes + key.len() + value.len());
            if count > STEP_ROWS || bytes > STEP_BYTES {
                return Ok(false);
            }
        }
        if store.tables.over.rows_max() > STEP_OVER as u64 {
            return Ok(false);
        }
        for table in [Table::Caps, Table::Reservations] {
            let (mut rows, mut count) = (store.db.readable(table, self.left.clone(), false), 0);
            while rows.next().is_some() {
                count += 1;
                if count > STEP_ROWS {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn at_once(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        let mut commit = store.begin_commit();
        let erasure = commit.erase(&self.user, now)?;
        self.erasure = erasure;
        let changes = store.at_rest.write_erasure(commit, self.shard(), now, Some(&self.audited(store)))?;
        self.end(store)?;
        Ok(ErasureStep { changes, caps: erasure.caps })
    }

    fn look_at_logs(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut rows = store.logs.readable_from(&self.prefix, self.left.clone());
        let (mut count, mut bytes) = (0, 0);
        while let Some((key, value)) = rows.next()? {
            if count == STEP_ROWS || bytes >= STEP_BYTES {
                self.left.start = key.to_vec();
                return Ok(());
            }
            (count, bytes) = (count + 1, bytes + key.len() + value.len());
            if let Ok(row) = decode_log(value) {
                self.latest = self.latest.max(latest(&row.log));
            }
        }
        drop(rows);
        self.enter(Stage::LookAtCalls);
        Ok(())
    }

    /// Counts calls. Returns whether it was all of them.
    fn look_at_calls(&mut self, store: &Store) -> bool {
        let mut rows = store.db.readable(Table::Reservations, self.left.clone(), false);
        let mut count = 0;
        while let Some((key, _)) = rows.next() {
            if count == STEP_ROWS {
                self.left.start = key.to_vec();
                self.erasure.calls += count as u64;
                self.erasure.unreadable += rows.gaps;
                return false;
            }
            count += 1;
        }
        self.erasure.calls += count as u64;
        self.erasure.unreadable += rows.gaps;
        true
    }

    /// From here on the user is erased.
    fn begin(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        let mut commit = store.begin_commit();
        self.erasure.until = commit.put_tombstone(&self.user, self.latest.max(now), now);
        let all = self.prefix.rows();
        commit.batch.delete_range_cf(store.db.cf(Table::Reservations), &all.start, &all.end);
        store.erasing.put(&mut commit.batch, &self.user, &self.erasure, &self.by);
        let changes = store.at_rest.write_erasure(commit, self.shard(), now, None)?;
        store.erasing.begun(&self.user, self.erasure.until);
        self.enter(Stage::Caps);
        Ok(ErasureStep { changes, caps: 0 })
    }

    fn remove_caps(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        let caps = store.db.cf(Table::Caps);
        let mut commit = store.begin_commit();
        let mut found: Vec<(Vec<u8>, CapRow)> = Vec::new();
        let mut rows = store.db.readable(Table::Caps, self.left.clone(), true);
        let (mut gaps, mut next) = (0, None);
        let mut before = self.left.start.clone();
        while let Some((key, value)) = rows.next() {
            if found.len() == STEP_ROWS {
                next = Some(key.to_vec());
                break;
            }
            // Of one that cannot be read it is not known when its timer fires: that finds nothing, then.
            let row = decode_cap(value).unwrap_or(CapRow { until: self.erasure.until, due: TsMs(0), began: None });
            found.push((key.to_vec(), row));
            if rows.gaps > gaps {
                commit.batch.delete_range_cf(caps, &before, &found[found.len() - 1].0);
                gaps = rows.gaps;
            }
            before = [&*found[found.len() - 1].0, &[0]].concat();
        }
        if rows.gaps > gaps {
            commit.batch.delete_range_cf(caps, &before, next.as_ref().unwrap_or(&self.left.end));
        }
        self.erasure.unreadable += rows.gaps;
        drop(rows);
        // A cap of what was counted since stays; of a log that cannot be read nothing does.
        let logs = store.logs.get_in_order(found.iter().map(|(key, _)| &**key), &mut Vec::new());
        let mut removed = 0;
        for ((key, row), log) in found.iter().zip(logs) {
            if log.is_some_and(|row| !is_from_before(&row.log, self.erasure.until)) {
                continue;
            }
            commit.batch.delete_cf(caps, key);
            commit.notify_erased_cap(key, *row, now);
            removed += 1;
        }
        self.erasure.caps += removed;
        store.erasing.put(&mut commit.batch, &self.user, &self.erasure, &self.by);
        let changes = store.at_rest.write_erasure(commit, self.shard(), now, None)?;
        match next {
            Some(next) => self.left.start = next,
            None => self.enter(Stage::Logs),
        }
        Ok(ErasureStep { changes, caps: removed })
    }

    fn remove_logs(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        let table = store.db.cf(Table::Logs);
        let mut commit = store.begin_commit();
        let mut rows = store.logs.readable_from(&self.prefix, self.left.clone());
        let (mut count, mut bytes, mut gaps, mut next) = (0, 0, 0, None);
        let mut before = self.left.start.clone();
        while let Some((key, value)) = rows.next()? {
            if count == STEP_ROWS || bytes >= STEP_BYTES {
                next = Some(key.to_vec());
                break;
            }
            (count, bytes) = (count + 1, bytes + key.len() + value.len());
            let key = key.to_vec();
            match decode_log(value) {
                Ok(row) if is_from_before(&row.log, self.erasure.until) => {
                    self.erasure.add_log(&key, &row.log, now);
                    commit.put_log(&key, &Log::empty(), false);
                }
                Ok(_) => {}
                Err(error) => {
                    store.db.count_unreadable(Table::Logs, &error);
                    self.erasure.logs += 1;
                    self.erasure.unreadable += 1;
                    commit.put_log(&key, &Log::empty(), false);
                }
            }
            if rows.gaps() > gaps {
                // What cannot be read has no keys to remove it by. What is in the overlay has, and comes after this.
                commit.batch.delete_range_cf(table, &before, &key);
                gaps = rows.gaps();
            }
            before = [&*key, &[0]].concat();
        }
        if rows.gaps() > gaps {
            commit.batch.delete_range_cf(table, &before, next.as_ref().unwrap_or(&self.left.end));
        }
        self.erasure.unreadable += rows.gaps();
        drop(rows);
        store.erasing.put(&mut commit.batch, &self.user, &self.erasure, &self.by);
        let changes = store.at_rest.write_erasure(commit, self.shard(), now, None)?;
        match next {
            Some(next) => self.left.start = next,
            None => self.enter(Stage::Over),
        }
        Ok(ErasureStep { changes, caps: 0 })
    }

    fn remove_over(&mut self, store: &Store, now: TsMs) -> Result<ErasureStep, StoreError> {
        let mut commit = store.begin_commit();
        let next = store.tables.over.erase(&mut commit.batch, &self.user, self.over_after, STEP_OVER)?;
        match next {
            Some(_) => store.erasing.put(&mut commit.batch, &self.user, &self.erasure, &self.by),
            None => store.erasing.delete(&mut commit.batch, &self.user),
        }
        // With the last write, which knows all of it.
        let line = next.is_none().then(|| self.audited(store));
        let changes = store.at_rest.write_erasure(commit, self.shard(), now, line.as_ref())?;
        match next {
            Some(next) => self.over_after = next,
            None => self.end(store)?,
        }
        Ok(ErasureStep { changes, caps: 0 })
    }

    fn audited(&self, store: &Store) -> AuditEntry {
        self.erasure.audited(store.tables.erased.mark(&self.user), self.by.clone())
    }

    fn end(&mut self, store: &Store) -> Result<(), StoreError> {
        store.erasing.ended(&self.user);
        self.enter(Stage::Done);
        if self.erasure.unreadable > 0 {
            // Of which keys the user was capped is not known: the mirror sends all, and removes what is not among it.
            store.changes.forget(self.shard())?;
        }
        Ok(())
    }
}
