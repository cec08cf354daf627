//! From the overlay to files.
//!
//! What can be lost is lost in an order that does no harm:
//!
//! 1. the write-ahead log notes how long RocksDB's list of files is (see `manifest`), and is synced, so that no file has a log
//!    of which the rest of its commit might be lost;
//! 2. the frozen rows are written to a file, which is nobody's yet: after a crash it is removed, unless RocksDB names it (see
//!    `in_doubt`);
//! 3. RocksDB takes the file in, whole or not at all, and durably;
//! 4. the journal up to there is removed. If that is lost, the same rows are taken from the journal once more;
//! 5. the frozen rows are forgotten.

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

/// The steps of a flush that is done, for tests of what a crash leaves after each.
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

/// Moves logs from the overlay into files.
pub struct Flusher {
    db: Arc<Db>,
    overlay: Arc<Overlay>,
    journal: Journal,
    /// Where files are written before RocksDB takes them in, and how.
    folder: PathBuf,
    file_options: Options,
    /// Called at each step by which logs get into a file.
    #[cfg(test)]
    pub(in crate::store) at_step: std::sync::OnceLock<Box<dyn Fn(Step) + Send + Sync>>,
}

impl Flusher {
    /// Removes what an earlier run left in the folder.
    pub(in crate::store) fn new(
        db: &Arc<Db>,
        overlay: &Arc<Overlay>,
        dir: &Path,
        file_options: Options,
    ) -> std::io::Result<Self> {
        let folder = dir.join(FOLDER);
        // In memory RocksDB makes it, in its own file system.
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

    /// The journal, whose rows are here until they are in files.
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
            // Asked with this locked: who poisons the store wakes whoever waits.
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

    /// Writes what is frozen to files, until [`Flusher::end`] is called; and meanwhile builds the existence filters. For a
    /// thread of its own: without one, whoever writes does it.
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
                    // Nothing is lost by it but time: RocksDB is asked for every log of the shard.
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

    /// Builds the existence filter of a shard from the logs that RocksDB has of it.
    pub(in crate::store) fn build_filter(&self, shard: ShardId) -> Result<(), StoreError> {
        // What a flush adds meanwhile would be missed: none runs as long as this is held.
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

    /// Builds every filter at once where RocksDB has no logs at all.
    pub(in crate::store) fn build_filters_if_empty(&self) {
        let mut rows = self.db.rocks.raw_iterator_cf(self.db.cf(Table::Logs));
        rows.seek_to_first();
        if !rows.valid() && rows.status().is_ok() {
            self.overlay.owned.iter().for_each(|shard| self.overlay.set_filter(shard, &[]));
        }
    }

    /// Has [`Flusher::run`] end.
    pub fn end(&self) {
        self.overlay.progress().ends = true;
        self.overlay.progressed.notify_all();
    }

    /// Writes the whole overlay to files. Nobody may write meanwhile, and the flusher must have ended.
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

    /// Writes what the overlay has by now to files, beside those who write and flush.
    pub(in crate::store) fn flush_beside_writers(&self) -> Result<(), StoreError> {
        self.flush_frozen()?;
        // Whoever froze rows since then froze these.
        self.overlay.freeze(|_| true);
        self.flush_frozen()
    }

    /// Poisons the store where it fails: the journal would grow without end.
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
        // First: a file must not have a log of a commit whose other rows a power cut could still take away.
        self.db.sync()?;
        self.at(Step::Synced);
        if let Some(file) = self.write_frozen()? {
            self.at(Step::Written);
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            let taken = self.db.rocks.ingest_external_file_cf_opts(self.db.cf(Table::Logs), &options, vec![file]);
            taken.map_err(StoreError::rocks("taking in a file of logs"))?;
        }
        self.at(Step::Ingested);
        // Only now: until the file is RocksDB's, the journal is all that has these logs after a crash.
        let mut batch = self.batch_with_list();
        self.journal.trim(&mut batch, frozen_to);
        self.db.write(batch, "trimming the journal")?;
        self.at(Step::Trimmed);
        // Last: readers go to RocksDB for these rows from here on, and it has them.
        self.overlay.thaw();
        self.at(Step::Thawed);
        Ok(())
    }

    /// Notes that RocksDB's list of files is about to be added to.
    fn note_list(&self) -> Result<(), StoreError> {
        let mut batch = self.batch_with_list();
        // A write needs a row; this one is of no journal.
        batch.delete_cf(self.db.cf(Table::Journal), u64::MAX.to_be_bytes());
        self.db.write(batch, "noting the list of files")
    }

    /// A write that says first what RocksDB's list of files is now.
    fn batch_with_list(&self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        if let Some(dir) = self.db.dir() {
            manifest::note_list(dir, &mut batch);
        }
        batch
    }

    /// Writes the frozen rows to a file, in the order of their keys; none if there are none.
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

    /// Puts what the journal has into the overlay again, when the store is opened.
    pub(in crate::store) fn recover_journal(&self) -> Result<(), StoreError> {
        let mut recovered = 0u64;
        for row in self.journal.all() {
            let (position, journal) = row?;
            self.overlay.position.store(position, Ordering::Relaxed);
            self.overlay.take_in(&journal)?;
            recovered += 1;
            // As much as in the run before, and no more: what is written to a file meanwhile is gone from the journal.
            self.make_room()?;
        }
        if recovered > 0 {
            let bytes = self.overlay.figures().active_bytes;
            tracing::info!(commits = recovered, bytes, "the end was not clean: logs were recovered from the journal");
        }
        Ok(())
    }

    /// Where tests look in.
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
