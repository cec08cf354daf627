//! Snapshots beside the service: before the store opens it is restored where it is to be, and this process becomes the one
//! writer under the prefix; then snapshots are taken, until a last one at the end.

mod before;
mod beside;
mod source;

pub use before::Options;
pub(super) use before::{Before, holder};
pub(super) use beside::{Beside, Signalled, Superseding};
pub(super) use source::{Shipped, StoreSource, prepare};

use crate::model::TsMs;
use crate::snapshot::SnapshotError;
use std::path::PathBuf;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    #[error(transparent)]
    Snapshot(SnapshotError),
    #[error("{error} (--restore {older} restores the one before it)")]
    Damaged { error: SnapshotError, older: u64 },
    #[error(
        "the data directory {} is empty and {prefix} has snapshots of the store {store}, the newest of {} ms since 1970: \
         --restore never restores none of them, so choose an empty prefix, or leave --restore out", dir.display(), taken.0
    )]
    NotRestored { dir: PathBuf, prefix: String, store: String, taken: TsMs },
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
    #[error("the service was told to stop before it had started")]
    Stopped,
}

impl From<SnapshotError> for SnapshotsError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Stopped => Self::Stopped,
            error => Self::Snapshot(error),
        }
    }
}

impl SnapshotsError {
    /// 2 where what we were told cannot work, or another process must be stopped first; 1 where the bucket or the disk failed.
    pub(super) fn exit_code(&self) -> u8 {
        use SnapshotError as E;
        match self {
            Self::NotRestored { .. } | Self::Damaged { .. } => 2,
            Self::Snapshot(E::Bucket(error)) if error.cause.is_passing() => 1,
            Self::Snapshot(E::Disk { .. } | E::Checkpoint(_) | E::Abandoned(_) | E::Internal(_)) => 1,
            Self::Snapshot(_) => 2,
            Self::Runtime(_) | Self::Stopped => 1,
        }
    }
}
