//! All logs of a shard as of one instant, for whoever counts over all users.

use super::codec::decode_log;
use super::erasing::is_from_before;
use super::log_scan::LogScan;
use super::row::RowKey;
use super::store::Store;
use super::table::Table;
use crate::model::{Log, ShardId};
use std::ops::ControlFlow;

/// How far a scan of a shard came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedShard {
    /// Whether the whole shard was scanned.
    pub whole: bool,
    /// Rows, or runs of them, that could not be read and were left out.
    pub unreadable: u64,
}

impl Store {
    /// Passes the logs of a shard to `each`, with their row keys and in the order of these, as of one instant: without what an
    /// unfinished erasure left, and without rows that cannot be read. Row keys that are not `wanted` are passed without a
    /// log, which spares its decoding, and need not all be passed. Ends where `each` breaks.
    ///
    /// What changed lately is copied at once; everything else is read as it goes, beside the block cache. Blocks on disk.
    pub fn each_log_of_shard(
        &self,
        shard: ShardId,
        wanted: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(&[u8], Option<Log>) -> ControlFlow<()>,
    ) -> ScannedShard {
        let (mut rows, erasing) = loop {
            let erasing = self.erasing.users();
            let rows = LogScan::of_whole_shard((&self.db, &self.overlay), shard, &wanted);
            if self.erasing.are_still(&erasing) {
                break (rows, erasing);
            }
        };
        let (mut whole, mut unreadable) = (true, 0);
        loop {
            let (key, value) = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                // Rows of files that cannot be read are stepped over, and rows of the overlay are copied already.
                Err(error) => {
                    self.db.count_unreadable(Table::Logs, &error);
                    (whole, unreadable) = (false, unreadable + 1);
                    break;
                }
            };
            let mut log = None;
            if wanted(key) {
                match decode_log(value) {
                    Ok(row) => log = Some(row.log),
                    Err(error) => {
                        self.db.count_unreadable(Table::Logs, &error);
                        unreadable += 1;
                    }
                }
                let erased = erasing.until(key);
                log = log.filter(|log| erased.is_none_or(|until| !is_from_before(log, until)));
            }
            if each(key, log).is_break() {
                whole = false;
                break;
            }
        }
        ScannedShard { whole, unreadable: unreadable + rows.gaps() }
    }
}

/// The key of a row key as its bytes stand there: equal for equal keys, and short to compare.
pub fn stored_key(row_key: &[u8]) -> &[u8] {
    &row_key[RowKey::user_prefix(row_key).len()..]
}

/// [`stored_key`] of a key; of a level with the colon after it, what the keys of the level begin with.
pub fn as_stored_key(key: &str) -> Vec<u8> {
    let mut row_key = Vec::new();
    RowKey::write(&mut row_key, "", key);
    stored_key(&row_key).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CapKey, Entry, Kind, SHARDS, TsMs, UserId};
    use crate::store::StoreOptions;
    use std::collections::BTreeMap;

    const T: u64 = 1_732_233_600_000;

    fn put(store: &Store, user: &str, key: &str, ts: u64) {
        let mut log = Log::default();
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(ts), hash: 1 }, 4);
        let mut commit = store.begin_commit();
        let row_key = RowKey::new(&UserId::new(user.to_owned()).unwrap(), &CapKey::new(key.to_owned()).unwrap());
        commit.put_log(row_key.as_bytes(), &log, false);
        commit.write().unwrap();
    }

    fn scan(store: &Store, wanted: &str) -> BTreeMap<(String, String), u64> {
        let prefix = as_stored_key(wanted);
        let mut found = BTreeMap::new();
        for shard in 0..SHARDS {
            let shard = ShardId(shard as u8);
            let is_wanted = |row_key: &[u8]| stored_key(row_key).starts_with(&prefix);
            let scanned = store.each_log_of_shard(shard, is_wanted, |row_key, log| {
                if let Some(log) = log {
                    let (user, key) = RowKey::parse(row_key).unwrap();
                    let before = found.insert((user.to_owned(), key.into_owned()), log.newest().unwrap().0 - T);
                    assert_eq!(before, None, "each once");
                }
                ControlFlow::Continue(())
            });
            assert_eq!(scanned, ScannedShard { whole: true, unreadable: 0 });
        }
        found
    }

    #[test]
    fn a_scan_has_the_newest_of_each_log_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap();
        let mut model = BTreeMap::new();
        for n in 0..600u64 {
            let (user, key) =
                (format!("u{}", n * 7 % 40), format!("{}:{}", ["da", "c", "data"][n as usize % 3], n % 5));
            put(&store, &user, &key, T + n);
            model.insert((user, key), n);
            if n % 100 == 50 {
                store.flusher().flush_all().unwrap();
            }
        }
        for level in ["da:", "c:", "data:", "c:3"] {
            let of_level = model.iter().filter(|((_, key), _)| key.starts_with(level));
            let expected: BTreeMap<_, _> = of_level.map(|(key, age)| (key.clone(), *age)).collect();
            assert_eq!(scan(&store, level), expected, "{level}");
        }
    }

    #[test]
    fn what_an_unfinished_erasure_left_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap();
        put(&store, "u1", "da:1", T);
        put(&store, "u2", "da:1", T);
        store.erasing().begun("u1", TsMs(T + 5));
        assert_eq!(scan(&store, "da:").into_keys().map(|(user, _)| user).collect::<Vec<_>>(), ["u2"]);
        put(&store, "u1", "da:1", T + 6);
        assert_eq!(scan(&store, "da:").len(), 2);
    }

    #[test]
    fn a_scan_ends_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap();
        (0..9).for_each(|n| put(&store, "u1", &format!("da:{n}"), T));
        let shard = ShardId::of_user(b"u1");
        let mut seen = 0;
        let scanned = store.each_log_of_shard(
            shard,
            |_| true,
            |_, _| {
                seen += 1;
                if seen == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!((seen, scanned.whole), (4, false));
    }
}
