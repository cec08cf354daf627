//! The table `erased`: who must not come back, told by a keyed hash, so that the table does not say who it was.

use super::codec::{put_varint, take_varint};
use super::row::{shard_rows, user_rows};
use super::turn::RANGE_FROM;
use super::{LogRow, RowKey, Store, StoreError, Table, Turn};
use crate::model::{CapPlan, CapRow, Log, ShardId, TsMs};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// How long a tombstone stands at least, in ms: 35 days. Where events are held for longer it stands for as long.
pub(super) const TOMBSTONE_MS: u64 = 35 * 86_400_000;

/// A user as the table knows them: SipHash-2-4 with 128 bits of the id, under the data directory's own key.
/// <https://www.aumasson.jp/siphash/siphash.pdf>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserMark(u128);

impl UserMark {
    fn row(self, shard: ShardId) -> [u8; 17] {
        let mut row = [shard.0; 17];
        row[1..].copy_from_slice(&self.0.to_be_bytes());
        row
    }

    /// 64 bits of it, for a filter in memory.
    pub fn short(self) -> u64 {
        self.0 as u64
    }
}

/// What was held of a user, and is held no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erasure {
    /// Events up to here are refused from now on.
    pub until: TsMs,
    pub logs: u64,
    /// Events held in the logs of ads.
    pub events: u64,
    /// Reservations under way, likewise.
    pub reservations: u64,
    /// Calls of `/reserve` with their answers.
    pub calls: u64,
    pub caps: u64,
    /// How often something could not be read: it was erased all the same, and is not in the counts.
    pub unreadable: u64,
}

impl Store {
    /// How the table knows a user.
    pub fn user_mark(&self, user: &str) -> UserMark {
        let mut hasher = SipHasher24::new_with_key(&self.erasure_key);
        hasher.write(user.as_bytes());
        UserMark(hasher.finish128().as_u128())
    }

    /// Up to when a user was erased; a tombstone that no longer stands at `now` is none. Blocks on disk.
    pub fn erased_until(
        &self,
        shard: ShardId,
        mark: UserMark,
        retention_ms: u64,
        now: TsMs,
    ) -> Result<Option<TsMs>, StoreError> {
        let row = self.db.get_pinned_cf(self.cf(Table::Erased), mark.row(shard));
        let Some(row) = row.map_err(StoreError::rocks("reading a tombstone"))? else { return Ok(None) };
        let until = decode(&row)?;
        Ok(Some(until).filter(|until| stands(*until, retention_ms, now)))
    }

    /// The marks of everybody in a shard who was erased, as far as they can be read, and how often they cannot. Blocks on
    /// disk.
    pub fn erased_marks(&self, shard: ShardId) -> Result<(Vec<UserMark>, u64), StoreError> {
        let mut rows = self.readable(Table::Erased, shard_rows(shard), true);
        let corrupt = StoreError::Corrupt { table: "erased", what: "a row key is not 17 bytes" };
        let mut marks = Vec::new();
        while let Some((key, _)) = rows.next() {
            match key.get(1..).and_then(|mark| mark.try_into().ok()) {
                Some(mark) => marks.push(UserMark(u128::from_be_bytes(mark))),
                None => rows.spoilt(&corrupt),
            }
        }
        Ok((marks, rows.gaps))
    }
}

/// Whether a tombstone is still needed: an event from before it would be late otherwise.
fn stands(until: TsMs, retention_ms: u64, now: TsMs) -> bool {
    now < until.saturating_add(TOMBSTONE_MS.max(retention_ms))
}

/// Up to when a tombstone's user was erased, for the compaction filter, too.
pub(super) fn erased_until(mut value: &[u8]) -> Option<TsMs> {
    take_varint(&mut value).map(TsMs)
}

fn decode(value: &[u8]) -> Result<TsMs, StoreError> {
    erased_until(value).ok_or(StoreError::Corrupt { table: "erased", what: "an instant ends too soon" })
}

impl Turn<'_> {
    /// Removes everything of a user and leaves a tombstone. It must be the only thing that the turn does to the user.
    /// Blocks on disk.
    pub fn erase(&mut self, user: &str, now: TsMs) -> Result<Erasure, StoreError> {
        let store = self.store;
        let mut erasure = Erasure { until: now, ..Erasure::default() };
        let mut logs = 0;
        let mut rows = store.readable_rows_of_user(user);
        while let Some((key, value)) = rows.next()? {
            let log = super::codec::decode_log(value).map(|LogRow { log, .. }| log).unwrap_or_else(|error| {
                store.unreadable(Table::Logs, &error);
                erasure.unreadable += 1;
                Log::empty()
            });
            // A clock that stepped back may have left events ahead of now: they must not come back either.
            erasure.until = erasure.until.max(log.newest().unwrap_or_default());
            let of_ad = RowKey::key_of(key).is_some_and(|key| key.starts_with("da:"));
            for section in log.sections.iter().filter(|_| of_ad) {
                erasure.events += section.entries.len() as u64;
                erasure.reservations += section.held.iter().filter(|held| held.expires_at > now).count() as u64;
            }
            logs += 1;
            self.put_log(key, &Log::empty(), false);
        }
        if rows.gaps() > 0 {
            // What cannot be read has no keys to remove it by. What is in the overlay has, and comes after this.
            let all = user_rows(user);
            self.batch.delete_range_cf(store.cf(Table::Logs), &all.start, &all.end);
            erasure.unreadable += rows.gaps();
        }
        let mut caps: Vec<(Vec<u8>, CapRow)> = Vec::new();
        let (_, gaps) = self.remove_rows(Table::Caps, user, |key, value| {
            // Of one that cannot be read it is not known when its timer fires: that finds nothing, then.
            let row = super::codec::decode_cap(value).unwrap_or(CapRow { until: now, due: TsMs(0) });
            caps.push((key.to_vec(), row));
        });
        erasure.unreadable += gaps;
        for (row_key, row) in &caps {
            let (was, timer_remove) = (Some(row.until), Some(row.due));
            let plan = CapPlan { timer_remove, tell: true, was, ..CapPlan::default() };
            self.put_cap(row_key, &plan, now);
        }
        let (calls, gaps) = self.remove_rows(Table::Reservations, user, |_, _| {});
        (erasure.calls, erasure.unreadable) = (calls, erasure.unreadable + gaps);
        (erasure.logs, erasure.caps) = (logs, caps.len() as u64);
        // The clock may have stepped back since an earlier erasure: nothing that it refused may come back.
        let (shard, mark) = (ShardId::of_user(user.as_bytes()), store.user_mark(user));
        match store.erased_until(shard, mark, u64::MAX, now) {
            Ok(before) => erasure.until = erasure.until.max(before.unwrap_or_default()),
            Err(error) => store.unreadable(Table::Erased, &error),
        }
        let mut value = Vec::new();
        put_varint(&mut value, erasure.until.0);
        self.batch.put_cf(store.cf(Table::Erased), mark.row(shard), value);
        Ok(erasure)
    }

    /// Removes the rows that a user has in a table. Says how many there were, and how often they could not be read.
    fn remove_rows(&mut self, table: Table, user: &str, mut each: impl FnMut(&[u8], &[u8])) -> (u64, u64) {
        let cf = self.store.cf(table);
        let mut rows = self.store.readable(table, user_rows(user), true);
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
            keys.iter().for_each(|key| self.batch.delete_cf(cf, key));
        } else {
            let all = user_rows(user);
            self.batch.delete_range_cf(cf, &all.start, &all.end);
        }
        (count, rows.gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_stands_for_35_days_or_as_long_as_events_are_held() {
        const DAY: u64 = 86_400_000;
        let until = TsMs(1_732_233_600_000);
        let after = |ms: u64| until.saturating_add(ms);
        assert!(stands(until, 7 * DAY, after(35 * DAY - 1)));
        assert!(!stands(until, 7 * DAY, after(35 * DAY)));
        assert!(stands(until, 90 * DAY, after(90 * DAY - 1)));
    }
}
