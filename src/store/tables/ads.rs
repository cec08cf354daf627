//! The table `ads`: the catalogue, which keys each ad has. It names no users.
//!
//! A row for each ad (`a`, ad), one for each of its keys (`k`, key, 0, ad), by which the ads of a key are found, and one where held
//! events are to be counted under its keys (`b`, ad). No id has a zero byte.

use crate::model::{MAX_KEYS, TsMs};
use crate::store::codec::{put_varint, take_bytes, take_varint};
use crate::store::db::{Db, KeyRange};
use crate::store::error::StoreError;
use crate::store::table::Table;
use crate::store::tables::audit::{Audit, AuditEntry};
use rocksdb::WriteBatch;
use smallvec::SmallVec;
use std::sync::Arc;

/// The version of a row's value.
const VERSION: u8 = 1;
const AD: u8 = b'a';
const BY_KEY: u8 = b'k';
const BACKFILL: u8 = b'b';
/// How far the backfill under way is.
const PASS_FIELD: &[u8] = b"ads_backfill";
/// The revision of the catalogue: it rises with every change.
const REVISION_FIELD: &[u8] = b"ads_revision";

/// An ad of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdRow {
    /// The revision of the catalogue when it was changed last.
    pub revision: u64,
    /// Its keys besides its own, in the order given.
    pub keys: Vec<String>,
    /// What people call it.
    pub name: Option<String>,
}

/// A change of one ad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdChange {
    /// The ad.
    pub da: String,
    /// What the catalogue has of it; `None`: nothing.
    pub before: Option<AdRow>,
    /// What it has from now on; `None`: nothing.
    pub after: Option<AdRow>,
    /// Whether held events are to be counted under its keys.
    pub backfill: Backfill,
}

/// What becomes of the backfill of an ad that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backfill {
    /// There is none from now on.
    #[default]
    None,
    /// The one that there is, or none, stays.
    Keep,
    /// It begins.
    Begin,
}

/// How far the backfill of an ad is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillRow {
    /// The revision of the catalogue that began it.
    pub revision: u64,
    /// Whether it is done.
    pub is_done: bool,
}

impl BackfillRow {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.is_done)];
        put_varint(&mut out, self.revision);
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let [VERSION, is_done @ 0..=1, rest @ ..] = value else { return None };
        let mut rest = rest;
        let revision = take_varint(&mut rest)?;
        rest.is_empty().then_some(Self { revision, is_done: *is_done == 1 })
    }
}

/// The pass over all logs that is under way, or was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackfillPass {
    /// It serves the backfills that began up to this revision.
    pub revision: u64,
    /// Shards that it is done with.
    pub shards: u64,
}

/// A change of the catalogue: one write, with the line that tells of it.
#[derive(Debug, Clone)]
pub struct AdsChange<'c> {
    /// The revision from now on.
    pub revision: u64,
    /// The ads that change. Each once.
    pub ads: &'c [AdChange],
    /// Whether all other ads are removed. Then every ad that stays must be in `ads`.
    pub replace: bool,
    /// When it is made.
    pub at: TsMs,
    /// Its lines of the audit.
    pub lines: &'c [AuditEntry],
}

impl AdRow {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.revision);
        put_varint(&mut out, self.keys.len() as u64);
        for key in &self.keys {
            put_text(&mut out, key);
        }
        if let Some(name) = &self.name {
            put_text(&mut out, name);
        }
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut keys = Vec::new();
        let (revision, name) = parts(value, |key| keys.push(key.to_owned()))?;
        Some(Self { revision, keys, name: name.map(str::to_owned) })
    }
}

/// Reads a row's value without copying it: gives each key to `each`; returns the revision and the name.
fn parts<'v>(value: &'v [u8], mut each: impl FnMut(&'v str)) -> Option<(u64, Option<&'v str>)> {
    let (&VERSION, mut rest) = value.split_first()? else { return None };
    let revision = take_varint(&mut rest)?;
    for _ in 0..take_varint(&mut rest)? {
        each(take_text(&mut rest)?);
    }
    let name = if rest.is_empty() { None } else { Some(take_text(&mut rest)?) };
    rest.is_empty().then_some((revision, name))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'v>(rest: &mut &'v [u8]) -> Option<&'v str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}

fn ad_key(da: &str) -> Vec<u8> {
    [&[AD], da.as_bytes()].concat()
}

fn backfill_key(da: &str) -> Vec<u8> {
    [&[BACKFILL], da.as_bytes()].concat()
}

fn by_key(key: &str, da: &str) -> Vec<u8> {
    [&[BY_KEY], key.as_bytes(), &[0], da.as_bytes()].concat()
}

/// Every row that begins like this.
fn beginning(prefix: &[u8]) -> KeyRange {
    // No prefix here ends with 255.
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    prefix.to_vec()..end
}

const CORRUPT: StoreError = StoreError::Corrupt { table: "ads", what: "a row cannot be read" };

/// The table.
pub struct Ads {
    db: Arc<Db>,
    audit: Arc<Audit>,
}

impl Ads {
    pub(in crate::store) fn new(db: Arc<Db>, audit: Arc<Audit>) -> Self {
        Self { db, audit }
    }

    /// The revision of the catalogue; 0 in a new store. Blocks on disk.
    pub fn revision(&self) -> Result<u64, StoreError> {
        let value = self.db.rocks.get(REVISION_FIELD).map_err(StoreError::rocks("reading a field of the store"))?;
        let corrupt = StoreError::Corrupt { table: "default", what: "the revision of the catalogue is not 8 bytes" };
        value.map_or(Ok(0), |value| value.try_into().map(u64::from_be_bytes).map_err(|_| corrupt))
    }

    /// An ad. Blocks on disk.
    pub fn get(&self, da: &str) -> Result<Option<AdRow>, StoreError> {
        let row = self.db.get(Table::Ads, &ad_key(da), "reading an ad")?;
        row.map(|row| AdRow::decode(&row).ok_or(CORRUPT)).transpose()
    }

    /// Gives every ad and its keys to `each`, by ad. Blocks on disk.
    pub fn each(&self, mut each: impl FnMut(&str, &[&str])) -> Result<(), StoreError> {
        let range = beginning(&[AD]);
        let mut rows = self.db.raw_rows(Table::Ads, range, false);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            each_row(key, value, &mut each)?;
            rows.next();
        }
        rows.status().map_err(StoreError::rocks("reading the catalogue"))
    }

    /// Ads after one, by ad: all, or those that have a key; `max` at most. Blocks on disk.
    pub fn page(&self, key: Option<&str>, after: Option<&str>, max: usize) -> Result<Vec<(String, AdRow)>, StoreError> {
        let prefix = key.map_or_else(|| vec![AD], |key| by_key(key, ""));
        let mut range = beginning(&prefix);
        if let Some(after) = after {
            // The first row that sorts after it.
            range.start = [&prefix, after.as_bytes(), &[0]].concat();
        }
        let mut page = Vec::new();
        for row in self.db.rows(Table::Ads, range, "reading the catalogue").take(max) {
            let (row_key, value) = row?;
            let da = std::str::from_utf8(&row_key[prefix.len()..]).map_err(|_| CORRUPT)?;
            let ad = match key {
                None => AdRow::decode(&value),
                // Removed since: the two were read one after the other.
                Some(_) => match self.get(da)? {
                    Some(ad) => Some(ad),
                    None => continue,
                },
            };
            page.push((da.to_owned(), ad.ok_or(CORRUPT)?));
        }
        Ok(page)
    }

    /// How far the backfill of an ad is, if there was one since it changed last. Blocks on disk.
    pub fn backfill(&self, da: &str) -> Result<Option<BackfillRow>, StoreError> {
        let row = self.db.get(Table::Ads, &backfill_key(da), "reading a backfill")?;
        row.map(|row| BackfillRow::decode(&row).ok_or(CORRUPT)).transpose()
    }

    /// The ads whose backfill is not done, by ad. Blocks on disk.
    pub fn backfills(&self) -> Result<Vec<(String, BackfillRow)>, StoreError> {
        let mut all = Vec::new();
        for row in self.db.rows(Table::Ads, beginning(&[BACKFILL]), "reading the backfills") {
            let (key, value) = row?;
            let da = std::str::from_utf8(&key[1..]).map_err(|_| CORRUPT)?;
            let row = BackfillRow::decode(&value).ok_or(CORRUPT)?;
            if !row.is_done {
                all.push((da.to_owned(), row));
            }
        }
        Ok(all)
    }

    /// The pass that is under way, or was last. Blocks on disk.
    pub fn pass(&self) -> Result<BackfillPass, StoreError> {
        let value = self.db.rocks.get(PASS_FIELD).map_err(StoreError::rocks("reading a field of the store"))?;
        let corrupt = StoreError::Corrupt { table: "default", what: "the pass of backfills cannot be read" };
        let Some(value) = value else { return Ok(BackfillPass::default()) };
        let mut rest = &value[..];
        let fields = take_varint(&mut rest).zip(take_varint(&mut rest));
        fields.map(|(revision, shards)| BackfillPass { revision, shards }).ok_or(corrupt)
    }

    /// Stores how far a pass is, and which backfills it ends. Blocks on disk.
    pub fn put_pass(&self, pass: BackfillPass, done: &[(String, BackfillRow)]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        put_varint(&mut value, pass.revision);
        put_varint(&mut value, pass.shards);
        batch.put(PASS_FIELD, value);
        for (da, row) in done {
            batch.put_cf(self.db.cf(Table::Ads), backfill_key(da), BackfillRow { is_done: true, ..*row }.encode());
        }
        self.db.write(batch, "noting how far a backfill is")
    }

    /// Writes a change, all of it or nothing. Durable when it returns. Blocks on disk.
    pub fn write(&self, change: &AdsChange<'_>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let table = self.db.cf(Table::Ads);
        batch.put(REVISION_FIELD, change.revision.to_be_bytes());
        if change.replace {
            for tag in [AD, BY_KEY] {
                let all = beginning(&[tag]);
                batch.delete_range_cf(table, &all.start, &all.end);
            }
        }
        for AdChange { da, before, after, backfill } in change.ads {
            let (had, has) = (keys_of(before.as_ref()), keys_of(after.as_ref()));
            // A range that is removed takes what was there before with it.
            let had = if change.replace { &[] } else { had };
            for key in had.iter().filter(|key| !has.contains(key)) {
                batch.delete_cf(table, by_key(key, da));
            }
            for key in has.iter().filter(|key| !had.contains(key)) {
                batch.put_cf(table, by_key(key, da), []);
            }
            let revision = change.revision;
            match backfill {
                Backfill::None => batch.delete_cf(table, backfill_key(da)),
                Backfill::Keep => {}
                Backfill::Begin => {
                    batch.put_cf(table, backfill_key(da), BackfillRow { revision, is_done: false }.encode());
                }
            }
            match after {
                Some(after) => batch.put_cf(table, ad_key(da), after.encode()),
                None => batch.delete_cf(table, ad_key(da)),
            }
        }
        let lines = self.audit.add(&mut batch, change.at, change.lines)?;
        self.db.write_durably(batch, "writing the catalogue")?;
        lines.written();
        Ok(())
    }
}

fn each_row(key: &[u8], value: &[u8], each: &mut impl FnMut(&str, &[&str])) -> Result<(), StoreError> {
    let da = key.get(1..).and_then(|da| std::str::from_utf8(da).ok()).ok_or(CORRUPT)?;
    let mut keys: SmallVec<[&str; MAX_KEYS]> = SmallVec::new();
    parts(value, |key| keys.push(key)).ok_or(CORRUPT)?;
    each(da, &keys);
    Ok(())
}

fn keys_of(ad: Option<&AdRow>) -> &[String] {
    ad.map_or(&[], |ad| &ad.keys)
}

/// Whether the bytes are a row of the table.
pub(in crate::store) fn is_row(key: &[u8], value: &[u8]) -> bool {
    match key.split_first() {
        Some((&AD, da)) => std::str::from_utf8(da).is_ok() && AdRow::decode(value).is_some(),
        Some((&BACKFILL, da)) => std::str::from_utf8(da).is_ok() && BackfillRow::decode(value).is_some(),
        Some((&BY_KEY, rest)) => std::str::from_utf8(rest).is_ok() && rest.contains(&0) && value.is_empty(),
        _ => false,
    }
}

/// A row that is read is written as it was, and is cut nowhere.
#[cfg(any(test, fuzzing))]
pub(in crate::store) fn checked(bytes: &[u8]) {
    let Some(row) = AdRow::decode(bytes) else { return };
    let written = row.encode();
    assert!(written.len() <= bytes.len());
    assert_eq!(AdRow::decode(&written), Some(row));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    fn row(revision: u64, keys: &[&str], name: Option<&str>) -> AdRow {
        AdRow { revision, keys: keys.iter().map(|key| (*key).to_owned()).collect(), name: name.map(str::to_owned) }
    }

    #[test]
    fn the_bytes_of_a_row_never_change() {
        for (row, bytes) in [
            (row(0, &[], None), &b"\x01\x00\x00"[..]),
            (row(300, &["c:1", "a:22"], None), &b"\x01\xac\x02\x02\x03c:1\x04a:22"[..]),
            (row(1, &["c:1"], Some("Shoes")), &b"\x01\x01\x01\x03c:1\x05Shoes"[..]),
        ] {
            assert_eq!(row.encode(), bytes);
            assert_eq!(AdRow::decode(bytes), Some(row));
            assert!(is_row(b"a77", bytes) && !is_row(b"77", bytes));
            for cut in 1..bytes.len() {
                assert!(AdRow::decode(&bytes[..cut]).is_none_or(|row| row.name.is_none()), "cut at {cut}");
            }
            checked(bytes);
        }
        assert_eq!(AdRow::decode(b"\x02\x00\x00"), None, "a newer version");
        assert_eq!((ad_key("77"), by_key("c:1", "77")), (b"a77".to_vec(), b"kc:1\x0077".to_vec()));
        assert!(is_row(b"kc:1\x0077", b"") && !is_row(b"kc:1", b""));
    }

    #[test]
    fn the_bytes_of_a_backfill_never_change() {
        for (row, bytes) in [
            (BackfillRow { revision: 300, is_done: false }, &b"\x01\x00\xac\x02"[..]),
            (BackfillRow { revision: 1, is_done: true }, &b"\x01\x01\x01"[..]),
        ] {
            assert_eq!((row.encode().as_slice(), BackfillRow::decode(bytes)), (bytes, Some(row)));
            assert!(is_row(b"b77", bytes));
        }
        assert_eq!((BackfillRow::decode(b"\x01\x02\x01"), BackfillRow::decode(b"\x01\x00")), (None, None));
    }

    fn all(store: &Store) -> Vec<(String, AdRow)> {
        store.ads().page(None, None, 100).unwrap()
    }

    fn das(store: &Store, key: &str, after: Option<&str>, max: usize) -> Vec<String> {
        store.ads().page(Some(key), after, max).unwrap().into_iter().map(|(da, _)| da).collect()
    }

    #[test]
    fn ads_are_found_by_themselves_and_by_their_keys_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let options = || StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() };
        let store = Store::open(&options()).unwrap();
        assert_eq!((store.ads().revision(), store.ads().get("1")), (Ok(0), Ok(None)));
        let write = |store: &Store, revision: u64, ads: &[AdChange], replace: bool| {
            let change = AdsChange { revision, ads, replace, at: TsMs(7), lines: &[] };
            store.ads().write(&change).unwrap();
        };
        let put = |da: &str, before: Option<AdRow>, after: Option<AdRow>| AdChange {
            da: da.to_owned(),
            before,
            after,
            backfill: Backfill::None,
        };
        let (one, two) = (row(1, &["c:1", "a:1"], None), row(1, &["c:1"], Some("two")));
        write(&store, 1, &[put("1", None, Some(one.clone())), put("2", None, Some(two.clone()))], false);
        assert_eq!(das(&store, "c:1", None, 10), ["1", "2"]);
        assert_eq!(
            (das(&store, "c:1", Some("1"), 10), das(&store, "c:1", None, 1)),
            (vec!["2".into()], vec!["1".into()])
        );
        assert_eq!(das(&store, "c:", None, 10), [""; 0]);
        let changed = row(2, &["a:1", "c:2"], None);
        write(&store, 2, &[put("1", Some(one), Some(changed.clone()))], false);
        drop(store);
        let store = Store::open(&options()).unwrap();
        assert_eq!(store.ads().revision(), Ok(2));
        assert_eq!(all(&store), [("1".to_owned(), changed.clone()), ("2".to_owned(), two.clone())]);
        assert_eq!((das(&store, "c:1", None, 9), das(&store, "a:1", None, 9)), (vec!["2".into()], vec!["1".into()]));
        let mut loaded = Vec::new();
        store.ads().each(|da, keys| loaded.push(format!("{da} {}", keys.join(" ")))).unwrap();
        assert_eq!(loaded, ["1 a:1 c:2", "2 c:1"]);
        // All others go, and with them the rows by their keys.
        let three = row(3, &["c:1"], None);
        write(&store, 3, &[put("1", Some(changed.clone()), Some(changed.clone())), put("3", None, Some(three))], true);
        assert_eq!(all(&store).iter().map(|(da, _)| da.as_str()).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((das(&store, "c:1", None, 9), das(&store, "c:2", None, 9)), (vec!["3".into()], vec!["1".into()]));
        write(&store, 4, &[put("1", Some(changed), None)], false);
        assert_eq!(das(&store, "a:1", None, 9), [""; 0]);
    }
}
