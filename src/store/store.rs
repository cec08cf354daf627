//! The open store: it composes the tables, and has the operations on all of them.

use super::at_rest::AtRest;
use super::change_log::{ChangeLog, Mirrored};
use super::commit::{Commit, Parts};
use super::compaction_filter::CompactionFilter;
use super::db::Db;
use super::erasing::Erasing;
use super::error::StoreError;
use super::lock::DirLock;
use super::logs::Logs;
use super::options::Durability;
use super::overlay::flush::Flusher;
use super::overlay::{Overlay, OverlayFigures};
use super::shipped::Shipped;
use super::table::Table;
use super::tables::Tables;
use super::tables::ads::Ads;
use super::tables::audit::Audit;
use super::tables::caps::Caps;
use super::tables::due::Due;
use super::tables::erased::Erased;
use super::tables::erasures::Erasures;
use super::tables::kafka_offsets::KafkaOffsets;
use super::tables::meta::Meta;
use super::tables::opted_out::OptedOut;
use super::tables::over::Over;
use super::tables::reservations::Reservations;
use super::tables::rules::Rules;
use super::tap::{TailBatch, TailGap};
use crate::alarm::Alarm;
use crate::model::{ShardId, ShardSet};
use std::path::Path;
use std::sync::Arc;

/// The name of the mirror as a consumer of the change log.
pub const MIRROR: &str = "mirror";

/// The identity of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// 32 hex digits, made with the data directory.
    pub id: String,
}

/// The open store, shared by writers, readers and the mirror.
pub struct Store {
    pub(in crate::store) db: Arc<Db>,
    pub(in crate::store) tables: Tables,
    pub(in crate::store) logs: Logs,
    pub(in crate::store) erasing: Arc<Erasing>,
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
    pub(in crate::store) shipped: Arc<Shipped>,
    pub(in crate::store) alarm: Alarm,
    pub(in crate::store) _lock: Option<DirLock>,
}

impl Store {
    /// The table of logs, with the overlay above it.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The table of caps.
    pub fn caps(&self) -> &Caps {
        &self.tables.caps
    }

    /// The table of timers.
    pub fn due(&self) -> &Due {
        &self.tables.due
    }

    /// The table of calls of `/reserve`.
    pub fn reservations(&self) -> &Reservations {
        &self.tables.reservations
    }

    /// The table of erased users.
    pub fn erased(&self) -> &Erased {
        &self.tables.erased
    }

    /// The users who are being erased.
    pub fn erasing(&self) -> &Erasing {
        &self.erasing
    }

    /// The table of rules.
    pub fn rules(&self) -> &Rules {
        &self.tables.rules
    }

    /// The table of how far Kafka's partitions are taken.
    pub fn kafka_offsets(&self) -> &KafkaOffsets {
        &self.tables.kafka_offsets
    }

    /// The fields of the store and of its shards.
    pub fn meta(&self) -> &Meta {
        &self.tables.meta
    }

    /// Who changed what.
    pub fn audit(&self) -> &Audit {
        &self.tables.audit
    }

    /// The catalogue of ads.
    pub fn ads(&self) -> &Ads {
        &self.tables.ads
    }

    /// The calls that erase many users.
    pub fn erasures(&self) -> &Erasures {
        &self.tables.erasures
    }

    /// The users who are never counted.
    pub fn opted_out(&self) -> &OptedOut {
        &self.tables.opted_out
    }

    /// Events of keys that were capped when they happened.
    pub fn over(&self) -> &Over {
        &self.tables.over
    }

    /// The changes of caps.
    pub fn changes(&self) -> &Arc<ChangeLog> {
        &self.changes
    }

    /// Moves logs from memory into files.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Removes erased bytes from every file.
    pub fn at_rest(&self) -> &AtRest {
        &self.at_rest
    }

    /// What compaction removes.
    pub fn compaction_filter(&self) -> &Arc<CompactionFilter> {
        &self.compaction_filter
    }

    /// Begins a commit. Nothing is written before [`Commit::write`].
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

    /// The identity of the store, made with the data directory. It marks a Redis prefix as ours.
    pub fn info(&self) -> &StoreInfo {
        &self.info
    }

    /// The shards whose users it holds.
    pub fn shards(&self) -> ShardSet {
        self.shards
    }

    /// Its name among the units of the process, where there are several.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// What an acknowledged event survives.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The data directory; `None` in memory.
    pub fn dir(&self) -> Option<&Path> {
        self.db.dir()
    }

    /// Raised when a thread panicked whose work no other thread does.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Whether a write or fsync failed. From then on nothing is written, since RocksDB's memory may differ from its
    /// disk. Reads go on.
    pub fn is_poisoned(&self) -> bool {
        self.db.is_poisoned()
    }

    /// Refuses every write from now on.
    pub fn poison(&self) {
        self.db.poison();
    }

    /// Makes every write so far survive a power cut. Any number of writers share one call. Poisons the store on
    /// failure.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.sync()
    }

    /// From now on writes are kept, up to so many bytes, until [`Self::take_tail`] takes them. What was kept before is
    /// forgotten. A checkpoint that is taken after this lacks only what is kept.
    pub fn keep_tail(&self, bytes_max: usize) {
        self.db.tap.begin(&self.db.rocks, bytes_max);
    }

    /// Takes the writes that are kept, the oldest first: one at least if there is any, then as many as have so many bytes
    /// together. After a [`TailGap`] only [`Self::keep_tail`] and a new checkpoint help.
    pub fn take_tail(&self, bytes_max: usize) -> Result<Vec<TailBatch>, TailGap> {
        self.db.tap.take(bytes_max)
    }

    /// Up to which write everything is in the bucket; moved by who ships, with [`Durability::Bucket`] alone.
    pub fn shipped(&self) -> &Arc<Shipped> {
        &self.shipped
    }

    /// Asks for all that was written so far to be shipped now. Returns the sequence that [`Shipped`] has to reach for that.
    pub fn ship_now(&self) -> u64 {
        let last = self.db.tap.last(&self.db.rocks);
        self.shipped.want();
        last
    }

    /// With [`Durability::Bucket`]: waits until the bucket has everything that was written before. Blocks.
    pub fn wait_for_bucket(&self) -> Result<(), StoreError> {
        if self.durability() != Durability::Bucket {
            return Ok(());
        }
        let last = self.ship_now();
        if self.shipped.wait(last, self.shipped.deadline(std::time::Instant::now())) {
            Ok(())
        } else {
            Err(StoreError::NotInBucket)
        }
    }

    /// Whether the mirror has every change of a shard up to here; true without a mirror.
    pub fn is_mirrored(&self, shard: ShardId, seq: u64) -> bool {
        self.changes.is_confirmed(MIRROR, shard, seq)
    }

    /// When the mirror had every change of a shard up to here.
    pub fn mirrored(&self, shard: ShardId, seq: u64) -> Mirrored {
        self.changes.confirmed_at(MIRROR, shard, seq)
    }

    /// Failed reads since the start.
    pub fn unreadable_rows(&self) -> u64 {
        self.db.unreadable_rows()
    }

    /// Memory of the logs that are not in a file yet.
    pub fn overlay_figures(&self) -> OverlayFigures {
        self.overlay.figures()
    }

    /// A RocksDB property of each table, such as `rocksdb.estimate-num-keys`.
    pub fn table_figures(&self, property: &str) -> Vec<(&'static str, u64)> {
        let mut figures = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            figures.extend(self.db.table_figure(table, property).map(|value| (table.name(), value)));
        }
        figures
    }

    /// A RocksDB property of the whole database.
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

    /// Flushes everything and rewrites every file. Nothing may be written meanwhile. Blocks on disk, for long.
    pub fn compact(&self) -> Result<(), StoreError> {
        let errors = self.background_errors();
        self.flusher.flush_all()?;
        for table in Table::ALL {
            self.db.flush(table)?;
            self.db.compact(table, None, true);
        }
        // RocksDB does not report failures to the caller.
        match self.background_errors() - errors {
            0 => Ok(()),
            failed => Err(StoreError::NotCompacted(failed)),
        }
    }

    /// Flushes and compactions that failed since the start. RocksDB retries them, for ever if a block is damaged.
    pub fn background_errors(&self) -> u64 {
        self.db.background_errors()
    }

    /// Ends background work and records a clean end. Afterwards everything committed is durable.
    pub fn close(&self) -> Result<(), StoreError> {
        self.db.refuse_if_poisoned()?;
        self.flusher.flush_all()?;
        // Twice: the record must not be on disk before everything else is.
        self.db.sync()?;
        self.tables.meta.mark_closed()?;
        self.db.sync()?;
        self.db.note_synced(self.db.rocks.latest_sequence_number(), true)?;
        self.db.rocks.cancel_all_background_work(true);
        Ok(())
    }
}
