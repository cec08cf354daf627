//! The store as snapshots see it.

use crate::snapshot::{Checkpoint, Manifest, Source};
use crate::store::Store;
use std::path::Path;
use std::sync::Arc;

/// The open store, to be snapshotted.
pub(in crate::cli) struct StoreSource(pub(in crate::cli) Arc<Store>);

impl Source for StoreSource {
    fn store_id(&self) -> String {
        self.0.info().id.clone()
    }

    fn checkpoint(&self, _dir: &Path) -> Result<Checkpoint, String> {
        Err("not there yet".to_owned())
    }
}

/// Prepares the files of a snapshot for being opened.
pub(in crate::cli) fn finish_restore(_dir: &Path, _manifest: &Manifest, _as_new: bool) -> Result<(), String> {
    Ok(())
}
