//! The table `logs`: what was counted, a row per (user, key).
//!
//! Writers, readers and the mirror know logs only through the functions here and through [`super::Turn`]: how and
//! when they reach the disk can change behind them.

use super::codec::decode_log;
use super::row::{RowKey, RowKeys, after_prefix, shard_rows, user_prefix, user_rows};
use super::{LogRow, Store, StoreError, Table};
use crate::model::{Log, ShardId};
use rocksdb::{DBPinnableSlice, ErrorKind, IteratorMode, ReadOptions, ReadTier};
use std::ops::Range;

/// From so many keys of a user on, all of the user's rows are looked through rather than each key searched.
const SCAN_FROM: usize = 8;
/// But no more rows than this for each key: a user with very many is asked key by key.
const SCAN_ROWS_PER_KEY: usize = 4;

/// Some logs of a user with their keys, and where to go on.
#[derive(Debug, Default)]
pub struct UserLogs {
    pub logs: Vec<(String, LogRow)>,
    /// The key to go on after; `None` at the end.
    pub next: Option<String>,
}

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

    /// Gives up to `max` logs of a shard to `each`, from the one after a row key (the first where that is `None`), in the
    /// order of the row keys. Returns the last row key, and whether the shard ends with it. Blocks on disk.
    pub fn scan_logs(
        &self,
        shard: ShardId,
        after: Option<&[u8]>,
        max: usize,
        mut each: impl FnMut(&[u8], LogRow),
    ) -> Result<(Option<Vec<u8>>, bool), StoreError> {
        let Range { start, end } = shard_rows(shard);
        // The least key after a key is that key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        let mut options = ReadOptions::default();
        options.set_iterate_range(start..end);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(self.cf(Table::Logs), options);
        rows.seek_to_first();
        let (mut last, mut count) = (Vec::new(), 0);
        while let Some((key, value)) = rows.item() {
            each(key, decode_log(value)?);
            count += 1;
            if count == max {
                last.extend_from_slice(key);
                return Ok((Some(last), false));
            }
            rows.next();
        }
        rows.status().map_err(StoreError::rocks("reading the logs of a shard"))?;
        Ok((None, true))
    }

    /// Reads logs of one user on one consistent view, in the order of their keys. Blocks on disk.
    pub fn logs_at_once(&self, keys: &RowKeys) -> Result<Vec<Option<LogRow>>, StoreError> {
        match self.view(keys, ReadTier::All) {
            Ok(logs) => Ok(logs),
            Err(ReadError::Store(error)) => Err(error),
            Err(ReadError::WouldBlock) => Err(StoreError::Corrupt { table: "logs", what: "a row is empty" }),
        }
    }

    /// The same from memory alone: the write buffers and the block cache.
    pub fn logs_at_once_in_memory(&self, keys: &RowKeys) -> Result<Vec<Option<LogRow>>, ReadError> {
        self.view(keys, ReadTier::BlockCache)
    }

    fn view(&self, keys: &RowKeys, tier: ReadTier) -> Result<Vec<Option<LogRow>>, ReadError> {
        if keys.len() >= SCAN_FROM
            && let Some(logs) = self.scan_for(keys, tier)?
        {
            return Ok(logs);
        }
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        // One row is consistent by itself.
        let snapshot = (keys.len() > 1).then(|| self.db.snapshot());
        if let Some(snapshot) = &snapshot {
            options.set_snapshot(snapshot);
        }
        // Key by key: RocksDB's batched multi-get has been seen to answer "found, empty" from memory where it should
        // say that it would have to read a block. No log is empty, so such an answer is taken for what it means.
        let read = |key| match self.db.get_pinned_cf_opt(self.cf(Table::Logs), key, &options) {
            Ok(Some(row)) if row.is_empty() => Err(ReadError::WouldBlock),
            Ok(row) => Ok(decode(row)?),
            Err(error) if error.kind() == ErrorKind::Incomplete => Err(ReadError::WouldBlock),
            Err(error) => Err(ReadError::Store(StoreError::rocks("reading logs")(error))),
        };
        keys.iter().map(read).collect()
    }

    /// Finds the keys among all rows of their user, if there are not many more of those: one pass over neighbours costs
    /// less than a search for each.
    fn scan_for(&self, keys: &RowKeys, tier: ReadTier) -> Result<Option<Vec<Option<LogRow>>>, ReadError> {
        let prefix = user_prefix(keys.get(0));
        let mut wanted: Vec<usize> = (0..keys.len()).collect();
        wanted.sort_unstable_by_key(|&number| keys.get(number));
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        options.set_iterate_range(prefix.to_vec()..after_prefix(prefix));
        let mut rows = self.db.raw_iterator_cf_opt(self.cf(Table::Logs), options);
        rows.seek(keys.get(wanted[0]));
        let mut logs = vec![None; keys.len()];
        let mut wanted = wanted.into_iter().peekable();
        for _ in 0..SCAN_ROWS_PER_KEY * keys.len() {
            let Some((key, value)) = rows.item() else {
                return match rows.status() {
                    Ok(()) => Ok(Some(logs)),
                    Err(error) if error.kind() == ErrorKind::Incomplete => Err(ReadError::WouldBlock),
                    Err(error) => Err(ReadError::Store(StoreError::rocks("reading the logs of a user")(error))),
                };
            };
            while let Some(&number) = wanted.peek()
                && keys.get(number) <= key
            {
                if keys.get(number) == key {
                    logs[number] = Some(decode_log(value)?);
                }
                wanted.next();
            }
            if wanted.peek().is_none() {
                return Ok(Some(logs));
            }
            rows.next();
        }
        Ok(None)
    }

    /// Up to `max` logs of one user after a key (from the first where that is `None`), in the order of the row keys; fewer
    /// once they have `max_entries` entries and reservations between them. Blocks on disk.
    pub fn logs_of_user_after(
        &self,
        user: &str,
        after: Option<&str>,
        max: usize,
        max_entries: usize,
    ) -> Result<UserLogs, StoreError> {
        let mut range = user_rows(user);
        if let Some(after) = after {
            range.start = RowKey::beside(&range.start, after);
            range.start.push(0);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        let mut page = UserLogs::default();
        let mut entries = 0;
        for row in self.db.iterator_cf_opt(self.cf(Table::Logs), options, IteratorMode::Start) {
            if page.logs.len() == max || entries >= max_entries {
                page.next = page.logs.last().map(|(key, _)| key.clone());
                break;
            }
            let (key, value) = row.map_err(StoreError::rocks("reading the logs of a user"))?;
            let key = RowKey::key_of(&key).ok_or(StoreError::Corrupt { table: "logs", what: "a row key is none" })?;
            let row = decode_log(&value)?;
            entries += row.log.sections.iter().map(|it| it.entries.len() + it.held.len()).sum::<usize>();
            page.logs.push((key.into_owned(), row));
        }
        Ok(page)
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
                    let mut keys = RowKeys::default();
                    for user in [n * 7_919 % USERS, n * 104_729 % USERS + 1] {
                        keys.push(&format!("user-{user}"), "da:1");
                    }
                    match store.logs_at_once_in_memory(&keys) {
                        Ok(rows) => {
                            read += 1;
                            assert_eq!(rows, store.logs(keys.iter()).unwrap());
                        }
                        Err(ReadError::WouldBlock) => blocked += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        assert!(read > 0 && blocked > 0, "{read} read, {blocked} would block: nothing was put to the test");
    }

    /// By a pass over the user's rows and by a search for each: keys in any order, twice, and of nobody.
    #[test]
    fn many_keys_of_a_user_are_found_however_many_rows_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap();
        for rows in [0, 1, 20, 2_000u64] {
            let user = format!("user-{rows}");
            let mut turn = store.turn();
            for ad in 0..rows {
                let mut log = Log::default();
                log.insert(Kind::IMPRESSION, Entry { ts: TsMs(1_732_233_600_000 + ad), hash: ad + 1 }, 256);
                let row_key = RowKey::new(&UserId::new(&*user).unwrap(), &CapKey::new(format!("da:{ad}")).unwrap());
                turn.put_log(row_key.as_bytes(), &log, false);
            }
            turn.commit().unwrap();
            for asked in [1, SCAN_FROM as u64, 300] {
                let mut keys = RowKeys::default();
                for n in 0..asked {
                    keys.push(&user, &format!("da:{}", n * 7 % 2_500));
                    keys.push(&user, &format!("c:{}", n % 5));
                    keys.push(&user, &format!("da:{}", asked - n));
                }
                let searched = store.logs(keys.iter()).unwrap();
                assert_eq!(store.logs_at_once(&keys).unwrap(), searched);
                assert_eq!(store.logs_at_once_in_memory(&keys).unwrap(), searched);
            }
        }
    }
}
