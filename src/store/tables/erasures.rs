//! The table `erasures`: calls that erase many users. A receipt for each call (`r`, id), which names nobody, and the users who are
//! still to be erased (`u`, id, number).

use crate::model::TsMs;
use crate::store::codec::{put_varint, take_varint};
use crate::store::db::{Db, KeyRange};
use crate::store::error::StoreError;
use crate::store::table::Table;
use rocksdb::WriteBatch;
use std::sync::Arc;

/// How long a receipt is kept after its erasure is finished, in ms: 35 days.
pub const RECEIPT_MS: u64 = 35 * 86_400_000;
/// The version of a receipt.
const VERSION: u8 = 1;
const RECEIPT: u8 = b'r';
const USER: u8 = b'u';
/// Bytes of an id: 32 hex digits.
const ID: usize = 32;

/// What became of a call that erases many users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErasureReceipt {
    /// When it was asked for.
    pub created_at: TsMs,
    /// Users.
    pub total: u64,
    /// Users who are erased.
    pub done: u64,
    /// Logs of theirs.
    pub logs: u64,
    /// Events in those.
    pub events: u64,
    /// Caps of theirs.
    pub caps: u64,
    /// When the last of them was erased.
    pub finished_at: Option<TsMs>,
}

impl ErasureReceipt {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let finished_at = self.finished_at.map_or(0, |at| at.0);
        for field in [self.created_at.0, self.total, self.done, self.logs, self.events, self.caps, finished_at] {
            put_varint(&mut out, field);
        }
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (&VERSION, mut rest) = value.split_first()? else { return None };
        let mut next = || take_varint(&mut rest);
        let receipt = Self {
            created_at: TsMs(next()?),
            total: next()?,
            done: next()?,
            logs: next()?,
            events: next()?,
            caps: next()?,
            finished_at: Some(next()?).filter(|at| *at > 0).map(TsMs),
        };
        rest.is_empty().then_some(receipt)
    }
}

const CORRUPT: StoreError = StoreError::Corrupt { table: "erasures", what: "a row cannot be read" };

fn receipt_key(id: &str) -> Vec<u8> {
    [&[RECEIPT], id.as_bytes()].concat()
}

fn user_key(id: &str, number: u32) -> Vec<u8> {
    [&[USER], id.as_bytes(), &number.to_be_bytes()].concat()
}

fn all_receipts() -> KeyRange {
    vec![RECEIPT]..vec![RECEIPT + 1]
}

/// The table.
pub struct Erasures {
    db: Arc<Db>,
}

impl Erasures {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Notes a call and its users. Durable where it returns. Blocks on disk.
    pub fn create(&self, id: &str, users: &[String], at: TsMs) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let table = self.db.cf(Table::Erasures);
        let receipt = ErasureReceipt { created_at: at, total: users.len() as u64, ..ErasureReceipt::default() };
        batch.put_cf(table, receipt_key(id), receipt.encode());
        for (number, user) in users.iter().enumerate() {
            batch.put_cf(table, user_key(id, number as u32), user);
        }
        self.db.write_durably(batch, "noting who is to be erased")
    }

    /// The receipt of a call. Blocks on disk.
    pub fn get(&self, id: &str) -> Result<Option<ErasureReceipt>, StoreError> {
        let row = self.db.get(Table::Erasures, &receipt_key(id), "reading a receipt")?;
        row.map(|row| ErasureReceipt::decode(&row).ok_or(CORRUPT)).transpose()
    }

    /// Every call that is known, by id. Blocks on disk.
    pub fn all(&self) -> Result<Vec<(String, ErasureReceipt)>, StoreError> {
        let mut all = Vec::new();
        for row in self.db.rows(Table::Erasures, all_receipts(), "reading the receipts") {
            let (key, value) = row?;
            let id = std::str::from_utf8(&key[1..]).map_err(|_| CORRUPT)?;
            all.push((id.to_owned(), ErasureReceipt::decode(&value).ok_or(CORRUPT)?));
        }
        Ok(all)
    }

    /// Users of a call who are still to be erased, with their numbers, `max` at most. Blocks on disk.
    pub fn waiting(&self, id: &str, max: usize) -> Result<Vec<(u32, String)>, StoreError> {
        let range = user_key(id, 0)..user_key(id, u32::MAX);
        let mut users = Vec::new();
        for row in self.db.rows(Table::Erasures, range, "reading who is to be erased").take(max) {
            let (key, user) = row?;
            let number = key.last_chunk::<4>().copied().map(u32::from_be_bytes).ok_or(CORRUPT)?;
            users.push((number, String::from_utf8(user.into_vec()).map_err(|_| CORRUPT)?));
        }
        Ok(users)
    }

    /// Adds to a batch that users of a call are erased.
    pub(in crate::store) fn done(&self, batch: &mut WriteBatch, id: &str, numbers: &[u32], receipt: &ErasureReceipt) {
        let table = self.db.cf(Table::Erasures);
        batch.put_cf(table, receipt_key(id), receipt.encode());
        numbers.iter().for_each(|number| batch.delete_cf(table, user_key(id, *number)));
    }

    /// Removes receipts of calls that finished before. Blocks on disk.
    pub fn forget_before(&self, before: TsMs) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (id, receipt) in self.all()? {
            if receipt.finished_at.is_some_and(|at| at < before) {
                batch.delete_cf(self.db.cf(Table::Erasures), receipt_key(&id));
            }
        }
        self.db.write(batch, "removing old receipts")
    }
}

/// Whether the bytes are a row of the table.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    match key.split_first() {
        Some((&RECEIPT, id)) => id.len() == ID && ErasureReceipt::decode(value).is_some(),
        Some((&USER, rest)) => rest.len() == ID + 4 && std::str::from_utf8(value).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    #[test]
    fn the_bytes_of_a_row_never_change() {
        let receipt = ErasureReceipt {
            created_at: TsMs(300),
            total: 3,
            done: 2,
            logs: 4,
            events: 5,
            caps: 1,
            finished_at: Some(TsMs(7)),
        };
        let bytes = b"\x01\xac\x02\x03\x02\x04\x05\x01\x07";
        assert_eq!(receipt.encode(), bytes);
        assert_eq!(ErasureReceipt::decode(bytes), Some(receipt));
        assert_eq!(ErasureReceipt::decode(b"\x01\x01\x01\x00\x00\x00\x00\x00").unwrap().finished_at, None);
        for bad in [&b"\x02\x01\x01\x00\x00\x00\x00\x00"[..], &bytes[..7], b""] {
            assert_eq!(ErasureReceipt::decode(bad), None);
        }
        let id = "0".repeat(ID);
        assert!(is_row(&receipt_key(&id), bytes) && is_row(&user_key(&id, 9), b"u1"));
        assert!(!is_row(&receipt_key("x"), bytes) && !is_row(b"", b""));
    }

    #[test]
    fn who_is_to_be_erased_is_known_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let options = || StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() };
        let store = Store::open(&options()).unwrap();
        let (one, two) = ("1".repeat(ID), "2".repeat(ID));
        store.erasures().create(&one, &["a".into(), "b".into(), "c".into()], TsMs(5)).unwrap();
        store.erasures().create(&two, &["d".into()], TsMs(6)).unwrap();
        let mut receipt = store.erasures().get(&one).unwrap().unwrap();
        assert_eq!((receipt.total, receipt.done, receipt.finished_at), (3, 0, None));
        receipt.done = 2;
        store.note_erased(&one, &[0, 2], &receipt, "a", TsMs(7)).unwrap();
        drop(store);
        let store = Store::open(&options()).unwrap();
        assert_eq!(store.erasures().waiting(&one, 9), Ok(vec![(1, "b".to_owned())]));
        assert_eq!(store.erasures().waiting(&two, 9).unwrap().len(), 1);
        receipt = ErasureReceipt { done: 3, finished_at: Some(TsMs(8)), ..receipt };
        store.note_erased(&one, &[1], &receipt, "b", TsMs(8)).unwrap();
        assert_eq!(store.erasures().get(&one), Ok(Some(receipt)));
        store.erasures().forget_before(TsMs(8)).unwrap();
        assert_eq!(store.erasures().all().unwrap().len(), 2);
        store.erasures().forget_before(TsMs(9)).unwrap();
        assert_eq!(store.erasures().all().unwrap().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [two]);
        assert_eq!(store.at_rest().waiting().map(|(_, since)| since), Some(TsMs(7)), "their bytes leave every file");
    }
}
