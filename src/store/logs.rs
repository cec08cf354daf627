//! The table `logs`: what was counted, a row per (user, key).
//!
//! Writers, readers and the mirror know logs only through the functions here and through [`super::Turn`]: how and
//! when they reach the disk can change behind them.

use super::codec::decode_log;
use super::row::{RowKey, shard_rows, user_rows};
use super::{LogRow, Store, StoreError, Table};
use crate::model::{Log, ShardId};
use rocksdb::{DBPinnableSlice, ErrorKind, IteratorMode, ReadOptions, ReadTier};
use std::ops::Range;

/// Why logs were not read from memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They are on disk: ask again where blocking is allowed.
    #[error("not all of it is in memory")]
    WouldBlock,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Reads the logs of many row keys in one go. Blocks on disk.
    pub fn logs<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Option<LogRow>>, StoreError> {
        let rows = self.db.batched_multi_get_cf(self.cf(Table::Logs), keys, false);
        rows.into_iter().map(|row| decode(row.map_err(StoreError::rocks("reading logs"))?)).collect()
    }

    /// The same from memory alone: the write buffers and the block cache.
    ///
    /// Key by key: RocksDB's batched multi-get has been seen to answer "found, empty" here where it should say that it
    /// would have to read a block. No log is empty, so such an answer is taken for what it means.
    pub fn logs_in_memory<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Option<LogRow>>, ReadError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        let read = |key| match self.db.get_pinned_cf_opt(self.cf(Table::Logs), key, &options) {
            Ok(Some(row)) if row.is_empty() => Err(ReadError::WouldBlock),
            Ok(row) => Ok(decode(row)?),
            Err(error) if error.kind() == ErrorKind::Incomplete => Err(ReadError::WouldBlock),
            Err(error) => Err(ReadError::Store(StoreError::rocks("reading logs from memory")(error))),
        };
        keys.into_iter().map(read).collect()
    }

    /// Up to `max` row keys of a shard after one (from the first where that is `None`). Blocks on disk.
    pub fn log_keys_after(&self, shard: ShardId, after: Option<&[u8]>, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let Range { start, end } = shard_rows(shard);
        // The least key after a key is that key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        let mut options = ReadOptions::default();
        options.set_iterate_range(start..end);
        options.fill_cache(false);
        let rows = self.db.iterator_cf_opt(self.cf(Table::Logs), options, IteratorMode::Start);
        rows.take(max)
            .map(|row| Ok(row.map_err(StoreError::rocks("reading the keys of a shard"))?.0.into_vec()))
            .collect()
    }

    /// Every log of one user with its key, in the order of the row keys, on one consistent view. Blocks on disk.
    pub fn logs_of_user(&self, user: &str, mut each: impl FnMut(&str, Log)) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(user_rows(user));
        for row in self.db.iterator_cf_opt(self.cf(Table::Logs), options, IteratorMode::Start) {
            let (key, value) = row.map_err(StoreError::rocks("reading the logs of a user"))?;
            let key = RowKey::key_of(&key).ok_or(StoreError::Corrupt { table: "logs", what: "a row key is none" })?;
            each(&key, decode_log(&value)?.log);
        }
        Ok(())
    }
}

fn decode(row: Option<DBPinnableSlice<'_>>) -> Result<Option<LogRow>, StoreError> {
    row.map(|row| decode_log(&row)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CapKey, Entry, Kind, TsMs, UserId};
    use crate::store::{ByteSize, StoreOptions};

    fn row_key(user: u64) -> RowKey {
        RowKey::new(&UserId::new(format!("user-{user}")).unwrap(), &CapKey::new("da:1").unwrap())
    }

    /// With a cache far smaller than the rows, and files written and merged all the while.
    #[test]
    fn what_is_read_from_memory_is_what_is_on_disk_or_nothing() {
        const USERS: u64 = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            data_dir: dir.path().to_owned(),
            block_cache: ByteSize(64 << 10),
            write_buffer: ByteSize(64 << 10),
            ..StoreOptions::default()
        };
        let store = Store::open(&options).unwrap();
        let (mut read, mut blocked) = (0, 0);
        for round in 0..8 {
            for users in (0..USERS).collect::<Vec<_>>().chunks(1_000) {
                let mut turn = store.turn();
                for user in users.iter().filter(|user| *user % 2 == 0) {
                    let mut log = Log::default();
                    for n in 0..=round {
                        let entry = Entry { ts: TsMs(1_732_233_600_000 + user + n), hash: user * 31 + n + 1 };
                        log.insert(Kind::IMPRESSION, entry, 256);
                    }
                    turn.put_log(row_key(*user).as_bytes(), &log, false);
                }
                turn.commit().unwrap();
                for n in 0..500u64 {
                    let keys = [row_key(n * 7_919 % USERS), row_key(n * 104_729 % USERS + 1)];
                    let keys = || keys.iter().map(RowKey::as_bytes);
                    match store.logs_in_memory(keys()) {
                        Ok(rows) => {
                            read += 1;
                            assert_eq!(rows, store.logs(keys()).unwrap());
                        }
                        Err(ReadError::WouldBlock) => blocked += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        assert!(read > 0 && blocked > 0, "{read} read, {blocked} would block: nothing was put to the test");
    }
}
