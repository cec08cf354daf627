//! What is snapshotted: a store that makes checkpoints of itself.

use super::manifest::{FileKind, KafkaFrontier};
use std::path::{Path, PathBuf};

/// A copy of a data directory at one instant, in a directory of its own.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where the files are.
    pub dir: PathBuf,
    /// The sequence of the store.
    pub sequence: u64,
    /// The files, with the sizes that belong to the checkpoint: a log may be longer by now.
    pub files: Vec<CheckpointFile>,
    /// How far each Kafka partition is.
    pub kafka: Vec<KafkaFrontier>,
    /// The revision of the rules.
    pub rules_revision: u64,
    /// The last believed time of the store, in ms since 1970.
    pub clock_ms: Option<u64>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Its name, without folders.
    pub name: String,
    /// How much of it belongs to the checkpoint.
    pub bytes: u64,
    /// What it is.
    pub kind: FileKind,
}

/// A store that makes checkpoints of itself. Both may block.
pub trait Source: Send + Sync + 'static {
    /// The id of the store.
    fn store_id(&self) -> String;

    /// Copies the store, by hard links where a file is never changed, into `dir`, which does not exist yet and is on the
    /// same file system. All that was acknowledged before the call is in it.
    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String>;
}
