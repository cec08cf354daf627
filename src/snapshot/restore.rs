//! Brings a snapshot back into an empty directory.
//!
//! A marker stands in the directory from the first byte until everything is on disk: a directory with a marker is never opened.
//! After a kill the same restore goes on: what is there already, by its hash, is not fetched again.

use super::catalog::Catalog;
use super::data_dir::{Contents, Mark, Restoring, contents, sync_dir};
use super::error::{SnapshotError, disk};
use super::fetch::{fetch, holds};
use super::hash::hash;
use super::manifest::{Manifest, Part};
use super::steps::{Step, Steps};
use super::upload::blocking;
use crate::store::{DirLock, RESTORING, lock_dir};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Objects that are fetched at once. Each holds one piece of 4 MiB in memory.
const FETCHES_AT_ONCE: usize = 16;

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The snapshot.
    pub sequence: u64,
    /// Objects that are on disk.
    pub objects_done: u64,
    /// All objects.
    pub objects: u64,
    /// Bytes that are on disk.
    pub bytes_done: u64,
    /// All bytes.
    pub bytes: u64,
}

/// Is told how far a restore is, from several threads.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Makes restored files ready to be opened. May block.
pub type Prepare = Arc<dyn Fn(&Path, &Manifest) -> Result<(), String> + Send + Sync>;

/// How a snapshot is restored.
#[derive(Clone)]
pub struct RestoreOptions {
    /// Where to: empty, or what an interrupted restore left.
    pub dir: PathBuf,
    /// The epoch of the writer that restores; 0 if nobody is going to write there.
    pub epoch: u64,
    /// The directory may hold a store, which the snapshot replaces.
    pub replace: bool,
    /// The copy is to be a store of its own, beside the original: it is not told where it stands in this history.
    pub is_new_store: bool,
    /// What the store's side does to the files before the directory may be opened. The marker is still there, so after a kill the
    /// restore begins again; the directory is not locked.
    pub prepare: Option<Prepare>,
    /// Is told how far it is.
    pub progress: OnProgress,
    pub(super) steps: Steps,
}

impl RestoreOptions {
    /// Restores into `dir`, and nothing but the snapshot that is asked for.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            epoch: 0,
            replace: false,
            is_new_store: false,
            prepare: None,
            progress: Arc::new(|_| {}),
            steps: Steps::default(),
        }
    }
}

/// Restores a snapshot, and returns it. One that is damaged is an error that names the one before it. The directory holds a store at the end, on disk, and knows where it stands; the store's side may have
/// to prepare it before it is opened.
pub async fn restore(
    catalog: &Catalog,
    manifest: Manifest,
    options: &RestoreOptions,
) -> Result<Manifest, SnapshotError> {
    match restore_one(catalog, &manifest, options).await {
        Ok(()) => Ok(manifest),
        Err(error) if error.is_of_the_snapshot() => Err(catalog.with_hint(manifest.sequence, error).await),
        Err(error) => Err(error),
    }
}

async fn restore_one(catalog: &Catalog, manifest: &Manifest, options: &RestoreOptions) -> Result<(), SnapshotError> {
    let dir = options.dir.clone();
    let (at, replace) = (dir.clone(), options.replace);
    let lock = blocking(move || lock(&at, replace)).await?;
    let restoring = Restoring { prefix: catalog.prefix(), sequence: manifest.sequence, nonce: manifest.nonce.clone() };
    let names: HashSet<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
    let (marker, bytes) = (restoring.clone(), manifest.bytes());
    let at = dir.clone();
    blocking(move || {
        prepare(&at, &marker, &names, replace)?;
        check_room(&at, bytes)
    })
    .await?;
    options.steps.reached(Step::RestoreBegun)?;
    fetch_all(catalog, manifest, options).await?;
    options.steps.reached(Step::FilesRestored)?;
    let mark = Mark {
        prefix: restoring.prefix,
        store_id: manifest.store_id.clone(),
        epoch: manifest.epoch.max(options.epoch),
        sequence: manifest.sequence,
        nonce: manifest.nonce.clone(),
        ..Mark::default()
    };
    let (steps, prepare) = (options.steps.clone(), options.prepare.clone());
    let (manifest, is_new_store) = (manifest.clone(), options.is_new_store);
    blocking(move || {
        sync_dir(&dir)?;
        if !is_new_store {
            mark.write(&dir)?;
        }
        steps.reached(Step::RestoreMarked)?;
        drop(lock);
        if let Some(prepare) = prepare {
            prepare(&dir, &manifest).map_err(SnapshotError::Prepare)?;
        }
        Restoring::remove(&dir)
    })
    .await
}

/// Makes the directory, which nobody else may use meanwhile. One that has something in it is not touched.
fn lock(dir: &Path, replace: bool) -> Result<DirLock, SnapshotError> {
    if let Contents::Something(found) = contents(dir)?
        && !replace
    {
        return Err(SnapshotError::NotEmpty { dir: dir.to_owned(), found });
    }
    Ok(lock_dir(dir)?)
}

/// Makes the directory ours, or goes on with what an earlier try left. Nothing that is not of a restore is removed.
fn prepare(dir: &Path, restoring: &Restoring, names: &HashSet<String>, replace: bool) -> Result<(), SnapshotError> {
    if let Contents::Something(found) = contents(dir)?
        && !replace
    {
        return Err(SnapshotError::NotEmpty { dir: dir.to_owned(), found });
    }
    restoring.write(dir)?;
    // What an earlier try of another snapshot left, or the store that is replaced: from the marker on, nobody opens it.
    for entry in std::fs::read_dir(dir).map_err(disk("reading", dir))? {
        let entry = entry.map_err(disk("reading", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().map_err(disk("reading", dir))?.is_file();
        if is_file && name != RESTORING && name != "freqcap.lock" && !names.contains(&name) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(disk("removing", &path))?;
        }
    }
    Ok(())
}

/// A disk that is too small is told before hours of fetching.
fn check_room(dir: &Path, bytes: u64) -> Result<(), SnapshotError> {
    let mut there = 0;
    for entry in std::fs::read_dir(dir).map_err(disk("reading", dir))? {
        let entry = entry.map_err(disk("reading", dir))?;
        there += entry.metadata().map_err(disk("reading", dir))?.len();
    }
    let disk_space = rustix::fs::statvfs(dir).map_err(|error| disk("looking at", dir)(error.into()))?;
    let free = disk_space.f_bavail.saturating_mul(disk_space.f_frsize);
    if free.saturating_add(there) < bytes {
        let text = format!("the snapshot has {bytes} bytes, and {free} are free");
        return Err(disk("restoring into", dir)(std::io::Error::new(ErrorKind::StorageFull, text)));
    }
    Ok(())
}

/// Counts what is done, and tells.
struct Counter {
    whole: Progress,
    objects_done: AtomicU64,
    bytes_done: AtomicU64,
    tell: OnProgress,
}

impl Counter {
    fn add(&self, objects: u64, bytes: u64) {
        let objects_done = self.objects_done.fetch_add(objects, Ordering::Relaxed) + objects;
        let bytes_done = self.bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.tell)(Progress { objects_done, bytes_done, ..self.whole });
    }
}

async fn fetch_all(catalog: &Catalog, manifest: &Manifest, options: &RestoreOptions) -> Result<(), SnapshotError> {
    let sequence = manifest.sequence;
    let objects = manifest.objects().count() as u64;
    let whole = Progress { sequence, objects, bytes: manifest.bytes(), ..Progress::default() };
    let (objects_done, bytes_done) = (AtomicU64::new(0), AtomicU64::new(0));
    let counter = Arc::new(Counter { whole, objects_done, bytes_done, tell: options.progress.clone() });
    counter.add(0, 0);
    let permits = Arc::new(Semaphore::new(FETCHES_AT_ONCE));
    let mut fetches = JoinSet::new();
    for file in &manifest.files {
        let path = options.dir.join(&file.name);
        set_length(&path, file.bytes).await?;
        let mut at = 0;
        for part in &file.parts {
            let (bucket, permits) = (catalog.bucket.clone(), permits.clone());
            let (path, part, counter) = (path.clone(), part.clone(), counter.clone());
            let (steps, from) = (options.steps.clone(), at);
            at += part.bytes;
            fetches.spawn(async move {
                let _permit = permits.acquire().await;
                if has_part(&path, from, &part).await? {
                    counter.add(1, part.bytes);
                    return Ok(());
                }
                fetch(&bucket, &part, &path, from, sequence, &|bytes| counter.add(0, bytes)).await?;
                counter.add(1, 0);
                steps.reached(Step::PartRestored)
            });
        }
    }
    // Dropped with an error, the set ends the others.
    while let Some(done) = fetches.join_next().await {
        done??;
    }
    Ok(())
}

/// A small file of a snapshot, if it has one of this name: who was erased, for the restore of an older one.
pub async fn read_file(catalog: &Catalog, manifest: &Manifest, name: &str) -> Result<Option<Vec<u8>>, SnapshotError> {
    let Some(file) = manifest.files.iter().find(|file| file.name == name) else { return Ok(None) };
    let mut bytes = Vec::new();
    for part in &file.parts {
        let found = catalog.bucket.get_range(&part.object, 0..part.bytes, part.bytes).await;
        let found = found.map_err(|error| SnapshotError::of_object(error, manifest.sequence))?;
        if hash(&found) != part.sha256 {
            let what = format!("its SHA-256 is not {}", part.sha256);
            return Err(SnapshotError::Damaged { object: part.object.clone(), what });
        }
        bytes.extend_from_slice(&found);
    }
    Ok(Some(bytes))
}

/// A file may have been longer in an earlier try.
async fn set_length(path: &Path, bytes: u64) -> Result<(), SnapshotError> {
    let path = path.to_owned();
    blocking(move || {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path).map_err(disk("making", &path))?;
        if file.metadata().map_err(disk("reading", &path))?.len() > bytes {
            file.set_len(0).map_err(disk("cutting", &path))?;
        }
        file.sync_all().map_err(disk("syncing", &path))
    })
    .await
}

async fn has_part(path: &Path, from: u64, part: &Part) -> Result<bool, SnapshotError> {
    let (path, part) = (path.to_owned(), part.clone());
    blocking(move || holds(&path, from, &part)).await
}
