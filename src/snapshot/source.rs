//! What is snapshotted: a store that makes checkpoints of itself.

use crate::store::Checkpoint;
use std::path::Path;

/// A store that makes checkpoints of itself. Both may block.
pub trait Source: Send + Sync + 'static {
    /// The id of the store.
    fn store_id(&self) -> String;

    /// Copies the store, by hard links where a file is never changed, into `dir`, which does not exist yet and is on the
    /// same file system. All that was acknowledged before the call is in it.
    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String>;
}
