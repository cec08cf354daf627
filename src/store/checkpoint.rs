//! A checkpoint: a second directory with everything that is needed to open the store as it is now.
//!
//! Tables are hard links, for RocksDB never changes a file of them; the write-ahead log and the list of files are copied up to
//! where they are. Writers go on meanwhile. A flush of the overlay must not: a log that moves from the journal into a file could
//! be missed in both, if the list of files was copied before the file was taken in, and the write-ahead log after the journal
//! was trimmed. So a checkpoint holds the lock over flushes.
//!
//! Beside RocksDB's files a checkpoint has two of ours: up to where its write-ahead log must go (`freqcap.synced`), so that a
//! log that is lost on the way is noticed; and who was erased ([`ERASED`]), for whoever restores an older one.

use super::error::StoreError;
use super::position::{Known, Position};
use super::store::Store;
use super::tables::kafka_offsets::FrontierAt;
use crate::model::TsMs;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// The file of a checkpoint that says who was erased. See [`super::tables::erased`] for a row; before it stand the lengths of
/// its key and its value, a byte each.
pub const ERASED: &str = "freqcap.erased";

/// What a file of a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Rows of a table, never changed.
    Table,
    /// A part of the write-ahead log.
    Log,
    /// RocksDB's list of files.
    Manifest,
    /// Which list of files is in force.
    Current,
    /// RocksDB's options.
    Options,
    /// A small file of our own.
    Other,
}

impl FileKind {
    /// By the name of a file.
    pub fn of(name: &str) -> Self {
        match name {
            "CURRENT" => Self::Current,
            _ if name.ends_with(".sst") => Self::Table,
            _ if name.ends_with(".log") => Self::Log,
            _ if name.starts_with("MANIFEST-") => Self::Manifest,
            _ if name.starts_with("OPTIONS-") => Self::Options,
            _ => Self::Other,
        }
    }
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Its name in the directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What it is.
    pub kind: FileKind,
}

/// A store at one instant, in a directory of its own.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where the files are.
    pub dir: PathBuf,
    /// Every write up to this sequence of RocksDB's is in it; later ones may be.
    pub sequence: u64,
    /// All files, by name.
    pub files: Vec<CheckpointFile>,
    /// How far each Kafka partition is at least.
    pub kafka: Vec<FrontierAt>,
    /// The revision of the rules in force, at least.
    pub rules_revision: u64,
    /// The last believed time of day, at least.
    pub clock: Option<TsMs>,
}

impl Checkpoint {
    /// Removes the directory. What of it is a hard link stays in the store.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.dir)
    }
}

impl Store {
    /// Takes a checkpoint into `dir`, which must not exist and must be on the file system of the data directory. It holds every
    /// write that returned before the call, whether it was synced or not. Blocks on disk: until a flush that is under way has
    /// ended, for a sync, and for the copies of the write-ahead log. Leaves nothing behind where it fails.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, StoreError> {
        if self.db.dir().is_none() {
            return Err(StoreError::InMemory);
        }
        if dir.exists() {
            return Err(StoreError::io("beginning a checkpoint")(io::ErrorKind::AlreadyExists.into()));
        }
        let taken = self.take_checkpoint(dir);
        if taken.is_err() {
            // Where this fails, too, the next one does, and says so.
            let _ = std::fs::remove_dir_all(dir);
        }
        taken
    }

    fn take_checkpoint(&self, dir: &Path) -> Result<Checkpoint, StoreError> {
        let _no_flush = self.overlay.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the files are: what the checkpoint has may be further, never behind.
        let kafka = self.tables.kafka_offsets.frontiers()?;
        let rules_revision = self.tables.rules.in_force()?.map_or(0, |mark| mark.revision);
        let clock = self.tables.meta.last_believed()?;
        let sequence = self.db.rocks.latest_sequence_number();
        self.db.sync()?;
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db.rocks);
        let checkpoint = checkpoint.map_err(StoreError::rocks("beginning a checkpoint"))?;
        // So much of the write-ahead log is copied rather than flushed first: all of it.
        let taken = checkpoint.create_checkpoint_with_log_size(dir, u64::MAX);
        taken.map_err(StoreError::rocks("taking a checkpoint"))?;
        self.write_erased(dir)?;
        let known = Known { synced: sequence, written: sequence, boot: 0, clean: false };
        Position::begin(dir, known).map_err(StoreError::io("noting how far a checkpoint is"))?;
        let files = files(dir).map_err(StoreError::io("listing a checkpoint"))?;
        Ok(Checkpoint { dir: dir.to_owned(), sequence, files, kafka, rules_revision, clock })
    }

    /// Writes the file of who was erased, if anybody was. What cannot be read is counted and left out.
    fn write_erased(&self, dir: &Path) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for shard in self.shards.iter() {
            self.tables.erased.rows(shard, |key, value| put_erased(&mut bytes, key, value));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let path = dir.join(ERASED);
        let written = std::fs::write(&path, bytes).and_then(|()| File::open(&path)?.sync_all());
        written.map_err(StoreError::io("writing who was erased"))
    }
}

/// Adds a row to the bytes of the file of who was erased.
fn put_erased(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A key has 17 bytes, a value at most 10.
    let (Ok(key_bytes), Ok(value_bytes)) = (u8::try_from(key.len()), u8::try_from(value.len())) else { return };
    bytes.extend_from_slice(&[key_bytes, value_bytes]);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
}

/// The rows in the bytes of that file; `None` where they are cut off.
pub(super) fn erased_rows(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rows = Vec::new();
    while let Some((lengths, rest)) = bytes.split_first_chunk::<2>() {
        let (key, rest) = rest.split_at_checked(lengths[0].into())?;
        let (value, rest) = rest.split_at_checked(lengths[1].into())?;
        rows.push((key, value));
        bytes = rest;
    }
    bytes.is_empty().then_some(rows)
}

fn files(dir: &Path) -> io::Result<Vec<CheckpointFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push(CheckpointFile { kind: FileKind::of(&name), bytes: entry.metadata()?.len(), name });
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
