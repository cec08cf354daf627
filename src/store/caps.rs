//! The table `caps`: what is capped now, as far as anybody outside was or is to be told.

use super::codec::decode_cap;
use super::row::{RowKey, shard_rows, user_rows};
use super::{Store, StoreError, Table};
use crate::model::{CapRow, ShardId, TsMs};
use rocksdb::{IteratorMode, ReadOptions};
use std::ops::Range;

/// A capped key of a user, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapEntry {
    pub user: String,
    pub key: String,
    pub until: TsMs,
}

/// Some rows of `caps` in the order of their row keys, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct CapsPage {
    pub caps: Vec<CapEntry>,
    /// The row key to go on after; `None` at the end of the table.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// Reads rows of `caps` by row key, in the order asked. A row that cannot be read is as if there were none; its number
    /// goes into `unreadable`. Blocks on disk.
    pub fn cap_rows<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        unreadable: &mut Vec<usize>,
    ) -> Vec<Option<CapRow>> {
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        let rows = self.db.batched_multi_get_cf(self.cf(Table::Caps), &keys, false);
        let decode = |row: Option<rocksdb::DBPinnableSlice<'_>>| row.map(|row| decode_cap(&row)).transpose();
        let mut caps = Vec::with_capacity(rows.len());
        for (number, row) in rows.into_iter().enumerate() {
            // As with logs.
            let row = row.or_else(|_| self.db.get_pinned_cf(self.cf(Table::Caps), keys[number]));
            caps.push(row.map_err(StoreError::rocks("reading caps")).and_then(decode).unwrap_or_else(|error| {
                self.unreadable(Table::Caps, &error);
                unreadable.push(number);
                None
            }));
        }
        caps
    }

    /// Up to `max` row keys of `caps` of a shard after one (from the first where that is `None`). Blocks on disk.
    pub fn cap_keys_after(&self, shard: ShardId, after: Option<&[u8]>, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let Range { start, end } = shard_rows(shard);
        // The least key after a key is that key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        let mut rows = self.readable(Table::Caps, start..end, false);
        let mut keys = Vec::new();
        while keys.len() < max
            && let Some((key, _)) = rows.next()
        {
            keys.push(key.to_vec());
        }
        Ok(keys)
    }

    /// Every row of `caps` of one user, on one consistent view. Blocks on disk.
    pub fn caps_of_user(&self, user: &str) -> Result<Vec<CapEntry>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(user_rows(user));
        let rows = self.db.iterator_cf_opt(self.cf(Table::Caps), options, IteratorMode::Start);
        rows.map(|row| {
            let (key, value) = row.map_err(StoreError::rocks("reading the caps of a user"))?;
            entry(&key, &value)
        })
        .collect()
    }

    /// Up to `max` rows of `caps` that can be read after a row key (from the first where that is `None`). Blocks on disk.
    pub fn caps_after(&self, after: Option<&[u8]>, max: usize) -> Result<CapsPage, StoreError> {
        let start = after.map_or_else(|| vec![0], |after| [after, &[0]].concat());
        let mut rows = self.readable(Table::Caps, start..shard_rows(ShardId(255)).end, false);
        let mut page = CapsPage::default();
        while let Some((key, value)) = rows.next() {
            if page.caps.len() == max {
                return Ok(page);
            }
            page.next = Some(key.to_vec());
            match entry(key, value) {
                Ok(cap) => page.caps.push(cap),
                Err(error) => rows.spoilt(&error),
            }
        }
        page.next = None;
        Ok(page)
    }
}

fn entry(key: &[u8], value: &[u8]) -> Result<CapEntry, StoreError> {
    let (user, key) = RowKey::parse(key).ok_or(StoreError::Corrupt { table: "caps", what: "a row key is none" })?;
    Ok(CapEntry { user: user.to_owned(), key: key.into_owned(), until: decode_cap(value)?.until })
}
