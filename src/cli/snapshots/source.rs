//! The store as snapshots see it.

use crate::snapshot::{Checkpoint, CheckpointFile, FileKind, Manifest, Source};
use crate::store::Store;
use std::path::Path;
use std::sync::Arc;

/// The open store, to be snapshotted.
pub(in crate::cli) struct StoreSource(pub(in crate::cli) Arc<Store>);

impl Source for StoreSource {
    fn store_id(&self) -> String {
        self.0.info().id.clone()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        let files = self.0.standin_checkpoint(dir)?;
        let files =
            files.into_iter().map(|(name, bytes)| CheckpointFile { kind: kind_of(&name), name, bytes }).collect();
        Ok(Checkpoint { dir: dir.to_owned(), sequence: 0, files, kafka: Vec::new(), rules_revision: 0, clock_ms: None })
    }
}

fn kind_of(name: &str) -> FileKind {
    match name {
        _ if name.ends_with(".sst") => FileKind::Table,
        _ if name.ends_with(".log") => FileKind::Log,
        _ if name.starts_with("MANIFEST") => FileKind::Manifest,
        "CURRENT" => FileKind::Current,
        _ if name.starts_with("OPTIONS") => FileKind::Options,
        _ => FileKind::Other,
    }
}

/// Prepares the files of a snapshot for being opened.
pub(in crate::cli) fn finish_restore(_dir: &Path, _manifest: &Manifest, _as_new: bool) -> Result<(), String> {
    Ok(())
}
