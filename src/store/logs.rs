//! The table `logs`: counted events, a row per (user, key).
//!
//! Code outside the store reads logs through these functions and writes them through a [`Commit`](super::Commit), so
//! how they reach the disk can change. A row is looked up in the overlay first, then in RocksDB.

use super::codec::{LogRow, decode_log};
use super::db::{Db, KeyRange};
use super::erasing::{Erasing, is_from_before};
use super::error::{ReadError, StoreError};
use super::log_scan::LogScan;
use super::overlay::{Lookup, Overlay};
use super::room::Room;
use super::row::{RowKey, RowKeys, UserPrefix};
use super::table::Table;
use crate::model::{Log, ShardId, TsMs};
use rocksdb::{DBPinnableSlice, ErrorKind, ReadOptions, ReadTier};
use std::sync::Arc;

/// From this many keys of a user on, a scan of the user's rows replaces a search for each key.
const SCAN_FROM: usize = 8;
/// The scan is given up after this many rows for each key.
const SCAN_ROWS_PER_KEY: usize = 4;

/// Some logs of a user, and where to continue.
#[derive(Debug, Default)]
pub struct UserLogs {
    /// Keys and logs, in the order of the keys.
    pub logs: Vec<(String, LogRow)>,
    /// Continue after this key; `None` at the end.
    pub next: Option<String>,
}

/// The table.
pub struct Logs {
    db: Arc<Db>,
    overlay: Arc<Overlay>,
    erasing: Arc<Erasing>,
}

impl Logs {
    pub(in crate::store) fn new(db: Arc<Db>, overlay: Arc<Overlay>, erasing: Arc<Erasing>) -> Self {
        Self { db, overlay, erasing }
    }

    /// Reads the logs of many row keys. Blocks on disk.
    pub fn get_many<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Option<LogRow>>, StoreError> {
        let mut failed = None;
        let logs = self.read_many(keys, false, |_, error| failed = Some(error));
        failed.map_or(Ok(logs), Err)
    }

    /// The same for row keys in ascending order without repetition, which is faster, and with what an unfinished erasure
    /// left of its user. A log that cannot be read counts
    /// as absent, and its number goes into `unreadable`.
    pub fn get_in_order<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        unreadable: &mut Vec<usize>,
    ) -> Vec<Option<LogRow>> {
        self.read_many(keys, true, |number, error| {
            self.db.count_unreadable(Table::Logs, &error);
            unreadable.push(number);
        })
    }

    fn read_many<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        in_order: bool,
        mut failed: impl FnMut(usize, StoreError),
    ) -> Vec<Option<LogRow>> {
        let mut logs = Vec::new();
        let (mut on_disk, mut numbers): (Vec<&[u8]>, Vec<usize>) = (Vec::new(), Vec::new());
        for (number, key) in keys.into_iter().enumerate() {
            logs.push(match self.overlay.find(key, decode) {
                Lookup::Found(log) => log.unwrap_or_else(|error| {
                    failed(number, error);
                    None
                }),
                Lookup::Absent => None,
                Lookup::MaybeOnDisk => {
                    on_disk.push(key);
                    numbers.push(number);
                    None
                }
            });
        }
        if on_disk.is_empty() {
            return logs;
        }
        let rows = self.db.get_many(Table::Logs, &on_disk, in_order, "reading logs");
        for (number, row) in numbers.into_iter().zip(rows) {
            match row.and_then(decode_row) {
                Ok(log) => logs[number] = log,
                Err(error) => failed(number, error),
            }
        }
        logs
    }

    /// Passes up to `max` logs of a shard to `each`, after a row key or from the first, in the order of the row keys.
    /// Logs that cannot be read are left out. Returns the last row key, and whether the shard ends there. Blocks on
    /// disk.
    pub fn scan(
        &self,
        shard: ShardId,
        after: Option<&[u8]>,
        max: usize,
        mut each: impl FnMut(&[u8], LogRow),
    ) -> Result<(Option<Vec<u8>>, bool), StoreError> {
        let mut rows = LogScan::of_shard(self.parts(), shard, after);
        let mut count = 0;
        while let Some((key, value)) = rows.next()? {
            match decode_log(value) {
                Ok(log) => each(key, log),
                Err(error) => self.db.count_unreadable(Table::Logs, &error),
            }
            count += 1;
            if count == max {
                return Ok((Some(key.to_vec()), false));
            }
        }
        Ok((None, true))
    }

    /// Reads logs of one user in one consistent view, in the order given. Blocks on disk.
    pub fn at_once(&self, keys: &RowKeys, room: &mut impl Room) -> Result<Vec<Option<LogRow>>, ReadError> {
        self.view(keys, ReadTier::All, room).map_err(|error| match error {
            ReadError::WouldBlock => StoreError::Corrupt { table: "logs", what: "a row is empty" }.into(),
            error => error,
        })
    }

    /// The same, from memory only: overlay, write buffers and block cache.
    pub fn at_once_in_memory(&self, keys: &RowKeys, room: &mut impl Room) -> Result<Vec<Option<LogRow>>, ReadError> {
        self.view(keys, ReadTier::BlockCache, room)
    }

    fn view(&self, keys: &RowKeys, tier: ReadTier, room: &mut impl Room) -> Result<Vec<Option<LogRow>>, ReadError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mark = room.mark();
        let read = self.view_in(keys, tier, room);
        if matches!(read, Err(ReadError::WouldBlock)) {
            room.back_to(mark);
        }
        read
    }

    fn view_in(&self, keys: &RowKeys, tier: ReadTier, room: &mut impl Room) -> Result<Vec<Option<LogRow>>, ReadError> {
        if !room.take(keys.len() * size_of::<Option<LogRow>>()) {
            return Err(ReadError::NoRoom);
        }
        let mark = room.mark();
        loop {
            room.back_to(mark);
            let mut logs = vec![None; keys.len()];
            let erasing = self.erasing.users();
            let mut on_disk = Vec::new();
            let view = self.overlay.view(ShardId(keys.get(0)[0]));
            for (number, key) in keys.iter().enumerate() {
                match view.find(key) {
                    Lookup::Found(row) => logs[number] = take_in(decode(row)?, room)?,
                    Lookup::Absent => {}
                    Lookup::MaybeOnDisk => on_disk.push(number),
                }
            }
            let freezes = self.overlay.freezes();
            drop(view);
            self.read_files((keys, &on_disk), tier, &mut logs, room)?;
            // A row that was not in the overlay changes in RocksDB only by a flush, and the flush of anything newer
            // than the view begins with a freeze. So without a freeze, all of this is from the instant of the view. (A
            // single row is consistent anyway.)
            if keys.len() == 1 || (self.overlay.freezes() == freezes && self.erasing.are_still(&erasing)) {
                if let Some(until) = erasing.until(keys.get(0)) {
                    logs.iter_mut().for_each(|log| *log = log.take().filter(|row| !is_from_before(&row.log, until)));
                }
                return Ok(logs);
            }
        }
    }

    /// Reads the logs that are not in the overlay.
    fn read_files(
        &self,
        (keys, numbers): (&RowKeys, &[usize]),
        tier: ReadTier,
        logs: &mut [Option<LogRow>],
        room: &mut impl Room,
    ) -> Result<(), ReadError> {
        if numbers.len() >= SCAN_FROM {
            let mark = room.mark();
            if self.scan_for((keys, numbers), tier, logs, room)? {
                return Ok(());
            }
            // Rows already found are read again, with the same result.
            numbers.iter().for_each(|&number| logs[number] = None);
            room.back_to(mark);
        }
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        for &number in numbers {
            // Key by key: from memory, RocksDB's batched multi-get has been seen to answer "found, empty" where it
            // would have to read a block. No log is empty, so such an answer counts as "not in memory".
            logs[number] = match self.db.rocks.get_pinned_cf_opt(self.db.cf(Table::Logs), keys.get(number), &options) {
                Ok(Some(row)) if row.is_empty() => return Err(ReadError::WouldBlock),
                Ok(row) => take_in(decode_row(row)?, room)?,
                Err(error) if error.kind() == ErrorKind::Incomplete => return Err(ReadError::WouldBlock),
                Err(error) => return Err(ReadError::Store(StoreError::rocks("reading logs")(error))),
            };
        }
        Ok(())
    }

    /// Scans all rows of the user for the keys, if there are not many more rows than keys: a scan is cheaper than a
    /// search for each key. Returns whether it did.
    fn scan_for(
        &self,
        (keys, numbers): (&RowKeys, &[usize]),
        tier: ReadTier,
        logs: &mut [Option<LogRow>],
        room: &mut impl Room,
    ) -> Result<bool, ReadError> {
        let prefix = UserPrefix::of_row_key(keys.get(0));
        let mut wanted = numbers.to_vec();
        wanted.sort_unstable_by_key(|&number| keys.get(number));
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        options.set_iterate_range(prefix.rows());
        let mut rows = self.db.rocks.raw_iterator_cf_opt(self.db.cf(Table::Logs), options);
        rows.seek(keys.get(wanted[0]));
        let mut wanted = wanted.into_iter().peekable();
        for _ in 0..SCAN_ROWS_PER_KEY * numbers.len() {
            let Some((key, value)) = rows.item() else {
                return match rows.status() {
                    Ok(()) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::Incomplete => Err(ReadError::WouldBlock),
                    // A row in between may be unreadable. The search by key finds out which.
                    Err(_) => Ok(false),
                };
            };
            while let Some(&number) = wanted.peek()
                && keys.get(number) <= key
            {
                if keys.get(number) == key {
                    logs[number] = take_in(Some(decode_log(value)?), room)?;
                }
                wanted.next();
            }
            if wanted.peek().is_none() {
                return Ok(true);
            }
            rows.next();
        }
        Ok(false)
    }

    /// Up to `max` logs of one user after a key, or from the first, in the order of the row keys. Ends early once they
    /// have `max_entries` entries and reservations. Blocks on disk.
    pub fn of_user_after(
        &self,
        user: &str,
        after: Option<&str>,
        max: usize,
        max_entries: usize,
        room: &mut impl Room,
    ) -> Result<UserLogs, ReadError> {
        let prefix = UserPrefix::new(user);
        let mut range = prefix.rows();
        if let Some(after) = after {
            range.start = RowKey::sibling(&range.start, after);
            range.start.push(0);
        }
        let mut page = UserLogs::default();
        let mut entries = 0;
        let (mut rows, erased_until) = self.scan_user(&prefix, range);
        while let Some((key, value)) = rows.next()? {
            if page.logs.len() == max || entries >= max_entries {
                page.next = page.logs.last().map(|(key, _)| key.clone());
                break;
            }
            let key = RowKey::key_of(key).ok_or(NO_ROW_KEY)?;
            let row = decode_log(value)?;
            if erased_until.is_some_and(|until| is_from_before(&row.log, until)) {
                continue;
            }
            entries += row.log.sections.iter().map(|it| it.entries.len() + it.reservations.len()).sum::<usize>();
            if !room.take(size_of::<(String, LogRow)>() + key.len() + row.bytes()) {
                return Err(ReadError::NoRoom);
            }
            page.logs.push((key.into_owned(), row));
        }
        Ok(page)
    }

    /// Passes every log of one user to `each` with its key, in the order of keys, in one consistent view, until `each`
    /// returns false. Memory stays bounded however many there are. Blocks on disk.
    pub fn of_user(&self, user: &str, mut each: impl FnMut(&str, Log) -> bool) -> Result<(), StoreError> {
        let prefix = UserPrefix::new(user);
        let (mut rows, erased_until) = self.scan_user(&prefix, prefix.rows());
        // Row keys sort ads before other levels; keys do not.
        for range in prefix.rows_by_key() {
            rows.go_to(range);
            while let Some((key, value)) = rows.next()? {
                let log = decode_log(value)?.log;
                let is_erased = erased_until.is_some_and(|until| is_from_before(&log, until));
                if !is_erased && !each(&RowKey::key_of(key).ok_or(NO_ROW_KEY)?, log) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Logs of a user as of one instant, and up to when the user was being erased then.
    fn scan_user(&self, prefix: &UserPrefix, range: KeyRange) -> (LogScan<'_>, Option<TsMs>) {
        loop {
            let erasing = self.erasing.users();
            let rows = LogScan::of_user(self.parts(), prefix, range.clone());
            if self.erasing.are_still(&erasing) {
                return (rows, erasing.until(prefix.as_bytes()));
            }
        }
    }

    /// The logs of one user in a range, except those that cannot be read, and those that an unfinished erasure left.
    /// Blocks on disk.
    pub(in crate::store) fn readable_from(&self, prefix: &UserPrefix, range: KeyRange) -> LogScan<'_> {
        LogScan::readable_from(self.parts(), prefix, range)
    }

    fn parts(&self) -> (&Db, &Overlay) {
        (&self.db, &self.overlay)
    }
}

/// Takes memory for a row that was read.
fn take_in(row: Option<LogRow>, room: &mut impl Room) -> Result<Option<LogRow>, ReadError> {
    let bytes = row.as_ref().map_or(0, LogRow::bytes);
    if bytes == 0 || room.take(bytes) { Ok(row) } else { Err(ReadError::NoRoom) }
}

const NO_ROW_KEY: StoreError = StoreError::Corrupt { table: "logs", what: "a row key is none" };

/// Decodes a row of the overlay; an empty one means that the log was removed.
fn decode(row: &[u8]) -> Result<Option<LogRow>, StoreError> {
    if row.is_empty() { Ok(None) } else { decode_log(row).map(Some) }
}

fn decode_row(row: Option<DBPinnableSlice<'_>>) -> Result<Option<LogRow>, StoreError> {
    row.map(|row| decode_log(&row)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what is taken.
    #[derive(Default)]
    struct Counting(usize);

    impl Room for Counting {
        fn take(&mut self, bytes: usize) -> bool {
            self.0 += bytes;
            true
        }

        fn could_fit(&self) -> bool {
            true
        }

        fn mark(&self) -> usize {
            self.0
        }

        fn back_to(&mut self, mark: usize) {
            self.0 = mark;
        }
    }

    /// By a search for each key, by a pass that finds all, and by one that is given up: from memory first, then from disk.
    #[test]
    fn a_read_takes_the_room_of_what_it_gives_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap();
        let user = UserId::new("u").unwrap();
        let mut commit = store.begin_commit();
        for ad in 0..2_000u64 {
            let mut log = Log::default();
            for n in 0..20 {
                log.insert(Kind::IMPRESSION, Entry { ts: TsMs(1_732_233_600_000 + n), hash: ad * 20 + n + 1 }, 256);
            }
            commit.put_log(RowKey::new(&user, &CapKey::new(format!("da:{ad:04}")).unwrap()).as_bytes(), &log, false);
        }
        commit.write().unwrap();
        store.flusher().flush_all().unwrap();
        for step in [1, 3, 150] {
            let mut keys = RowKeys::default();
            (0..12).for_each(|n| keys.push("u", &format!("da:{:04}", n * step)));
            let mut room = Counting(1_000);
            match store.logs().at_once_in_memory(&keys, &mut room) {
                Err(ReadError::WouldBlock) => assert_eq!(room.0, 1_000),
                Err(error) => panic!("{error}"),
                Ok(_) => room.back_to(1_000),
            }
            let logs = store.logs().at_once(&keys, &mut room).unwrap();
            let given = logs.iter().flatten().map(LogRow::bytes).sum::<usize>() + 12 * size_of::<Option<LogRow>>();
            assert!(given > 12 * 20 * size_of::<Entry>());
            assert_eq!(room.0 - 1_000, given, "{step}");
        }
    }
    use crate::model::{CapKey, Entry, Kind, TsMs, UserId};
    use crate::store::{ByteSize, Store, StoreOptions, Unbounded};

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
            overlay_size: ByteSize(64 << 10),
            ..StoreOptions::default()
        };
        let store = Store::open(&options).unwrap();
        let (mut read, mut blocked) = (0, 0);
        for round in 0..8 {
            for users in (0..USERS).collect::<Vec<_>>().chunks(1_000) {
                let mut commit = store.begin_commit();
                for user in users.iter().filter(|user| *user % 2 == 0) {
                    let mut log = Log::default();
                    for n in 0..=round {
                        let entry = Entry { ts: TsMs(1_732_233_600_000 + user + n), hash: user * 31 + n + 1 };
                        log.insert(Kind::IMPRESSION, entry, 256);
                    }
                    commit.put_log(row_key(*user).as_bytes(), &log, false);
                }
                commit.write().unwrap();
                for n in 0..500u64 {
                    let mut keys = RowKeys::default();
                    let user = format!("user-{}", n * 7_919 % USERS);
                    keys.push(&user, "da:1");
                    keys.push(&user, "da:2");
                    match store.logs().at_once_in_memory(&keys, &mut Unbounded) {
                        Ok(rows) => {
                            read += 1;
                            assert_eq!(rows, store.logs().get_many(keys.iter()).unwrap());
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
            let mut commit = store.begin_commit();
            for ad in 0..rows {
                let mut log = Log::default();
                log.insert(Kind::IMPRESSION, Entry { ts: TsMs(1_732_233_600_000 + ad), hash: ad + 1 }, 256);
                let row_key = RowKey::new(&UserId::new(&*user).unwrap(), &CapKey::new(format!("da:{ad}")).unwrap());
                commit.put_log(row_key.as_bytes(), &log, false);
            }
            commit.write().unwrap();
            for asked in [1, SCAN_FROM as u64, 300, 301] {
                // At last from a file.
                if asked == 301 {
                    store.flusher().flush_all().unwrap();
                }
                let mut keys = RowKeys::default();
                for n in 0..asked {
                    keys.push(&user, &format!("da:{}", n * 7 % 2_500));
                    keys.push(&user, &format!("c:{}", n % 5));
                    keys.push(&user, &format!("da:{}", asked - n));
                }
                let searched = store.logs().get_many(keys.iter()).unwrap();
                assert_eq!(store.logs().at_once(&keys, &mut Unbounded).unwrap(), searched);
                assert_eq!(store.logs().at_once_in_memory(&keys, &mut Unbounded).unwrap(), searched);
            }
        }
    }
}
