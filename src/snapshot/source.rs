//! What is snapshotted: a store that makes checkpoints of itself.

use crate::model::TsMs;
use crate::store::{Checkpoint, TailBatch, TailGap};
use std::path::Path;
use std::sync::Arc;

/// Reads the time that the service goes by.
pub type Now = Arc<dyn Fn() -> TsMs + Send + Sync>;

/// A store that makes checkpoints of itself. Both may block.
pub trait Source: Send + Sync + 'static {
    /// The id of the store.
    fn store_id(&self) -> String;

    /// Copies the store, by hard links where a file is never changed, into `dir`, which does not exist yet and is on the
    /// same file system. All that was acknowledged before the call is in it.
    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String>;

    /// From now on keeps what is written, up to so many bytes. What was kept before is forgotten.
    fn keep_tail(&self, _bytes_max: usize) {}

    /// Takes what is kept, the oldest first, about so many bytes.
    fn take_tail(&self, _bytes_max: usize) -> Result<Vec<TailBatch>, TailGap> {
        Ok(Vec::new())
    }
}
