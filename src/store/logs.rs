//! The table `logs`: what was counted, a row per (user, key).
//!
//! Writers, readers and the mirror know logs only through the functions here and through [`super::Turn`]: how and
//! when they reach the disk can change behind them.

use super::codec::decode_log;
use super::row::{RowKey, user_rows};
use super::{LogRow, Store, StoreError, Table};
use crate::model::Log;
use rocksdb::{DBPinnableSlice, ErrorKind, IteratorMode, ReadOptions, ReadTier};

/// Why logs were not read from memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They are on disk: ask again where blocking is allowed.
    #[error("not all of it is in memory")]
    WouldBlock,
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Slices<'a> = Vec<Result<Option<DBPinnableSlice<'a>>, rocksdb::Error>>;

impl Store {
    fn get_rows<'a, K>(&self, table: Table, keys: impl IntoIterator<Item = &'a K>, options: &ReadOptions) -> Slices<'_>
    where
        K: AsRef<[u8]> + 'a + ?Sized,
    {
        self.db.batched_multi_get_cf_opt(self.cf(table), keys, false, options)
    }

    /// Reads the logs of many row keys in one go. Blocks on disk.
    pub fn logs<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Option<LogRow>>, StoreError> {
        let rows = self.get_rows(Table::Logs, keys, &ReadOptions::default());
        rows.into_iter().map(|row| decode(row.map_err(StoreError::rocks("reading logs"))?)).collect()
    }

    /// The same from memory alone: the write buffers and the block cache.
    pub fn logs_in_memory<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Option<LogRow>>, ReadError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        let rows = self.get_rows(Table::Logs, keys, &options);
        rows.into_iter()
            .map(|row| match row {
                Ok(row) => Ok(decode(row)?),
                Err(error) if error.kind() == ErrorKind::Incomplete => Err(ReadError::WouldBlock),
                Err(error) => Err(ReadError::Store(StoreError::rocks("reading logs from memory")(error))),
            })
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
