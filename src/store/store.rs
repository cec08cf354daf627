//! The open store: its tables, and what is done to all of them at once.

use super::at_rest::AtRest;
use super::change_log::ChangeLog;
use super::commit::{Commit, Parts};
use super::compaction_filter::CompactionFilter;
use super::db::Db;
use super::error::StoreError;
use super::lock::DirLock;
use super::logs::Logs;
use super::options::Durability;
use super::overlay::flush::Flusher;
use super::overlay::{Overlay, OverlayFigures};
use super::table::Table;
use super::tables::Tables;
use super::tables::caps::Caps;
use super::tables::due::Due;
use super::tables::erased::Erased;
use super::tables::kafka_offsets::KafkaOffsets;
use super::tables::meta::Meta;
use super::tables::reservations::Reservations;
use super::tables::rules::Rules;
use crate::alarm::Alarm;
use crate::model::{ShardId, ShardSet};
use std::path::Path;
use std::sync::Arc;

/// The name under which the mirror follows the changes.
pub const MIRROR: &str = "mirror";

/// Who a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// 32 hex digits, made with the data directory.
    pub id: String,
}

/// The open store. Shared by the writers, the readers and the mirror.
pub struct Store {
    pub(in crate::store) db: Arc<Db>,
    pub(in crate::store) tables: Tables,
    pub(in crate::store) logs: Logs,
    /// Logs that are not in a file yet.
    pub(in crate::store) overlay: Arc<Overlay>,
    pub(in crate::store) flusher: Arc<Flusher>,
    pub(in crate::store) changes: Arc<ChangeLog>,
    pub(in crate::store) at_rest: AtRest,
    pub(in crate::store) compaction_filter: Arc<CompactionFilter>,
    pub(in crate::store) info: StoreInfo,
    pub(in crate::store) shards: ShardSet,
    pub(in crate::store) unit: Option<String>,
    pub(in crate::store) durability: Durability,
    pub(in crate::store) alarm: Alarm,
    pub(in crate::store) _lock: Option<DirLock>,
}

impl Store {
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    pub fn caps(&self) -> &Caps {
        &self.tables.caps
    }

    pub fn due(&self) -> &Due {
        &self.tables.due
    }

    pub fn reservations(&self) -> &Reservations {
        &self.tables.reservations
    }

    pub fn erased(&self) -> &Erased {
        &self.tables.erased
    }

    pub fn rules(&self) -> &Rules {
        &self.tables.rules
    }

    pub fn kafka_offsets(&self) -> &KafkaOffsets {
        &self.tables.kafka_offsets
    }

    pub fn meta(&self) -> &Meta {
        &self.tables.meta
    }

    pub fn changes(&self) -> &Arc<ChangeLog> {
        &self.changes
    }

    /// Moves logs from memory into files.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Takes what was erased out of every file.
    pub fn at_rest(&self) -> &AtRest {
        &self.at_rest
    }

    /// What leaves the disk by compaction.
    pub fn compaction_filter(&self) -> &Arc<CompactionFilter> {
        &self.compaction_filter
    }

    /// Begins a commit; nothing is written before [`Commit::write`].
    pub fn begin_commit(&self) -> Commit<'_> {
        Commit::new(Parts {
            db: &self.db,
            tables: &self.tables,
            logs: &self.logs,
            overlay: &self.overlay,
            flusher: &self.flusher,
            changes: &self.changes,
            durability: self.durability,
        })
    }

    /// Who this store is: made with the data directory, and what marks a Redis prefix as ours.
    pub fn info(&self) -> &StoreInfo {
        &self.info
    }

    /// Whose users it holds.
    pub fn shards(&self) -> ShardSet {
        self.shards
    }

    /// Its name among the units of the process, where there are several.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The data directory; `None` in memory.
    pub fn dir(&self) -> Option<&Path> {
        self.db.dir()
    }

    /// Raised where a thread ended by a panic whose work no other does.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Whether an earlier write or fsync failed: from then on nothing is written, for RocksDB's memory may differ from
    /// its disk. Reads go on.
    pub fn is_poisoned(&self) -> bool {
        self.db.is_poisoned()
    }

    pub fn poison(&self) {
        self.db.poison();
    }

    /// Makes every write so far survive a power cut. Any number of writers share one call. Poisons the store where it
    /// fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.sync()
    }

    /// Whether the mirror has every change of a shard up to here; without a mirror there is nobody to notify.
    pub fn is_mirrored(&self, shard: ShardId, seq: u64) -> bool {
        self.changes.is_confirmed(MIRROR, shard, seq)
    }

    /// How often something could not be read since the start.
    pub fn unreadable_rows(&self) -> u64 {
        self.db.unreadable_rows()
    }

    /// What the logs that are not in a file yet need of memory.
    pub fn overlay_figures(&self) -> OverlayFigures {
        self.overlay.figures()
    }

    /// A figure of RocksDB's own over each table, such as `rocksdb.estimate-num-keys`.
    pub fn table_figures(&self, property: &str) -> Vec<(&'static str, u64)> {
        let mut figures = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            figures.extend(self.db.table_figure(table, property).map(|value| (table.name(), value)));
        }
        figures
    }

    /// A figure of RocksDB's own over the whole database.
    pub fn figure(&self, property: &str) -> Option<u64> {
        self.db.figure(property)
    }

    /// Bytes in the block cache.
    pub fn cache_bytes(&self) -> u64 {
        self.db.cache_bytes()
    }

    /// Bytes in the write buffers of all tables.
    pub fn write_buffer_bytes(&self) -> u64 {
        self.db.write_buffer_bytes()
    }

    /// Writes what is in memory to files, and rewrites every file. Nobody may write meanwhile. Blocks on disk, for long.
    pub fn compact(&self) -> Result<(), StoreError> {
        let errors = self.background_errors();
        self.flusher.flush_all()?;
        for table in Table::ALL {
            self.db.flush(table)?;
            self.db.compact(table, None, true);
        }
        // Who compacts is told of no failure.
        match self.background_errors() - errors {
            0 => Ok(()),
            failed => Err(StoreError::NotCompacted(failed)),
        }
    }

    /// Flushes and compactions that failed since the start. RocksDB begins them anew, for ever where a block is damaged.
    pub fn background_errors(&self) -> u64 {
        self.db.background_errors()
    }

    /// Ends background work and leaves the mark of a clean end. What was committed is durable afterwards.
    pub fn close(&self) -> Result<(), StoreError> {
        self.db.refuse_if_poisoned()?;
        self.flusher.flush_all()?;
        // Twice: the mark must not be on disk before all else is.
        self.db.sync()?;
        self.tables.meta.mark_closed()?;
        self.db.sync()?;
        self.db.note_synced(self.db.rocks.latest_sequence_number(), true)?;
        self.db.rocks.cancel_all_background_work(true);
        Ok(())
    }
}
