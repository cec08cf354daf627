//! The table `opted_out`: users who are never counted, by a keyed hash, so that the table does not name them. Key as in `erased`,
//! value: since when.

use super::erased::UserMark;
use crate::model::{ShardId, TsMs};
use crate::store::codec::{put_varint, take_varint};
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use crate::store::tables::audit::{Audit, AuditEntry};
use rocksdb::{IteratorMode, WriteBatch};
use std::sync::Arc;

const VERSION: u8 = 1;

/// The table.
pub struct OptedOut {
    db: Arc<Db>,
    audit: Arc<Audit>,
}

fn encode(since: TsMs) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_varint(&mut out, since.0);
    out
}

fn decode(value: &[u8]) -> Option<TsMs> {
    let (&VERSION, mut rest) = value.split_first()? else { return None };
    let since = take_varint(&mut rest)?;
    rest.is_empty().then_some(TsMs(since))
}

impl OptedOut {
    pub(in crate::store) fn new(db: Arc<Db>, audit: Arc<Audit>) -> Self {
        Self { db, audit }
    }

    /// Everybody in the table. Blocks on disk.
    pub fn all(&self) -> Result<Vec<(ShardId, UserMark)>, StoreError> {
        let corrupt = StoreError::Corrupt { table: "opted_out", what: "a row cannot be read" };
        let mut all = Vec::new();
        for row in self.db.rocks.iterator_cf(self.db.cf(Table::OptedOut), IteratorMode::Start) {
            let (key, value) = row.map_err(StoreError::rocks("reading who opted out"))?;
            let mark = UserMark::of_key(&key).filter(|_| decode(&value).is_some());
            let mark = mark.ok_or_else(|| corrupt.clone())?;
            all.push((ShardId(key[0]), mark));
        }
        Ok(all)
    }

    /// Notes a user, or (`None`) removes it, with the line of the audit. Durable where it returns. Blocks on disk.
    pub fn set(
        &self,
        shard: ShardId,
        mark: UserMark,
        since: Option<TsMs>,
        at: TsMs,
        line: &AuditEntry,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        match since {
            Some(since) => batch.put_cf(self.db.cf(Table::OptedOut), mark.key(shard), encode(since)),
            None => batch.delete_cf(self.db.cf(Table::OptedOut), mark.key(shard)),
        }
        let lines = self.audit.add(&mut batch, at, std::slice::from_ref(line))?;
        self.db.write_durably(batch, "noting who opted out")?;
        lines.written();
        Ok(())
    }
}

/// Whether the bytes are a row of the table.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    UserMark::of_key(key).is_some() && decode(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    #[test]
    fn the_bytes_of_a_row_never_change() {
        assert_eq!(encode(TsMs(300)), b"\x01\xac\x02");
        assert_eq!(decode(b"\x01\xac\x02"), Some(TsMs(300)));
        assert_eq!((decode(b"\x02\x01"), decode(b"\x01"), decode(b"")), (None, None, None));
        assert!(is_row(&[7; 17], b"\x01\x01") && !is_row(&[7; 16], b"\x01\x01"));
    }

    #[test]
    fn who_opted_out_is_known_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let options = || StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() };
        let store = Store::open(&options()).unwrap();
        let (one, two) = (store.erased().mark("one"), store.erased().mark("two"));
        let line = AuditEntry::default();
        store.opted_out().set(ShardId(3), one, Some(TsMs(5)), TsMs(5), &line).unwrap();
        store.opted_out().set(ShardId(4), two, Some(TsMs(6)), TsMs(6), &line).unwrap();
        drop(store);
        let store = Store::open(&options()).unwrap();
        assert_eq!(store.opted_out().all(), Ok(vec![(ShardId(3), one), (ShardId(4), two)]));
        store.opted_out().set(ShardId(3), one, None, TsMs(7), &line).unwrap();
        assert_eq!(store.opted_out().all(), Ok(vec![(ShardId(4), two)]));
    }
}
