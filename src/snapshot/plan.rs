//! What of a checkpoint must be uploaded: what no object of ours holds yet.

use super::error::SnapshotError;
use super::layout::Layout;
use super::manifest::{File, Manifest};
use super::upload::{Upload, hash_file, tail};
use crate::bucket::Object;
use crate::store::{Checkpoint, CheckpointFile, FileKind};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A log of more pieces is uploaded anew as a whole: a restore fetches each piece by itself.
const PIECES_MAX: usize = 64;

/// The objects that a manifest may name without an upload: those of the snapshot that the data directory stands at, and
/// those that this epoch has uploaded.
#[derive(Debug, Default)]
pub(super) struct Known {
    files: HashMap<String, File>,
    /// Makes the names of pieces unlike each other.
    pieces: u64,
}

/// A file of the snapshot: what is there of it already, and what must be uploaded behind that.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub file: File,
    pub upload: Option<Upload>,
}

impl Known {
    /// What a snapshot of an earlier epoch is made of, as far as it is still in the bucket. Its logs may have been cut at the
    /// start since, so they are left out.
    pub(super) fn of(manifest: &Manifest, listed: &[Object]) -> Self {
        let there: HashSet<(&str, u64)> = listed.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
        let is_there = |file: &&File| file.parts.iter().all(|part| there.contains(&(part.object.as_str(), part.bytes)));
        let is_whole = |file: &&File| !matches!(file.kind, FileKind::Log | FileKind::Manifest);
        let files = manifest.files.iter().filter(is_whole).filter(is_there);
        Self { files: files.map(|file| (file.name.clone(), file.clone())).collect(), pieces: 0 }
    }

    /// From now on its objects may be named.
    pub(super) fn add(&mut self, file: File) {
        self.files.insert(file.name.clone(), file);
    }

    /// Forgets what is in the data directory no more.
    pub(super) fn keep(&mut self, manifest: &Manifest) {
        let named: HashSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        self.files.retain(|name, _| named.contains(name.as_str()));
    }

    /// Every object that may still be named.
    pub(super) fn objects(&self) -> impl Iterator<Item = &str> {
        self.files.values().flat_map(|file| file.parts.iter().map(|part| part.object.as_str()))
    }

    /// What to do for each file. Reads the ends of tables and the whole of small files.
    pub(super) fn plan(
        &mut self,
        checkpoint: &Checkpoint,
        layout: &Layout,
        epoch: u64,
    ) -> Result<Vec<Planned>, SnapshotError> {
        let mut planned = Vec::with_capacity(checkpoint.files.len());
        for wanted in &checkpoint.files {
            let path = checkpoint.dir.join(&wanted.name);
            planned.push(match wanted.kind {
                FileKind::Table => self.table(wanted, &path, layout, epoch)?,
                FileKind::Log | FileKind::Manifest => self.log(wanted, &path, layout, epoch),
                FileKind::Current | FileKind::Options | FileKind::Other => self.small(wanted, &path, layout, epoch)?,
            });
        }
        Ok(planned)
    }

    /// A table is never changed. After a crash its number may be given again, which its end tells.
    fn table(
        &self,
        wanted: &CheckpointFile,
        path: &Path,
        layout: &Layout,
        epoch: u64,
    ) -> Result<Planned, SnapshotError> {
        let tail = tail(path, wanted.bytes)?;
        let known = self.files.get(&wanted.name);
        if let Some(file) = known.filter(|file| file.bytes == wanted.bytes && file.tail == tail) {
            return Ok(Planned { file: file.clone(), upload: None });
        }
        let object = layout.file(epoch, &wanted.name);
        let upload = Upload { path: path.to_owned(), range: 0..wanted.bytes, object };
        Ok(Planned { file: File { tail, ..empty(wanted) }, upload: Some(upload) })
    }

    /// A log is appended to: only what came since is uploaded.
    fn log(&mut self, wanted: &CheckpointFile, path: &Path, layout: &Layout, epoch: u64) -> Planned {
        let known = self.files.get(&wanted.name);
        let begun = known.filter(|file| file.bytes <= wanted.bytes && file.parts.len() < PIECES_MAX);
        let file = begun.cloned().unwrap_or_else(|| empty(wanted));
        if file.bytes == wanted.bytes && !(file.parts.is_empty() && wanted.bytes > 0) {
            return Planned { file, upload: None };
        }
        let from = file.bytes;
        let object = self.piece(layout, epoch, &wanted.name, from);
        Planned { file, upload: Some(Upload { path: path.to_owned(), range: from..wanted.bytes, object }) }
    }

    fn small(
        &mut self,
        wanted: &CheckpointFile,
        path: &Path,
        layout: &Layout,
        epoch: u64,
    ) -> Result<Planned, SnapshotError> {
        let sha256 = hash_file(path, 0..wanted.bytes)?;
        let known = self.files.get(&wanted.name).filter(|file| file.bytes == wanted.bytes);
        if let Some(file) = known.filter(|file| matches!(&file.parts[..], [part] if part.sha256 == sha256)) {
            return Ok(Planned { file: file.clone(), upload: None });
        }
        let object = self.piece(layout, epoch, &wanted.name, 0);
        let upload = Upload { path: path.to_owned(), range: 0..wanted.bytes, object };
        Ok(Planned { file: empty(wanted), upload: Some(upload) })
    }

    fn piece(&mut self, layout: &Layout, epoch: u64, name: &str, from: u64) -> String {
        self.pieces += 1;
        layout.piece(epoch, self.pieces, name, from)
    }
}

/// A file of which nothing is in the bucket.
fn empty(wanted: &CheckpointFile) -> File {
    File { name: wanted.name.clone(), kind: wanted.kind, bytes: 0, parts: Vec::new(), tail: String::new() }
}
