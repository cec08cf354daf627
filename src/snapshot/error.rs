//! Why a snapshot was not taken, found or restored, and what to do.

use super::layout::FORMAT;
use crate::bucket::{BucketError, Cause, ProbeError};
use crate::store::OpenError;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Why a snapshot was not taken, found or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bucket did not do what it was asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket does not do what it must.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// An object is not what its manifest says, or a manifest cannot be read.
    #[error("{object} in the bucket is damaged: {what}")]
    Damaged {
        /// Its name under the root.
        object: String,
        /// How.
        what: String,
    },
    /// An object that a manifest names is not there.
    #[error("{object}, which snapshot {sequence} names, is missing from the bucket")]
    Missing {
        /// Its name under the root.
        object: String,
        /// The snapshot that names it.
        sequence: u64,
    },
    /// A snapshot cannot be restored. What to do instead is said.
    #[error("snapshot {sequence} cannot be restored: {source}; {hint}")]
    DamagedSnapshot {
        /// Which.
        sequence: u64,
        /// What is wrong with it.
        source: Box<SnapshotError>,
        /// The snapshot before it.
        hint: String,
    },
    /// A manifest of a version that is not known here.
    #[error(
        "{object} in the bucket was written by a newer freqcap (format {found}, this one knows up to {FORMAT}); start that version"
    )]
    NewerFormat {
        /// The manifest.
        object: String,
        /// Its version.
        found: u32,
    },
    /// The prefix has snapshots of another store.
    #[error(
        "the prefix {prefix} has snapshots of the store {found}, and this data directory is of the store {ours}; choose \
         another prefix with --snapshots, or another --data-dir"
    )]
    OtherStore {
        /// The prefix.
        prefix: String,
        /// Whose snapshots are there.
        found: String,
        /// The store of the data directory.
        ours: String,
    },
    /// Another process writes under this prefix by now.
    #[error("epoch {ours} was superseded: {by} began epoch {newer} under this prefix; stop this process")]
    Superseded {
        /// Ours.
        ours: u64,
        /// Theirs.
        newer: u64,
        /// Who.
        by: String,
    },
    /// The data directory is older than what the bucket has.
    #[error(
        "the data directory {} was left at epoch {ours}, and epoch {newer} has written snapshots since: it lacks what was \
         counted there. Start with an empty data directory, or with --restore to say that the snapshot is to replace it",
        dir.display()
    )]
    DataDirSuperseded {
        /// The data directory.
        dir: PathBuf,
        /// The epoch that it knows.
        ours: u64,
        /// The epoch of the newest snapshot.
        newer: u64,
    },
    /// Another process holds the lease, and there is no time left to wait for it.
    #[error("{by} writes under this prefix (epoch {epoch}); stop it, or start with --takeover")]
    LeaseHeld {
        /// Who.
        by: String,
        /// Its epoch.
        epoch: u64,
    },
    /// A restore goes only into an empty directory.
    #[error("the directory {} is not empty (it has {found}); restore into an empty or new one", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The directory cannot be had: another process has it, or it cannot be made.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// A restore was interrupted and must be finished.
    #[error(
        "the data directory {} has a restore of snapshot {sequence} that was not finished; let it finish (--restore), or \
         empty the directory",
        dir.display()
    )]
    Unfinished {
        /// The directory.
        dir: PathBuf,
        /// The snapshot.
        sequence: u64,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// The local disk.
    #[error("{doing} {}: {source}", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What came of it.
        source: std::io::Error,
    },
    /// The store could not be copied.
    #[error("the store made no checkpoint: {0}")]
    Checkpoint(String),
    /// What was restored could not be made ready to be opened.
    #[error("what was restored could not be made ready to be opened: {0}")]
    Prepare(String),
    /// A snapshot took longer than garbage is kept for it.
    #[error("the snapshot was abandoned after {0} s; what was uploaded is used by the next one")]
    Abandoned(u64),
    /// The service stops, or does not run.
    #[error("snapshots are not taken any more: the service stops")]
    Stopped,
    /// A snapshot that nobody waited for failed.
    #[error("no snapshot was taken: {why}")]
    NotTaken {
        /// The code of the failure.
        code: &'static str,
        /// What it said.
        why: String,
    },
    /// Enough wait for a snapshot already.
    #[error("too many calls wait for a snapshot")]
    Busy,
    /// What cannot happen.
    #[error("internal: {0}")]
    Internal(String),
}

impl SnapshotError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bucket(error) => error.cause.code(),
            Self::Probe(error) => error.code(),
            Self::Damaged { .. } => "snapshot_damaged",
            Self::Missing { .. } => "snapshot_object_missing",
            Self::DamagedSnapshot { source, .. } => source.code(),
            Self::NewerFormat { .. } => "snapshot_newer_format",
            Self::OtherStore { .. } => "snapshots_of_another_store",
            Self::Superseded { .. } => "superseded",
            Self::DataDirSuperseded { .. } => "data_dir_superseded",
            Self::LeaseHeld { .. } => "lease_held",
            Self::NotEmpty { .. } => "directory_not_empty",
            Self::Directory(OpenError::InUse { .. }) => "data_dir_in_use",
            Self::Directory(_) => "disk_failed",
            Self::Unfinished { .. } => "restore_unfinished",
            Self::NoSnapshot(_) => "no_snapshot",
            Self::Disk { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk_full",
                _ => "disk_failed",
            },
            Self::Checkpoint(_) => "checkpoint_failed",
            Self::Prepare(_) => "restore_failed",
            Self::Abandoned(_) => "snapshot_abandoned",
            Self::NotTaken { code, .. } => code,
            Self::Stopped => "stopping",
            Self::Busy => "busy",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether an older snapshot may be whole where this one is not.
    pub fn is_of_the_snapshot(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
    }

    /// Whether the same may work a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Bucket(error) | Self::Probe(ProbeError::Bucket(error)) => error.cause.is_passing(),
            _ => false,
        }
    }

    /// An error of a bucket while reading what a manifest names.
    pub(super) fn of_object(error: BucketError, sequence: u64) -> Self {
        match error.cause {
            Cause::Missing => Self::Missing { object: error.object, sequence },
            Cause::Damaged => Self::Damaged { what: error.detail().to_owned(), object: error.object },
            _ => Self::Bucket(error),
        }
    }
}

/// The local disk did not do `doing` to `path`.
pub(super) fn disk(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Disk { doing, path, source }
}
