//! What is on disk: one RocksDB, every row led by its shard, a column family a table.
//!
//! | table | key | value | written by |
//! | --- | --- | --- | --- |
//! | logs | shard, user, 0, key | the counted events | the overlay, when it is full |
//! | journal | place | logs of the overlay | an event |
//! | caps | shard, user, 0, key | capped until, timer | what makes a cap start, last longer or end |
//! | changes | shard, sequence | when, what became of it, row key in caps | the same write |
//! | due | shard, instant, user, 0, key | | the same write |
//! | reservations | shard, user, 0, id | which ads, the answer | a call of `/reserve` |
//! | erased | shard, keyed hash of the user | up to when | an erasure |
//! | rules | rule id | the rule | a change of rules |
//! | pulled | topic, 0, partition, .. | how far it was taken | what takes events from Kafka |
//! | meta | shard, field | a number | trimming, judging by new rules |
//! | default | field | format, store id, ... | opening and closing |

mod at_rest;
mod caps;
mod changes;
mod check;
mod codec;
#[cfg(test)]
mod damage_tests;
mod due;
mod erased;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lock;
mod log_rows;
mod logs;
mod manifest;
mod meta;
mod open;
mod options;
mod overlay;
mod position;
mod pulled;
mod reclaim;
mod repair;
mod reservations;
mod room;
mod row;
mod rules;
mod step_over;
#[cfg(test)]
mod tests;
mod turn;
mod wal;
mod whole;

pub use at_rest::Round;
pub use caps::{CapEntry, CapsPage};
pub use changes::Change;
pub use check::{TableCheck, Verified, verify};
pub use codec::LogRow;
// For benches/instructions.rs, which measures them alone.
#[doc(hidden)]
pub use codec::{decode_log, encode_log};
pub use due::DueRow;
pub use erased::{Erasure, UserMark};
pub use logs::{ReadError, UserLogs};
pub use open::{OpenError, StoreInfo};
pub use options::{ByteSize, Compression, Durability, StorageKind, StoreOptions};
pub use overlay::OverlayFigures;
pub use pulled::{Frontier, MarkKey, PulledPartition, RecordCheck, Taken};
pub use reclaim::{Keep, Reclaim};
pub use repair::repair;
pub use reservations::{ReservationRow, UserCalls};
pub use room::{Room, Unbounded};
pub use row::{RowKey, RowKeys};
pub use rules::RulesMark;
pub use turn::Turn;
pub use whole::Damage;

use crate::alarm::Alarm;
use crate::model::{SHARDS, ShardId};
use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions, DB};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// The version of everything on disk. A newer one is refused.
pub const FORMAT: u32 = 3;

/// The tables, each a column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Logs,
    Journal,
    Caps,
    Changes,
    Due,
    Reservations,
    Erased,
    Rules,
    Pulled,
    Meta,
}

impl Table {
    pub(crate) const ALL: [Table; 10] = [
        Table::Logs,
        Table::Journal,
        Table::Caps,
        Table::Changes,
        Table::Due,
        Table::Reservations,
        Table::Erased,
        Table::Rules,
        Table::Pulled,
        Table::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Journal => "journal",
            Table::Caps => "caps",
            Table::Changes => "changes",
            Table::Due => "due",
            Table::Reservations => "reservations",
            Table::Erased => "erased",
            Table::Rules => "rules",
            Table::Pulled => "pulled",
            Table::Meta => "meta",
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{doing}: {source}")]
    RocksDb { doing: &'static str, source: rocksdb::Error },
    #[error("a row of table {table} cannot be read: {what}")]
    Corrupt { table: &'static str, what: &'static str },
    #[error("{doing}: {kind}")]
    Io { doing: &'static str, kind: std::io::ErrorKind },
    #[error("{0} compactions failed, and what they would have rewritten is as it was; `freqcap verify` tells why")]
    NotCompacted(u64),
    #[error("an earlier write failed, so nothing more is written until a restart")]
    Poisoned,
    #[error("too much of what is read changed meanwhile")]
    Overtaken,
}

impl StoreError {
    /// Whether a row is there and cannot be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::RocksDb { .. } | Self::Corrupt { .. })
    }

    fn rocks(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
        move |source| StoreError::RocksDb { doing, source }
    }
}

/// The open store. Shared by the writers, the readers and the mirror.
pub struct Store {
    db: DB,
    dir: Option<PathBuf>,
    /// Logs that are not in a file yet.
    overlay: overlay::Overlay,
    /// Where files are written before RocksDB takes them in, and how.
    folder: PathBuf,
    file_options: rocksdb::Options,
    /// Called at each step by which logs get into a file.
    #[cfg(test)]
    at_step: std::sync::OnceLock<Box<dyn Fn(overlay::Step) + Send + Sync>>,
    info: StoreInfo,
    durability: Durability,
    keep_changes: bool,
    poisoned: AtomicBool,
    alarm: Alarm,
    /// Up to where the write-ahead log is known to be on disk; `None` in memory.
    position: Option<position::Position>,
    /// Up to this sequence everything is synced.
    synced_seq: AtomicU64,
    /// How often something could not be read.
    unreadable_rows: AtomicU64,
    /// The last sequence given out, by shard; only the shard's writer adds to it.
    seq: Vec<AtomicU64>,
    /// The last sequence that is durable, by shard.
    durable_seq: Vec<AtomicU64>,
    /// The last sequence that a mirror has taken in, by shard, as far as it says.
    told_seq: Vec<AtomicU64>,
    /// The changes after this one are wanted by somebody beside the mirror, by shard.
    wanted_after: Vec<AtomicU64>,
    /// The changes up to here are gone from their table, by shard.
    trimmed_to: Vec<AtomicU64>,
    changed: Arc<Notify>,
    reclaim: Arc<Reclaim>,
    at_rest: at_rest::AtRest,
    /// Under which users who were erased are known: made with the data directory.
    erasure_key: [u8; 16],
    cache: rocksdb::Cache,
    write_buffers: rocksdb::WriteBufferManager,
    _lock: Option<lock::DirLock>,
}

impl Store {
    fn cf(&self, table: Table) -> &ColumnFamily {
        // Every table was created when the store was opened.
        self.db.cf_handle(table.name()).unwrap_or_else(|| panic!("table {} is open", table.name()))
    }

    /// Who this store is: made with the data directory, and what marks a Redis prefix as ours.
    pub fn info(&self) -> &StoreInfo {
        &self.info
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The data directory; `None` in memory.
    pub fn dir(&self) -> Option<&std::path::Path> {
        self.dir.as_deref()
    }

    /// The handle by which the compaction filter learns what is void.
    pub fn reclaim(&self) -> &Arc<Reclaim> {
        &self.reclaim
    }

    /// Whether an earlier write or fsync failed: from then on nothing is written, for RocksDB's memory may differ from
    /// its disk. Reads go on.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Raised where a thread ended by a panic whose work no other does.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.overlay.wake();
    }

    /// What the logs that are not in a file yet need of memory.
    pub fn overlay_figures(&self) -> OverlayFigures {
        self.overlay.figures()
    }

    /// Makes every write so far survive a power cut. Any number of writers share one call. Poisons the store where it
    /// fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        if self.dir.is_none() {
            return Ok(());
        }
        let seq = self.db.latest_sequence_number();
        let synced = self.db.flush_wal(true).map_err(StoreError::rocks("syncing the write-ahead log"));
        synced.and_then(|()| self.note_synced(seq, false)).inspect_err(|_| self.poison())
    }

    /// Says that everything up to a sequence is on disk.
    fn note_synced(&self, seq: u64, clean: bool) -> Result<(), StoreError> {
        self.synced_seq.fetch_max(seq, Ordering::Relaxed);
        self.note(|known| (known.synced, known.clean) = (known.synced.max(seq), clean))
    }

    /// Says that everything written so far is in the log, if perhaps not on disk.
    fn note_written(&self) -> Result<(), StoreError> {
        let seq = self.db.latest_sequence_number();
        self.note(|known| known.written = known.written.max(seq))
    }

    fn note(&self, change: impl FnOnce(&mut position::Known)) -> Result<(), StoreError> {
        let Some(position) = &self.position else { return Ok(()) };
        position
            .note(change)
            .map_err(|error| StoreError::Io { doing: "noting how far the log is synced", kind: error.kind() })
    }

    /// Writes what is in memory to files, and rewrites every file. Nobody may write meanwhile. Blocks on disk, for long.
    pub fn compact(&self) -> Result<(), StoreError> {
        let errors = self.background_errors();
        self.flush_overlay()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for table in Table::ALL {
            self.db.flush_cf(self.cf(table)).map_err(StoreError::rocks("flushing a table"))?;
            self.db.compact_range_cf_opt(self.cf(table), None::<&[u8]>, None::<&[u8]>, &options);
        }
        // Who compacts is told of no failure.
        match self.background_errors() - errors {
            0 => Ok(()),
            failed => Err(StoreError::NotCompacted(failed)),
        }
    }

    /// Flushes and compactions that failed since the start. RocksDB begins them anew, for ever where a block is damaged.
    pub fn background_errors(&self) -> u64 {
        self.figure("rocksdb.background-errors").unwrap_or(0)
    }

    /// Ends background work and leaves the mark of a clean end. What was committed is durable afterwards.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        self.flush_overlay()?;
        self.sync()?;
        self.mark_closed()?;
        self.sync()?;
        self.note_synced(self.db.latest_sequence_number(), true)?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }

    /// A figure of RocksDB's own over one table, such as `rocksdb.estimate-num-keys`.
    pub fn table_figures(&self, property: &str) -> Vec<(&'static str, u64)> {
        let figure = |table: Table| {
            let value = self.db.property_int_value_cf(self.cf(table), property).ok().flatten()?;
            Some((table.name(), value))
        };
        Table::ALL.into_iter().filter_map(figure).collect()
    }

    /// A figure of RocksDB's own over the whole database.
    pub fn figure(&self, property: &str) -> Option<u64> {
        self.db.property_int_value(property).ok().flatten()
    }

    /// Bytes in the block cache.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.get_usage() as u64
    }

    /// Bytes in the write buffers of all tables.
    pub fn write_buffer_bytes(&self) -> u64 {
        self.write_buffers.get_usage() as u64
    }

    fn shard_counters(start: u64) -> Vec<AtomicU64> {
        (0..SHARDS).map(|_| AtomicU64::new(start)).collect()
    }

    /// The last change of a shard, durable or about to be; 0 before the first.
    pub fn last_seq(&self, shard: ShardId) -> u64 {
        self.seq[shard.index()].load(Ordering::Relaxed)
    }

    fn next_seq(&self, shard: ShardId) -> u64 {
        self.seq[shard.index()].fetch_add(1, Ordering::Relaxed) + 1
    }
}
