//! Flushes the overlay to files.
//!
//! The order of the steps makes a crash between any two harmless:
//!
//! 1. The write-ahead log records the length of RocksDB's list of files (see `manifest`) and is synced. So no file has a
//!    log whose commit might still be lost.
//! 2. The frozen rows are written to a file that nothing refers to. After a crash it is removed, unless RocksDB names it
//!    (see `in_doubt`).
//! 3. RocksDB ingests the file, atomically and durably.
//! 4. The journal up to there is removed. If that is lost, the same rows are read from the journal again.
//! 5. The frozen rows are dropped.

use super::Overlay;
use super::in_doubt::{self, FOLDER};
use crate::model::ShardId;
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::manifest;
use crate::store::row::ShardPrefix;
use crate::store::table::Table;
use crate::store::tables::journal::Journal;
use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter, WriteBatch};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// The finished steps of a flush, so that tests can crash after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Step {
    Journalled,
    Frozen,
    Synced,
    Written,
    Ingested,
    Trimmed,
    Thawed,
}

/// Flushes logs from the overlay into files.
pub struct Flusher {
    db: Arc<Db>,
    overlay: Arc<Overlay>,
    journal: Journal,
    /// The folder for files before RocksDB ingests them.
    folder: PathBuf,
    file_options: Options,
    /// Called after each step.
    #[cfg(test)]
    pub(in crate::store) at_step: std::sync::OnceLock<Box<dyn Fn(Step) + Send + Sync>>,
}

impl Flusher {
    /// Removes files that an earlier run left in the folder.
    pub(in crate::store) fn new(
        db: &Arc<Db>,
        overlay: &Arc<Overlay>,
        dir: &Path,
        file_options: Options,
    ) -> std::io::Result<Self> {
        let folder = dir.join(FOLDER);
        // In memory, RocksDB makes it in its own file system.
        if db.dir().is_some() {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => std::fs::create_dir_all(&folder)?,
            }
        }
        Ok(Self {
            db: db.clone(),
            overlay: overlay.clone(),
            journal: Journal::new(db.clone()),
            folder,
            file_options,
            #[cfg(test)]
            at_step: std::sync::OnceLock::new(),
        })
    }

    /// The journal, which has the rows until they are in files.
    pub(in crate::store) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until the overlay has room for a commit.
    pub(in crate::store) fn make_room(&self) -> Result<(), StoreError> {
        if !self.overlay.is_full() {
            return Ok(());
        }
        let mut waited: Option<Instant> = None;
        while self.overlay.is_full() {
            if self.overlay.freeze(Overlay::is_full) {
                self.at(Step::Frozen);
            }
            let progress = self.overlay.progress();
            // Checked under this lock: poisoning the store wakes all who wait.
            if self.db.is_poisoned() {
                return Err(StoreError::Poisoned);
            }
            if !progress.has_flusher {
                drop(progress);
                return self.flush_frozen();
            }
            if progress.frozen_to.is_some() && self.overlay.is_full() {
                waited.get_or_insert_with(Instant::now);
                drop(self.overlay.wait(progress));
            }
        }
        if let Some(since) = waited {
            metrics::histogram!("freqcap_overlay_wait_seconds").record(since.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Flushes frozen rows and builds existence filters, until [`Flusher::end`] is called. Runs on a thread of its own;
    /// without one, writers flush.
    pub fn run(&self) {
        self.overlay.progress().has_flusher = true;
        let mut without_filter = self.overlay.shards_without_filter();
        loop {
            let mut progress = self.overlay.progress();
            while progress.frozen_to.is_none() && !progress.ends {
                let Some(shard) = without_filter.pop() else {
                    progress = self.overlay.wait(progress);
                    continue;
                };
                drop(progress);
                if let Err(error) = self.build_filter(shard) {
                    // Only slower: RocksDB is asked for every log of the shard.
                    tracing::warn!(%error, shard = shard.0, "an existence filter could not be built");
                }
                progress = self.overlay.progress();
            }
            if progress.frozen_to.is_none() || self.db.is_poisoned() {
                progress.has_flusher = false;
                self.overlay.progressed.notify_all();
                return;
            }
            drop(progress);
            let flushed = self.flush_frozen();
            if without_filter.is_empty() {
                without_filter = self.overlay.shards_without_filter();
            }
            if let Err(error) = flushed {
                tracing::error!(%error, "logs cannot be written to a file: events are refused from now on");
            }
        }
    }

    /// Builds the existence filter of a shard from the row keys in RocksDB.
    pub(in crate::store) fn build_filter(&self, shard: ShardId) -> Result<(), StoreError> {
        // Held so that no flush runs: the filter would miss its keys.
        let _flushing = self.overlay.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = self.db.raw_rows(Table::Logs, ShardPrefix(shard).rows(), false);
        rows.seek_to_first();
        let mut hashes = Vec::new();
        while let Some(key) = rows.key() {
            hashes.push(self.overlay.hash(key));
            rows.next();
        }
        rows.status().map_err(StoreError::rocks("building an existence filter"))?;
        self.overlay.set_filter(shard, &hashes);
        Ok(())
    }

    /// Builds all filters at once if RocksDB has no logs.
    pub(in crate::store) fn build_filters_if_empty(&self) {
        let mut rows = self.db.rocks.raw_iterator_cf(self.db.cf(Table::Logs));
        rows.seek_to_first();
        if !rows.valid() && rows.status().is_ok() {
            self.overlay.owned.iter().for_each(|shard| self.overlay.set_filter(shard, &[]));
        }
    }

    /// Ends [`Flusher::run`].
    pub fn end(&self) {
        self.overlay.progress().ends = true;
        self.overlay.progressed.notify_all();
    }

    /// Flushes the whole overlay. Nothing may be written meanwhile, and the flusher must have ended.
    pub(in crate::store) fn flush_all(&self) -> Result<(), StoreError> {
        if self.overlay.progress().frozen_to.is_some() {
            self.flush_frozen()?;
        }
        if self.overlay.figures().active_bytes == 0 {
            return Ok(());
        }
        self.overlay.freeze(|_| true);
        self.flush_frozen()
    }

    /// Flushes what is in the overlay now, while others write and flush.
    pub(in crate::store) fn flush_beside_writers(&self) -> Result<(), StoreError> {
        self.flush_frozen()?;
        // If another freeze came first, it froze these rows.
        self.overlay.freeze(|_| true);
        self.flush_frozen()
    }

    /// Poisons the store on failure: the journal would grow without limit.
    fn flush_frozen(&self) -> Result<(), StoreError> {
        let _flushing = self.overlay.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(frozen_to) = self.overlay.progress().frozen_to else { return Ok(()) };
        let start = Instant::now();
        self.flush_to(frozen_to).inspect_err(|_| self.db.poison())?;
        metrics::histogram!("freqcap_overlay_flush_seconds").record(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn flush_to(&self, frozen_to: u64) -> Result<(), StoreError> {
        self.note_list()?;
        // First: a file must not have a log of a commit whose other rows a power cut could still remove.
        self.db.sync()?;
        self.at(Step::Synced);
        if let Some(file) = self.write_frozen()? {
            self.at(Step::Written);
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            // The file takes a sequence.
            let taken = self.db.tap.beside_writes(|| {
                self.db.rocks.ingest_external_file_cf_opts(self.db.cf(Table::Logs), &options, vec![file])
            });
            taken.map_err(StoreError::rocks("taking in a file of logs"))?;
        }
        self.at(Step::Ingested);
        // Only now: until RocksDB has the file, only the journal has these logs after a crash.
        let mut batch = self.batch_with_list();
        self.journal.trim(&mut batch, frozen_to);
        self.db.write(batch, "trimming the journal")?;
        self.at(Step::Trimmed);
        // Last: from here on readers ask RocksDB for these rows, and it has them.
        self.overlay.thaw();
        self.at(Step::Thawed);
        Ok(())
    }

    /// Records in the log that RocksDB's list of files will grow.
    fn note_list(&self) -> Result<(), StoreError> {
        let mut batch = self.batch_with_list();
        // A batch needs a row; no row of the journal has this key.
        batch.delete_cf(self.db.cf(Table::Journal), u64::MAX.to_be_bytes());
        self.db.write(batch, "noting the list of files")
    }

    /// A batch that begins with the current length of RocksDB's list of files.
    fn batch_with_list(&self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        if let Some(dir) = self.db.dir() {
            manifest::note_list(dir, &mut batch);
        }
        batch
    }

    /// Writes the frozen rows to a file, in the order of keys; `None` if there are none.
    fn write_frozen(&self) -> Result<Option<PathBuf>, StoreError> {
        let failed = |source| StoreError::RocksDb { doing: "writing a file of logs", source };
        let path = self.folder.join(format!("{}.sst", self.overlay.freezes()));
        let mut file = SstFileWriter::create(&self.file_options);
        let mut rows = 0usize;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for shard in self.overlay.owned.iter() {
            let Some(frozen) = self.overlay.frozen(shard) else { continue };
            let mut last_of_shard: &[u8] = &[];
            for (key, value) in frozen.sorted() {
                if rows == 0 {
                    file.open(&path).map_err(failed)?;
                    first.extend_from_slice(key);
                }
                rows += 1;
                last_of_shard = key;
                if value.is_empty() { file.delete(key) } else { file.put(key, value) }.map_err(failed)?;
            }
            if !last_of_shard.is_empty() {
                last = last_of_shard.to_vec();
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        file.finish().map_err(failed)?;
        if self.db.dir().is_none() {
            return Ok(Some(path));
        }
        let known_again = self.folder.join(in_doubt::name(self.overlay.freezes(), &first, &last));
        let named = std::fs::rename(&path, &known_again).and_then(|()| File::open(&self.folder)?.sync_all());
        named.map_err(|error| StoreError::Io { doing: "naming a file of logs", kind: error.kind() })?;
        Ok(Some(known_again))
    }

    /// Puts the journal into the overlay again, when the store is opened.
    pub(in crate::store) fn recover_journal(&self) -> Result<(), StoreError> {
        let mut recovered = 0u64;
        for row in self.journal.all() {
            let (position, journal) = row?;
            self.overlay.position.store(position, Ordering::Relaxed);
            self.overlay.take_in(&journal)?;
            recovered += 1;
            // As many rows as in the run before. A flush meanwhile removes its part of the journal.
            self.make_room()?;
        }
        if recovered > 0 {
            let bytes = self.overlay.figures().active_bytes;
            tracing::info!(commits = recovered, bytes, "the end was not clean: logs were recovered from the journal");
        }
        Ok(())
    }

    /// Tells tests that a step is done.
    #[cfg(test)]
    pub(in crate::store) fn at(&self, step: Step) {
        if let Some(look) = self.at_step.get() {
            look(step);
        }
    }

    #[cfg(not(test))]
    #[inline]
    pub(in crate::store) fn at(&self, _step: Step) {}
}
