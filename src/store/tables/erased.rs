//! The table `erased`: users whose old events are refused, by a keyed hash, so that the table does not name them.

use crate::model::{ShardId, TsMs};
use crate::store::codec::{put_varint, take_varint};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::row::ShardPrefix;
use crate::store::table::Table;
use rocksdb::WriteBatch;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

/// Minimum time that a tombstone is kept, in ms: 35 days. With a longer retention it is kept for that time.
pub(in crate::store) const TOMBSTONE_MS: u64 = 35 * 86_400_000;

/// A user in the table: SipHash-2-4 with 128 bits of the id, keyed with the data directory's own key.
/// <https://www.aumasson.jp/siphash/siphash.pdf>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserMark(u128);

impl fmt::Display for UserMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl UserMark {
    pub(in crate::store) fn key(self, shard: ShardId) -> [u8; 17] {
        let mut key = [shard.0; 17];
        key[1..].copy_from_slice(&self.0.to_be_bytes());
        key
    }

    /// The mark of a row's key.
    pub(in crate::store) fn of_key(key: &[u8]) -> Option<Self> {
        let mark: [u8; 16] = key.get(1..)?.try_into().ok()?;
        Some(Self(u128::from_be_bytes(mark)))
    }

    /// 64 bits of it, for a filter in memory.
    pub fn short(self) -> u64 {
        self.0 as u64
    }
}

/// The table.
pub struct Erased {
    db: Arc<Db>,
    /// Made with the data directory.
    key: [u8; 16],
}

impl Erased {
    pub(in crate::store) fn new(db: Arc<Db>, key: [u8; 16]) -> Self {
        Self { db, key }
    }

    /// The mark of a user.
    pub fn mark(&self, user: &str) -> UserMark {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(user.as_bytes());
        UserMark(hasher.finish128().as_u128())
    }

    /// Up to when a user was erased; `None` if the tombstone has expired at `now`. Blocks on disk.
    pub fn until(
        &self,
        shard: ShardId,
        mark: UserMark,
        retention_ms: u64,
        now: TsMs,
    ) -> Result<Option<TsMs>, StoreError> {
        let Some(row) = self.db.get(Table::Erased, &mark.key(shard), "reading a tombstone")? else { return Ok(None) };
        let until = decode(&row)?;
        Ok(Some(until).filter(|until| stands(*until, retention_ms, now)))
    }

    /// The readable marks of all erased users of a shard, and how often reading failed. Blocks on disk.
    pub fn marks(&self, shard: ShardId) -> Result<(Vec<UserMark>, u64), StoreError> {
        let mut rows = self.db.readable(Table::Erased, ShardPrefix(shard).rows(), true);
        let corrupt = StoreError::Corrupt { table: "erased", what: "a row key is not 17 bytes" };
        let mut marks = Vec::new();
        while let Some((key, _)) = rows.next() {
            match key.get(1..).and_then(|mark| mark.try_into().ok()) {
                Some(mark) => marks.push(UserMark(u128::from_be_bytes(mark))),
                None => rows.count_undecodable(&corrupt),
            }
        }
        Ok((marks, rows.gaps))
    }

    /// Every row of a shard that can be read. Blocks on disk.
    pub(in crate::store) fn rows(&self, shard: ShardId, mut each: impl FnMut(&[u8], &[u8])) {
        let mut rows = self.db.readable(Table::Erased, ShardPrefix(shard).rows(), false);
        while let Some((key, value)) = rows.next() {
            each(key, value);
        }
    }

    /// The row of a mark, if it was erased. Blocks on disk.
    pub(in crate::store) fn row(&self, key: &[u8]) -> Result<Option<TsMs>, StoreError> {
        let row = self.db.get(Table::Erased, key, "reading a tombstone")?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Writes a tombstone: events of the user up to here are refused.
    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, shard: ShardId, mark: UserMark, until: TsMs) {
        self.put_row(batch, &mark.key(shard), until);
    }

    /// The same by the key of the row.
    pub(in crate::store) fn put_row(&self, batch: &mut WriteBatch, key: &[u8], until: TsMs) {
        let mut value = Vec::new();
        put_varint(&mut value, until.0);
        batch.put_cf(self.db.cf(Table::Erased), key, value);
    }
}

/// Whether a tombstone is still needed. Without it, an event from before it would be late anyway.
fn stands(until: TsMs, retention_ms: u64, now: TsMs) -> bool {
    now < until.saturating_add(TOMBSTONE_MS.max(retention_ms))
}

/// Up to when a tombstone's user was erased; for the compaction filter, too.
pub(in crate::store) fn erased_until(mut value: &[u8]) -> Option<TsMs> {
    take_varint(&mut value).map(TsMs)
}

fn decode(value: &[u8]) -> Result<TsMs, StoreError> {
    erased_until(value).ok_or(StoreError::Corrupt { table: "erased", what: "an instant ends too soon" })
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
