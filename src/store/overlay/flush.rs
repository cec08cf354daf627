//! From the overlay to files.
//!
//! What can be lost is lost in an order that does no harm:
//!
//! 1. the write-ahead log is synced, so that no file has a log of which the rest of its turn might be lost;
//! 2. the frozen rows are written to a file, which is nobody's yet: after a crash it is removed;
//! 3. RocksDB takes the file in, whole or not at all, and durably;
//! 4. the journal up to there is removed. If that is lost, the same rows are taken from the journal once more;
//! 5. the frozen rows are forgotten.

use super::super::row::shard_rows;
use super::super::{Store, StoreError, Table};
use super::Overlay;
use crate::model::ShardId;
use rocksdb::{IngestExternalFileOptions, ReadOptions, SstFileWriter, WriteBatch};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

/// The folder of files that RocksDB has not taken in yet, beside its own.
const FOLDER: &str = "overlay";

/// The steps of a flush that is done, for tests of what a crash leaves after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Step {
    Journalled,
    Frozen,
    Synced,
    Written,
    Ingested,
    Trimmed,
    Thawed,
}

impl Store {
    /// Waits until the overlay has room for a turn.
    pub(in super::super) fn make_room(&self) -> Result<(), StoreError> {
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
            if self.is_poisoned() {
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

    /// Writes what is frozen to files, until [`Store::end_flusher`] is called; and meanwhile finds out what RocksDB has. For
    /// a thread of its own: without one, whoever writes a turn does it.
    pub fn run_flusher(&self) {
        self.overlay.progress().has_flusher = true;
        let mut unknown = self.overlay.unknown();
        loop {
            let mut progress = self.overlay.progress();
            while progress.frozen_to.is_none() && !progress.ends {
                let Some(shard) = unknown.pop() else {
                    progress = self.overlay.wait(progress);
                    continue;
                };
                drop(progress);
                if let Err(error) = self.look_through(shard) {
                    // Nothing is lost by it but time: RocksDB is asked for every log of the shard.
                    tracing::warn!(%error, shard = shard.0, "a shard could not be looked through");
                }
                progress = self.overlay.progress();
            }
            if progress.frozen_to.is_none() || self.is_poisoned() {
                progress.has_flusher = false;
                self.overlay.progressed.notify_all();
                return;
            }
            drop(progress);
            let flushed = self.flush_frozen();
            if unknown.is_empty() {
                unknown = self.overlay.unknown();
            }
            if let Err(error) = flushed {
                tracing::error!(%error, "logs cannot be written to a file: events are refused from now on");
            }
        }
    }

    /// Finds out which logs RocksDB has of a shard.
    pub(super) fn look_through(&self, shard: ShardId) -> Result<(), StoreError> {
        // What a flush adds meanwhile would be missed.
        let _flushing = self.overlay.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let Range { start, end } = shard_rows(shard);
        let mut options = ReadOptions::default();
        options.set_iterate_range(start..end);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(self.cf(Table::Logs), options);
        rows.seek_to_first();
        let mut hashes = Vec::new();
        while let Some(key) = rows.key() {
            hashes.push(self.overlay.hash(key));
            rows.next();
        }
        rows.status().map_err(StoreError::rocks("looking through a shard"))?;
        self.overlay.know(shard, &hashes);
        Ok(())
    }

    /// Where RocksDB has no logs at all, that is known at once.
    pub(in super::super) fn know_if_empty(&self) {
        let mut rows = self.db.raw_iterator_cf(self.cf(Table::Logs));
        rows.seek_to_first();
        if !rows.valid() && rows.status().is_ok() {
            ShardId::all().for_each(|shard| self.overlay.know(shard, &[]));
        }
    }

    pub fn end_flusher(&self) {
        self.overlay.progress().ends = true;
        self.overlay.progressed.notify_all();
    }

    /// Writes the whole overlay to files. Nobody may write meanwhile, and the flusher must have ended.
    pub(in super::super) fn flush_overlay(&self) -> Result<(), StoreError> {
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
    pub(in super::super) fn rest_overlay(&self) -> Result<(), StoreError> {
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
        self.flush_to(frozen_to).inspect_err(|_| self.poison())?;
        metrics::histogram!("freqcap_overlay_flush_seconds").record(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn flush_to(&self, frozen_to: u64) -> Result<(), StoreError> {
        self.write_note()?;
        self.sync()?;
        self.at(Step::Synced);
        if let Some(file) = self.write_frozen()? {
            self.at(Step::Written);
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            let taken = self.db.ingest_external_file_cf_opts(self.cf(Table::Logs), &options, vec![file]);
            taken.map_err(StoreError::rocks("taking in a file of logs"))?;
        }
        self.at(Step::Ingested);
        let mut batch = WriteBatch::default();
        self.note_list(&mut batch);
        batch.delete_range_cf(self.cf(Table::Journal), 0u64.to_be_bytes(), (frozen_to + 1).to_be_bytes());
        self.db.write(batch).map_err(StoreError::rocks("trimming the journal"))?;
        self.at(Step::Trimmed);
        self.overlay.thaw();
        self.at(Step::Thawed);
        Ok(())
    }

    /// Notes that RocksDB's list of files is about to be added to.
    fn write_note(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        self.note_list(&mut batch);
        // A write needs a row; this one is of no journal.
        batch.delete_cf(self.cf(Table::Journal), u64::MAX.to_be_bytes());
        self.db.write(batch).map_err(StoreError::rocks("noting the list of files"))
    }

    /// Writes the frozen rows to a file, in the order of their keys; none if there are none.
    fn write_frozen(&self) -> Result<Option<PathBuf>, StoreError> {
        let failed = |source| StoreError::RocksDb { doing: "writing a file of logs", source };
        let path = self.folder.join(format!("{}.sst", self.overlay.freezes()));
        let mut file = SstFileWriter::create(&self.file_options);
        let mut rows = 0usize;
        for shard in ShardId::all() {
            let Some(frozen) = self.overlay.frozen(shard) else { continue };
            for (key, value) in frozen.sorted() {
                if rows == 0 {
                    file.open(&path).map_err(failed)?;
                }
                rows += 1;
                if value.is_empty() { file.delete(key) } else { file.put(key, value) }.map_err(failed)?;
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        file.finish().map_err(failed)?;
        Ok(Some(path))
    }

    /// The folder for files that are not taken in yet; what an earlier run left there is removed.
    pub(in super::super) fn folder_of(dir: &std::path::Path, in_memory: bool) -> std::io::Result<PathBuf> {
        let folder = dir.join(FOLDER);
        if !in_memory {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => std::fs::create_dir_all(&folder)?,
            }
        }
        Ok(folder)
    }

    /// Where tests look in.
    #[cfg(test)]
    pub(in super::super) fn at(&self, step: Step) {
        if let Some(look) = self.at_step.get() {
            look(step);
        }
    }

    #[cfg(not(test))]
    #[inline]
    pub(in super::super) fn at(&self, _step: Step) {}
}
