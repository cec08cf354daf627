//! The erasure of a user: everything that names them goes in one commit, and a tombstone stays.

use super::codec::{decode_cap, decode_log};
use super::commit::Commit;
use super::erasing::Erasure;
use super::error::StoreError;
use super::row::UserPrefix;
use super::table::Table;
use crate::model::{CapPlan, CapRow, Log, ShardId, TsMs};

/// From so many rows of a user in a table on, they are removed as a range: fewer are cheaper one by one.
const RANGE_FROM: usize = 64;

impl Commit<'_> {
    /// Removes everything of a user and leaves a tombstone. It must be the only thing that the commit does to the user.
    /// Blocks on disk.
    pub fn erase(&mut self, user: &str, now: TsMs) -> Result<Erasure, StoreError> {
        let mut erasure = Erasure { until: now, ..Erasure::default() };
        let prefix = UserPrefix::new(user);
        let mut rows = self.parts.logs.readable_from(&prefix, prefix.rows());
        while let Some((key, value)) = rows.next()? {
            let log = match decode_log(value) {
                Ok(row) => row.log,
                Err(error) => {
                    self.parts.db.count_unreadable(Table::Logs, &error);
                    erasure.unreadable += 1;
                    Log::empty()
                }
            };
            // A clock that stepped back may have left events ahead of now: they must not come back either.
            erasure.until = erasure.until.max(log.newest().unwrap_or_default());
            erasure.add_log(key, &log, now);
            self.put_log(key, &Log::empty(), false);
        }
        if rows.gaps() > 0 {
            // What cannot be read has no keys to remove it by. What is in the overlay has, and comes after this.
            let all = prefix.rows();
            self.batch.delete_range_cf(self.parts.db.cf(Table::Logs), &all.start, &all.end);
            erasure.unreadable += rows.gaps();
        }
        let mut caps: Vec<(Vec<u8>, CapRow)> = Vec::new();
        let (_, gaps) = self.remove_rows(Table::Caps, user, |key, value| {
            // Of one that cannot be read it is not known when its timer fires: that finds nothing, then.
            let row = decode_cap(value).unwrap_or(CapRow { until: now, due: TsMs(0), began: None });
            caps.push((key.to_vec(), row));
        });
        erasure.unreadable += gaps;
        for (row_key, row) in &caps {
            self.notify_erased_cap(row_key, *row, now);
        }
        let (calls, gaps) = self.remove_rows(Table::Reservations, user, |_, _| {});
        (erasure.calls, erasure.unreadable) = (calls, erasure.unreadable + gaps);
        self.parts.tables.over.erase(&mut self.batch, user, 0, usize::MAX)?;
        erasure.caps = caps.len() as u64;
        erasure.until = self.put_tombstone(user, erasure.until, now);
        Ok(erasure)
    }

    /// Leaves the tombstone of a user. Returns up to when events are refused from now on.
    pub(in crate::store) fn put_tombstone(&mut self, user: &str, until: TsMs, now: TsMs) -> TsMs {
        let mut until = until;
        // The clock may have stepped back since an earlier erasure: nothing that it refused may come back.
        let (shard, mark) = (ShardId::of_user(user.as_bytes()), self.parts.tables.erased.mark(user));
        match self.parts.tables.erased.until(shard, mark, u64::MAX, now) {
            Ok(before) => until = until.max(before.unwrap_or_default()),
            Err(error) => self.parts.db.count_unreadable(Table::Erased, &error),
        }
        self.parts.tables.erased.put(&mut self.batch, shard, mark, until);
        until
    }

    /// Removes the timer of a cap whose row is removed, and notifies of its end.
    pub(in crate::store) fn notify_erased_cap(&mut self, row_key: &[u8], row: CapRow, now: TsMs) {
        let (was, timer_remove) = (Some(row.until), Some(row.due));
        let plan = CapPlan { timer_remove, notify: true, was, ..CapPlan::default() };
        self.put_cap(row_key, &plan, now);
    }

    /// Removes the rows that a user has in a table. Says how many there were, and how often they could not be read.
    fn remove_rows(&mut self, table: Table, user: &str, mut each: impl FnMut(&[u8], &[u8])) -> (u64, u64) {
        let db = self.parts.db;
        let all = UserPrefix::new(user).rows();
        let mut rows = db.readable(table, all.clone(), true);
        let mut keys = Vec::new();
        let mut count = 0;
        while let Some((key, value)) = rows.next() {
            each(key, value);
            count += 1;
            if keys.len() < RANGE_FROM {
                keys.push(key.to_vec());
            }
        }
        if keys.len() < RANGE_FROM && rows.gaps == 0 {
            keys.iter().for_each(|key| self.batch.delete_cf(db.cf(table), key));
        } else {
            self.batch.delete_range_cf(db.cf(table), &all.start, &all.end);
        }
        (count, rows.gaps)
    }
}
