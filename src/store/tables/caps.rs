//! The table `caps`: the caps that outside readers know of, or will be notified of.

use crate::model::{CapRow, ShardId, TsMs};
use crate::store::codec::{decode_cap, encode_cap};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::row::{RowKey, ShardPrefix, UserPrefix};
use crate::store::table::Table;
use rocksdb::{DBPinnableSlice, WriteBatch};
use std::ops::Range;
use std::sync::Arc;

/// A capped key of a user, and when the cap ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapEntry {
    /// The user.
    pub user: String,
    /// The key.
    pub key: String,
    /// When the cap ends.
    pub until: TsMs,
}

/// Some rows of `caps` in the order of their row keys, and where to continue.
#[derive(Debug, Clone, Default)]
pub struct CapsPage {
    /// The rows.
    pub caps: Vec<CapEntry>,
    /// Continue after this row key; `None` at the end of the table.
    pub next: Option<Vec<u8>>,
}

/// The table.
pub struct Caps {
    db: Arc<Db>,
}

impl Caps {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Reads rows by row key, in the order given. A row that cannot be read counts as absent, and its number goes into
    /// `unreadable`. Blocks on disk.
    pub fn get_many<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        unreadable: &mut Vec<usize>,
    ) -> Vec<Option<CapRow>> {
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        let mut caps = Vec::with_capacity(keys.len());
        for (number, row) in self.db.get_many(Table::Caps, &keys, false, "reading caps").into_iter().enumerate() {
            caps.push(row.and_then(decode).unwrap_or_else(|error| {
                self.db.count_unreadable(Table::Caps, &error);
                unreadable.push(number);
                None
            }));
        }
        caps
    }

    /// Up to `max` row keys of a shard, after one or from the first. Blocks on disk.
    pub fn keys_after(&self, shard: ShardId, after: Option<&[u8]>, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut rows = self.db.readable(Table::Caps, ShardPrefix(shard).rows_after(after), false);
        let mut keys = Vec::new();
        while keys.len() < max
            && let Some((key, _)) = rows.next()
        {
            keys.push(key.to_vec());
        }
        Ok(keys)
    }

    /// Every row of one user, in one consistent view. Blocks on disk.
    pub fn of_user(&self, user: &str) -> Result<Vec<CapEntry>, StoreError> {
        let mut caps = Vec::new();
        for row in self.db.rows(Table::Caps, UserPrefix::new(user).rows(), "reading the caps of a user") {
            let (key, value) = row?;
            caps.push(entry(&key, &value)?);
        }
        Ok(caps)
    }

    /// Up to `max` readable rows of all shards, after a row key or from the first. Blocks on disk.
    pub fn after(&self, after: Option<&[u8]>, max: usize) -> Result<CapsPage, StoreError> {
        let range = ShardPrefix(ShardId(0)).rows_after(after).start..ShardPrefix(ShardId(255)).rows().end;
        Ok(self.page(range, max))
    }

    /// The same of one shard.
    pub fn of_shard_after(&self, shard: ShardId, after: Option<&[u8]>, max: usize) -> CapsPage {
        self.page(ShardPrefix(shard).rows_after(after), max)
    }

    fn page(&self, range: Range<Vec<u8>>, max: usize) -> CapsPage {
        let mut rows = self.db.readable(Table::Caps, range, false);
        let mut page = CapsPage::default();
        while let Some((key, value)) = rows.next() {
            if page.caps.len() == max {
                return page;
            }
            page.next = Some(key.to_vec());
            match entry(key, value) {
                Ok(cap) => page.caps.push(cap),
                Err(error) => rows.count_undecodable(&error),
            }
        }
        page.next = None;
        page
    }

    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, row_key: &[u8], row: CapRow, scratch: &mut Vec<u8>) {
        scratch.clear();
        encode_cap(scratch, row);
        batch.put_cf(self.db.cf(Table::Caps), row_key, scratch);
    }

    pub(in crate::store) fn delete(&self, batch: &mut WriteBatch, row_key: &[u8]) {
        batch.delete_cf(self.db.cf(Table::Caps), row_key);
    }
}

fn decode(row: Option<DBPinnableSlice<'_>>) -> Result<Option<CapRow>, StoreError> {
    row.map(|row| decode_cap(&row)).transpose()
}

fn entry(key: &[u8], value: &[u8]) -> Result<CapEntry, StoreError> {
    let (user, key) = RowKey::parse(key).ok_or(StoreError::Corrupt { table: "caps", what: "a row key is none" })?;
    Ok(CapEntry { user: user.to_owned(), key: key.into_owned(), until: decode_cap(value)?.until })
}
