//! The steps of taking, collecting and restoring, where tests end the work as a killed process would.

use super::error::SnapshotError;
use std::fmt;
use std::sync::Arc;

/// A step that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Checkpointed,
    FileUploaded,
    Uploaded,
    BeforeManifest,
    ManifestWritten,
    Marked,
    ManifestsCollected,
    BatchCollected,
    RestoreBegun,
    PartRestored,
    FilesRestored,
    RestoreMarked,
    SegmentMade,
    SegmentShipped,
}

type Hook = dyn Fn(Step) -> Result<(), SnapshotError> + Send + Sync;

/// What is told of each step; nobody, but in tests. An error ends the work there, with nothing tidied up.
#[derive(Clone, Default)]
pub(crate) struct Steps(Option<Arc<Hook>>);

impl Steps {
    #[cfg(test)]
    pub(crate) fn new(hook: impl Fn(Step) -> Result<(), SnapshotError> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) fn reached(&self, step: Step) -> Result<(), SnapshotError> {
        self.0.as_ref().map_or(Ok(()), |hook| hook(step))
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}
