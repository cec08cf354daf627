//! The table `caps`: what is capped now, as far as anybody outside was or is to be told.

use super::codec::decode_cap;
use super::row::{RowKey, shard_rows, user_rows};
use super::{Store, StoreError, Table};
use crate::model::{CapRow, ShardId, TsMs};
use rocksdb::{Direction, IteratorMode, ReadOptions};
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
    /// Reads rows of `caps` by row key, in the order asked. Blocks on disk.
    pub fn cap_rows<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Option<CapRow>>, StoreError> {
        let rows = self.db.batched_multi_get_cf(self.cf(Table::Caps), keys, false);
        rows.into_iter()
            .map(|row| row.map_err(StoreError::rocks("reading caps"))?.map(|row| decode_cap(&row)).transpose())
            .collect()
    }

    /// Up to `max` row keys of `caps` of a shard after one (from the first where that is `None`). Blocks on disk.
    pub fn cap_keys_after(&self, shard: ShardId, after: Option<&[u8]>, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let Range { start, end } = shard_rows(shard);
        // The least key after a key is that key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        let mut options = ReadOptions::default();
        options.set_iterate_range(start..end);
        options.fill_cache(false);
        let rows = self.db.iterator_cf_opt(self.cf(Table::Caps), options, IteratorMode::Start);
        rows.take(max)
            .map(|row| Ok(row.map_err(StoreError::rocks("reading the caps of a shard"))?.0.into_vec()))
            .collect()
    }

    /// Every row of `caps` of one user, on one consistent view. Blocks on disk.
    pub fn caps_of_user(&self, user: &str) -> Result<Vec<CapEntry>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(user_rows(user));
        let rows = self.db.iterator_cf_opt(self.cf(Table::Caps), options, IteratorMode::Start);
        rows.map(|row| entry(&row.map_err(StoreError::rocks("reading the caps of a user"))?)).collect()
    }

    /// Up to `max` rows of `caps` after a row key (from the first where that is `None`). Blocks on disk.
    pub fn caps_after(&self, after: Option<&[u8]>, max: usize) -> Result<CapsPage, StoreError> {
        let mode = after.map_or(IteratorMode::Start, |after| IteratorMode::From(after, Direction::Forward));
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut page = CapsPage::default();
        for row in self.db.iterator_cf_opt(self.cf(Table::Caps), options, mode) {
            let row = row.map_err(StoreError::rocks("reading all caps"))?;
            if after == Some(&row.0[..]) {
                continue;
            }
            if page.caps.len() == max {
                return Ok(page);
            }
            page.caps.push(entry(&row)?);
            page.next = Some(row.0.into_vec());
        }
        page.next = None;
        Ok(page)
    }
}

fn entry((key, value): &(Box<[u8]>, Box<[u8]>)) -> Result<CapEntry, StoreError> {
    let (user, key) = RowKey::parse(key).ok_or(StoreError::Corrupt { table: "caps", what: "a row key is none" })?;
    Ok(CapEntry { user: user.to_owned(), key: key.into_owned(), until: decode_cap(value)?.until })
}
