//! The settings and options of the store, and how RocksDB is set up by them.

use super::compaction_filter::CompactionFilter;
use super::table::Table;
use crate::model::ShardSet;
use crate::settings::{Count, Value, by_name, by_own_error, settings};
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DataBlockIndexType, Env, LogLevel, Options,
    WriteBufferManager,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// RocksDB in the data directory.
    #[default]
    Rocksdb,
    /// RocksDB in memory: lost when the process ends.
    Memory,
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut: events are on disk when they are acknowledged.
    #[default]
    Fsync,
    /// The end of the process, but not a power cut.
    Wal,
}

/// How rows are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// LZ4, and Zstd at the last level, where nine tenths of the rows are and writing is rarest.
    #[default]
    Lz4,
    /// Zstd at all levels.
    Zstd,
    /// Snappy at all levels.
    Snappy,
    /// Not at all.
    None,
}

impl Compression {
    fn of_levels(self) -> (DBCompressionType, DBCompressionType) {
        match self {
            Compression::Lz4 => (DBCompressionType::Lz4, DBCompressionType::Zstd),
            Compression::Zstd => (DBCompressionType::Zstd, DBCompressionType::Zstd),
            Compression::Snappy => (DBCompressionType::Snappy, DBCompressionType::Snappy),
            Compression::None => (DBCompressionType::None, DBCompressionType::None),
        }
    }
}

/// A size in bytes, written as an integer with `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an integer followed by KiB, MiB or GiB (such as 256MiB)")]
pub struct ByteSizeError;

const SIZE_UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl ByteSize {
    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in bytes.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let unit = SIZE_UNITS.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
        let (count, bits) = unit.ok_or(ByteSizeError)?;
        let digits = !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit());
        let count: u64 = if digits { count.parse().map_err(|_| ByteSizeError)? } else { return Err(ByteSizeError) };
        count.checked_mul(1 << bits).map(Self).ok_or(ByteSizeError)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = SIZE_UNITS.into_iter();
        let (unit, bits) = units.find(|(_, bits)| self.0.is_multiple_of(1 << bits)).unwrap_or(("KiB", 10));
        write!(f, "{}{unit}", self.0 >> bits)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))
    }
}

settings! {
    /// The settings of the store, except its memory, which is a share of the budget.
    pub struct Settings, SettingFlags {
        "Storage" {
            data_dir: PathBuf = "./data", "DIR", "Where the data is; belongs to one process at a time";
            storage: StorageKind = "rocksdb", "rocksdb|memory", "RocksDB in the data directory, or in memory alone";
            durability: Durability = "fsync", "fsync|wal",
                "What an acknowledged event survives: loss of power (fsync), or the end of the process only (wal)";
            bloom_bits: Count<0, 64> = "10", "N", "Bits per row of the filters that spare reads for what is not there";
            compression: Compression = "lz4", "lz4|zstd|snappy|none",
                "How rows are compressed; lz4 uses Zstd at the last level";
            background_jobs: Count<2, 1_024> = "2", "N", "Threads that flush and compact";
        }
    }
}

by_name!(StorageKind, Durability, Compression);
by_own_error!(ByteSize);

/// A size, or `auto`: it follows from other settings.
impl Value for Option<ByteSize> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(None),
            _ => ByteSize::read(text).map(Some).map_err(|why| format!("{why}, nor `auto`")),
        }
    }
}

impl Settings {
    /// The options of the store, with the default memory.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            data_dir: self.data_dir.clone(),
            storage: self.storage,
            durability: self.durability,
            bloom_bits: self.bloom_bits.get() as f64,
            compression: self.compression,
            background_jobs: i32::try_from(self.background_jobs.get()).unwrap_or(i32::MAX),
            ..StoreOptions::default()
        }
    }
}

/// The options of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where the data is; belongs to one process at a time.
    pub data_dir: PathBuf,
    /// The shards whose users it holds.
    pub shards: ShardSet,
    /// Its name among the units of the process; `None` where it is the only one.
    pub unit: Option<String>,
    /// How many stores of the process have a part of the shards. It has that part of the files and of the logs that one would
    /// have.
    pub units: usize,
    /// RocksDB on disk or in memory.
    pub storage: StorageKind,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// Whether changes of caps are kept for consumers of the change log.
    pub keep_changes: bool,
    /// Memory for blocks read from files.
    pub block_cache: ByteSize,
    /// Memory for logs that are not in a file yet. Half of it fills while the other half is flushed.
    pub overlay_size: ByteSize,
    /// Memory for the filters of which logs are on disk.
    pub existence_filter: ByteSize,
    /// Size of the journal's write buffer. Every other table has a quarter of it. There are up to two buffers a table,
    /// and together they take at most three times this size.
    pub write_buffer: ByteSize,
    /// Bits of a bloom filter for each row.
    pub bloom_bits: f64,
    /// How rows are compressed.
    pub compression: Compression,
    /// Threads that flush and compact.
    pub background_jobs: i32,
    /// Age in seconds at which a file of logs is rewritten, so that void logs leave the disk.
    pub rewrite_after_s: u64,
    /// For so many seconds the write-ahead log is kept that files made unneeded; 0 if nobody reads its tail. Erased bytes stay in
    /// it as long.
    pub keep_wal_s: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            shards: ShardSet::ALL,
            unit: None,
            units: 1,
            storage: StorageKind::Rocksdb,
            durability: Durability::Fsync,
            keep_changes: false,
            block_cache: ByteSize::mib(384),
            overlay_size: ByteSize::mib(128),
            existence_filter: ByteSize::mib(112),
            write_buffer: ByteSize::mib(32),
            bloom_bits: 10.0,
            compression: Compression::Lz4,
            background_jobs: 2,
            rewrite_after_s: 86_400,
            keep_wal_s: 0,
        }
    }
}

/// Every write of the manifest makes a new file. The bounds of deleted files, which may name an erased user, do not
/// stay in it. It has some hundred bytes a file.
const RENEWED_MANIFEST: &str = "max_manifest_file_size=1;max_manifest_space_amp_pct=0";
/// Each log records the length and end of the one before it. An opening with a missing log is refused.
const CHAINED_LOGS: &str = "track_and_verify_wals=true";

/// Files that the stores of a process keep open together, about.
const OPEN_FILES: usize = 512;
/// With fewer a store would open files again and again.
const OPEN_FILES_LEAST: usize = 24;

/// How many files each of so many stores keeps open.
fn files_of_one(units: usize) -> i32 {
    i32::try_from((OPEN_FILES / units.max(1)).max(OPEN_FILES_LEAST)).unwrap_or(i32::MAX)
}

/// Files that so many stores have open at most, beside those of the process: tables, logs, and what is written.
pub fn open_files(units: usize) -> u64 {
    const OTHERS: u64 = 12;
    (files_of_one(units) as u64 + OTHERS) * units as u64
}

impl StoreOptions {
    /// In memory if `env` is given.
    pub(super) fn of_database(&self, env: Option<&Env>) -> Options {
        // (A test checks that the RocksDB that is built in knows these names.)
        let by_name = format!("{RENEWED_MANIFEST};{CHAINED_LOGS}");
        self.of_any_database(env, Options::default().get_options_from_string(by_name).unwrap_or_default())
    }

    /// For a directory that may have lost log files: opens what is there.
    pub(super) fn of_what_is_there(&self) -> Options {
        let by_name = Options::default().get_options_from_string(RENEWED_MANIFEST).unwrap_or_default();
        let mut options = self.of_any_database(None, by_name);
        options.set_track_and_verify_wals_in_manifest(false);
        options
    }

    fn of_any_database(&self, env: Option<&Env>, mut options: Options) -> Options {
        // RocksDB's info log would contain the bounds of compactions.
        options.set_log_level(LogLevel::Warn);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(self.background_jobs.max(2));
        // All tables share one log. It is cut when the oldest unflushed table is this far behind.
        options.set_max_total_wal_size(((96 << 20) / self.units as u64).max(4 << 20));
        options.set_wal_ttl_seconds(self.keep_wal_s);
        options.set_max_open_files(files_of_one(self.units));
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(8 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_bytes_per_sync(1 << 20);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        // `open` checks that all files are there, and a failed write poisons the store. With paranoid checks, one block
        // that a compaction cannot read would refuse every write until a restart, and again after it.
        options.set_paranoid_checks(false);
        if let Some(env) = env {
            options.set_env(env);
        }
        options
    }

    /// Limits the write buffers of all tables together, which could otherwise take twice as much. Beyond the limit, the
    /// oldest is flushed.
    pub(super) fn write_buffers(&self) -> WriteBufferManager {
        WriteBufferManager::new_write_buffer_manager(self.write_buffer.as_usize().saturating_mul(3), false)
    }

    /// For files of logs that RocksDB ingests.
    pub(super) fn of_files(&self, cache: &Cache, filter: &Arc<CompactionFilter>, env: Option<&Env>) -> Options {
        let mut options = self.of_table(Table::Logs, cache, filter);
        // The file goes to an upper level first. (The file writer would compress it as for the last level.)
        options.set_bottommost_compression_type(self.compression.of_levels().0);
        if let Some(env) = env {
            options.set_env(env);
        }
        options
    }

    pub(super) fn of_table(&self, table: Table, cache: &Cache, filter: &Arc<CompactionFilter>) -> Options {
        let (upper, bottom) = self.compression.of_levels();
        let mut options = Options::default();
        options.set_block_based_table_factory(&self.of_blocks(table, cache));
        options.set_compression_type(upper);
        options.set_bottommost_compression_type(bottom);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(32 << 20);
        options.set_max_bytes_for_level_base(128 << 20);
        // All other tables are written less.
        let share = if table == Table::Journal { 1 } else { 4 };
        options.set_write_buffer_size(self.write_buffer.as_usize() / share);
        options.set_max_write_buffer_number(2);
        match table {
            Table::Logs => {
                options.set_periodic_compaction_seconds(self.rewrite_after_s);
                let filter = filter.clone();
                options
                    .set_compaction_filter(c"freqcap.void_logs", move |_level, key, value| filter.decide(key, value));
            }
            // Most rows are removed before the write buffer is full.
            Table::Journal => {
                options.set_compression_type(DBCompressionType::None);
                options.set_bottommost_compression_type(DBCompressionType::None);
            }
            // Rows here are short-lived: files that are mostly tombstones are compacted at once.
            Table::Caps | Table::Changes | Table::Due => {
                options.set_periodic_compaction_seconds(self.rewrite_after_s);
                options.add_compact_on_deletion_collector_factory(16_384, 8_192, 0.5);
            }
            Table::Reservations => {
                options.set_periodic_compaction_seconds(self.rewrite_after_s);
                let filter = filter.clone();
                options.set_compaction_filter(c"freqcap.answers", move |_level, _key, value| {
                    filter.decide_reservation(value)
                });
            }
            Table::Erased => {
                options.set_periodic_compaction_seconds(self.rewrite_after_s);
                let filter = filter.clone();
                options.set_compaction_filter(c"freqcap.tombstones", move |_level, _key, value| {
                    filter.decide_tombstone(value)
                });
            }
            // Small tables need no compaction of their own.
            _ => {}
        }
        options
    }

    fn of_blocks(&self, table: Table, cache: &Cache) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_block_size(8 << 10);
        blocks.set_format_version(6);
        // Index and filter blocks count against the cache, so memory stays bounded.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        if matches!(table, Table::Logs | Table::Caps | Table::Reservations | Table::Erased) {
            blocks.set_bloom_filter(self.bloom_bits, false);
            blocks.set_optimize_filters_for_memory(true);
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rocksdb_knows_what_is_set_by_name() {
        assert!(Options::default().get_options_from_string(RENEWED_MANIFEST).is_ok());
        assert!(Options::default().get_options_from_string(CHAINED_LOGS).is_ok());
    }

    #[test]
    fn a_size_is_an_integer_and_a_binary_unit_and_prints_as_such() {
        for (text, bytes) in [("16MiB", 16 << 20), ("1GiB", 1 << 30), ("3KiB", 3 << 10)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        for bad in ["", "16", "16MB", "MiB", "-1MiB", "1.5GiB", "99999999999999GiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }
}
