//! RocksDB as the store uses it: tables, reads that count damage, and writes that stop for good after a failure.

use super::error::StoreError;
use super::position::{Known, Position};
use super::promised_logs::PromisedLogs;
use super::table::Table;
use super::tap::Tap;
use super::wal;
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, DBPinnableSlice, DBRawIterator, IteratorMode,
    ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The bounds of a scan; the end is exclusive.
pub(in crate::store) type KeyRange = Range<Vec<u8>>;

/// A key and a value that are owned.
pub(in crate::store) type OwnedRow = (Box<[u8]>, Box<[u8]>);

/// The open database. Shared by all tables.
pub(in crate::store) struct Db {
    pub rocks: DB,
    /// `None` in memory.
    dir: Option<PathBuf>,
    cache: Cache,
    write_buffers: WriteBufferManager,
    sync: SyncState,
    poison: Poison,
    /// The writes that wait to be shipped.
    pub(in crate::store) tap: Tap,
    /// How often something could not be read.
    unreadable_rows: AtomicU64,
}

/// How much of the write-ahead log is known to be on disk.
struct SyncState {
    /// `None` in memory.
    position: Option<Position>,
    /// `None` in memory.
    logs: Option<PromisedLogs>,
    /// Everything up to this RocksDB sequence is synced.
    synced_seq: AtomicU64,
}

/// Set when a write or sync fails; never cleared.
#[derive(Default)]
struct Poison {
    is_set: AtomicBool,
    /// Wakes writers that wait for a flush.
    on_set: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Db {
    pub(in crate::store) fn new(
        rocks: DB,
        dir: Option<PathBuf>,
        cache: Cache,
        write_buffers: WriteBufferManager,
        position: Option<Position>,
    ) -> Self {
        let logs = dir.as_deref().map(PromisedLogs::begin);
        let sync = SyncState { position, logs, synced_seq: AtomicU64::new(0) };
        Self {
            rocks,
            dir,
            cache,
            write_buffers,
            sync,
            poison: Poison::default(),
            tap: Tap::default(),
            unreadable_rows: AtomicU64::new(0),
        }
    }

    pub(in crate::store) fn cf(&self, table: Table) -> &ColumnFamily {
        // All tables are created when the store is opened.
        self.rocks.cf_handle(table.name()).unwrap_or_else(|| panic!("table {} is open", table.name()))
    }

    pub(in crate::store) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    pub(in crate::store) fn get(
        &self,
        table: Table,
        key: &[u8],
        doing: &'static str,
    ) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.rocks.get_pinned_cf(self.cf(table), key).map_err(StoreError::rocks(doing))
    }

    /// Reads many rows, in the order given. `in_order` if the keys ascend without repetition, which is faster.
    pub(in crate::store) fn get_many(
        &self,
        table: Table,
        keys: &[&[u8]],
        in_order: bool,
        doing: &'static str,
    ) -> Vec<Result<Option<DBPinnableSlice<'_>>, StoreError>> {
        let rows = self.rocks.batched_multi_get_cf(self.cf(table), keys, in_order);
        let mut answers = Vec::with_capacity(rows.len());
        for (row, key) in rows.into_iter().zip(keys) {
            // Read alone, a key may be found while the multi-get fails: RocksDB does not look into the damaged file for
            // a row that a tombstone hides.
            answers
                .push(row.or_else(|_| self.rocks.get_pinned_cf(self.cf(table), key)).map_err(StoreError::rocks(doing)));
        }
        answers
    }

    /// The rows of a range, in order. Ends with an error at the first row that cannot be read.
    pub(in crate::store) fn rows(
        &self,
        table: Table,
        range: KeyRange,
        doing: &'static str,
    ) -> impl Iterator<Item = Result<OwnedRow, StoreError>> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        let rows = self.rocks.iterator_cf_opt(self.cf(table), options, IteratorMode::Start);
        rows.map(move |row| row.map_err(StoreError::rocks(doing)))
    }

    /// An iterator over a range, before its first row.
    pub(in crate::store) fn raw_rows(&self, table: Table, range: KeyRange, fill_cache: bool) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        options.fill_cache(fill_cache);
        self.rocks.raw_iterator_cf_opt(self.cf(table), options)
    }

    /// Writes a batch, all of it or nothing. It survives the end of the process, and a power cut once a later
    /// [`Db::sync`] has returned. Poisons the store on failure.
    pub(in crate::store) fn write(&self, batch: WriteBatch, doing: &'static str) -> Result<(), StoreError> {
        self.write_with(batch, &WriteOptions::default(), doing)
    }

    /// As [`Db::write`], and durable when it returns.
    pub(in crate::store) fn write_durably(&self, batch: WriteBatch, doing: &'static str) -> Result<(), StoreError> {
        self.write(batch, doing)?;
        self.sync()
    }

    pub(in crate::store) fn write_with(
        &self,
        batch: WriteBatch,
        options: &WriteOptions,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        if batch.is_empty() {
            return Ok(());
        }
        let write = |batch| self.rocks.write_opt(batch, options).map_err(StoreError::rocks(doing));
        self.tap.write(&self.rocks, batch, write).inspect_err(|_| self.poison())
    }

    /// Whether a write or sync failed. From then on nothing is written, since RocksDB's memory may differ from its
    /// disk. Reads go on.
    pub(in crate::store) fn is_poisoned(&self) -> bool {
        self.poison.is_set.load(Ordering::Acquire)
    }

    pub(in crate::store) fn refuse_if_poisoned(&self) -> Result<(), StoreError> {
        if self.is_poisoned() { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    pub(in crate::store) fn poison(&self) {
        self.poison.is_set.store(true, Ordering::Release);
        if let Some(wake) = self.poison.on_set.get() {
            wake();
        }
    }

    /// Sets what is called when the store is poisoned. Only the first call has an effect.
    pub(in crate::store) fn on_poison(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.poison.on_set.set(Box::new(wake));
    }

    /// Makes every write so far survive a power cut. Any number of writers share one call. Poisons the store on
    /// failure.
    pub(in crate::store) fn sync(&self) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        self.sync_log().inspect_err(|_| self.poison())
    }

    fn sync_log(&self) -> Result<(), StoreError> {
        // In memory there is nothing to sync.
        let Some(logs) = &self.sync.logs else { return Ok(()) };
        // Taken before the sync: later writes may not be part of it.
        let seq = self.rocks.latest_sequence_number();
        let unnamed = logs.unnamed().map_err(StoreError::io("looking for new files of the write-ahead log"))?;
        self.rocks.flush_wal(true).map_err(StoreError::rocks("syncing the write-ahead log"))?;
        if let Some(there) = unnamed {
            logs.name(&there, seq).map_err(StoreError::io("noting which files the write-ahead log has"))?;
        }
        self.note_synced(seq, false)
    }

    /// Records that everything up to a sequence is on disk; `clean` if nothing is written after it.
    pub(in crate::store) fn note_synced(&self, seq: u64, clean: bool) -> Result<(), StoreError> {
        self.sync.synced_seq.fetch_max(seq, Ordering::Relaxed);
        self.note(|known| (known.synced, known.clean) = (known.synced.max(seq), clean))
    }

    /// Records that everything written so far is in the log, though perhaps not on disk.
    pub(in crate::store) fn note_written(&self) -> Result<(), StoreError> {
        let seq = self.rocks.latest_sequence_number();
        self.note(|known| known.written = known.written.max(seq)).inspect_err(|_| self.poison())
    }

    fn note(&self, change: impl FnOnce(&mut Known)) -> Result<(), StoreError> {
        let Some(position) = &self.sync.position else { return Ok(()) };
        position.note(change).map_err(StoreError::io("noting how far the log is synced"))
    }

    /// Begins every commit: how much was synced at that time. Only the write-ahead log has it. After a crash it tells
    /// which part of the log was acknowledged.
    pub(in crate::store) fn put_sync_note(&self, batch: &mut WriteBatch) {
        batch.put_log_data(wal::note(self.sync.synced_seq.load(Ordering::Relaxed)));
    }

    /// Counts a failed read of a table.
    pub(in crate::store) fn count_unreadable(&self, table: Table, error: &StoreError) {
        let before = self.unreadable_rows.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("freqcap_unreadable_rows_total", "table" => table.name()).increment(1);
        // Logs the first, then at powers of two: there may be many, and each read repeats them.
        if (before + 1).is_power_of_two() {
            tracing::error!(
                table = table.name(), %error, so_far = before + 1,
                "rows cannot be read: their users are refused, all others are served; `freqcap verify` finds them all, \
                 `freqcap repair` gives them up"
            );
        }
    }

    /// Failed reads since the start.
    pub(in crate::store) fn unreadable_rows(&self) -> u64 {
        self.unreadable_rows.load(Ordering::Relaxed)
    }

    pub(in crate::store) fn flush(&self, table: Table) -> Result<(), StoreError> {
        self.rocks.flush_cf(self.cf(table)).map_err(StoreError::rocks("flushing a table"))
    }

    /// Rewrites the files of a range, or of a whole table, down to the last level; `exclusive` to keep other
    /// compactions from running meanwhile. RocksDB does not report failures here.
    pub(in crate::store) fn compact(&self, table: Table, range: Option<&KeyRange>, exclusive: bool) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(exclusive);
        let (start, end) = (range.map(|range| &range.start), range.map(|range| &range.end));
        self.rocks.compact_range_cf_opt(self.cf(table), start, end, &options);
    }

    /// A RocksDB property of one table.
    pub(in crate::store) fn table_figure(&self, table: Table, property: &str) -> Option<u64> {
        self.rocks.property_int_value_cf(self.cf(table), property).ok().flatten()
    }

    /// A RocksDB property of the whole database.
    pub(in crate::store) fn figure(&self, property: &str) -> Option<u64> {
        self.rocks.property_int_value(property).ok().flatten()
    }

    /// Flushes and compactions that failed since the start. RocksDB retries them, for ever if a block is damaged.
    pub(in crate::store) fn background_errors(&self) -> u64 {
        self.figure("rocksdb.background-errors").unwrap_or(0)
    }

    /// Bytes in the block cache.
    pub(in crate::store) fn cache_bytes(&self) -> u64 {
        self.cache.get_usage() as u64
    }

    /// Bytes in the write buffers of all tables.
    pub(in crate::store) fn write_buffer_bytes(&self) -> u64 {
        self.write_buffers.get_usage() as u64
    }
}
