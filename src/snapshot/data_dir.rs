//! What a data directory knows of its snapshots: two small files.

use super::error::{SnapshotError, disk};
use super::manifest::Manifest;
use crate::random::random_id;
use crate::store::RESTORING;
use crate::store::boot_number;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The mark: which store it is, and where its last snapshot is.
pub const MARK: &str = "freqcap.snapshots";

/// Where checkpoints are made: on the same file system as the data, for they are hard links.
pub const CHECKPOINT: &str = "freqcap.checkpoint";

/// Manifests whose outcome is unknown are at most this many.
const PENDING_MAX: usize = 16;

/// What may be in a directory that counts as empty.
const NOT_CONTENT: [&str; 3] = ["lost+found", "freqcap.lock", RESTORING];

/// Where a data directory stands in the history of its snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub prefix: String,
    pub store_id: String,
    /// The epoch in which it was written to last.
    pub epoch: u64,
    /// Its last snapshot; 0 before the first.
    pub sequence: u64,
    pub nonce: String,
    /// Nonces of manifests that were about to be written, and may have been.
    #[serde(default)]
    pub pending: Vec<String>,
    /// The nonce of the claim of the epoch, and where the process was that made it.
    #[serde(default)]
    pub claim: String,
    #[serde(default)]
    pub place: String,
}

/// What is being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restoring {
    pub prefix: String,
    pub sequence: u64,
    pub nonce: String,
}

/// Which directory this is, on which running machine. Of two processes that are in the same place and must lock it, the
/// earlier one is dead once the later one has the lock. A copy, another machine, or a reboot is another place.
pub(super) fn place(dir: &Path) -> Result<String, SnapshotError> {
    let metadata = std::fs::metadata(dir).map_err(disk("reading", dir))?;
    let boot = match boot_number() {
        // The machine does not tell: no two processes are known to be in the same place.
        0 => random_id(),
        number => format!("{number:x}"),
    };
    Ok(format!("{boot}-{:x}-{:x}", metadata.dev(), metadata.ino()))
}

impl Mark {
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, SnapshotError> {
        read_json(&dir.join(MARK))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), SnapshotError> {
        write_json(dir, MARK, self)
    }

    pub(super) fn add_pending(&mut self, nonce: &str) {
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(nonce.to_owned());
    }

    pub(super) fn has_written(&self, manifest: &Manifest) -> bool {
        manifest.nonce == self.nonce || self.pending.contains(&manifest.nonce)
    }

    pub(super) fn set_last(&mut self, manifest: &Manifest) {
        (self.sequence, self.nonce) = (manifest.sequence, manifest.nonce.clone());
        self.pending.clear();
    }
}

impl Restoring {
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, SnapshotError> {
        read_json(&dir.join(RESTORING))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), SnapshotError> {
        write_json(dir, RESTORING, self)
    }

    pub(super) fn remove(dir: &Path) -> Result<(), SnapshotError> {
        let path = dir.join(RESTORING);
        match std::fs::remove_file(&path) {
            // Who made the directory ready may have removed it.
            Err(error) if error.kind() != ErrorKind::NotFound => Err(disk("removing", &path)(error)),
            _ => sync_dir(dir),
        }
    }
}

/// What is in a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing, or it does not exist.
    Empty,
    /// A restore that was interrupted, of this snapshot.
    Unfinished(u64),
    /// Something; the name of one of its files.
    Something(String),
}

/// Looks at a data directory. One that cannot be read is an error, never empty.
pub fn contents(dir: &Path) -> Result<Contents, SnapshotError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::Empty),
        Err(error) => return Err(disk("reading", dir)(error)),
    };
    if let Some(restoring) = Restoring::read(dir)? {
        return Ok(Contents::Unfinished(restoring.sequence));
    }
    for entry in entries {
        let name = entry.map_err(disk("reading", dir))?.file_name().to_string_lossy().into_owned();
        if !NOT_CONTENT.contains(&name.as_str()) {
            return Ok(Contents::Something(name));
        }
    }
    Ok(Contents::Empty)
}

/// Removes the checkpoint that a killed process left: its links keep the room of files that the store has removed. Taking a
/// snapshot does so itself; a start without snapshots should.
pub fn remove_checkpoint(dir: &Path) -> Result<(), SnapshotError> {
    let checkpoint = dir.join(CHECKPOINT);
    match std::fs::remove_dir_all(&checkpoint) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(disk("removing", &checkpoint)(error)),
        _ => Ok(()),
    }
}

/// The id of the store that a directory has been snapshotted as, if it has been.
pub fn store_id(dir: &Path) -> Result<Option<String>, SnapshotError> {
    Ok(Mark::read(dir)?.map(|mark| mark.store_id))
}

/// A mark that cannot be read must not be taken for none: the directory could be older than the bucket.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SnapshotError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("reading", path)(error)),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| disk("reading", path)(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// Replaced in one step, and on disk when this returns.
fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), SnapshotError> {
    let (path, next): (PathBuf, PathBuf) = (dir.join(name), dir.join(format!("{name}.next")));
    let json = serde_json::to_vec(value).map_err(|error| SnapshotError::Internal(error.to_string()))?;
    let mut file = File::create(&next).map_err(disk("writing", &next))?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(disk("writing", &next))?;
    std::fs::rename(&next, &path).map_err(disk("writing", &path))?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SnapshotError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(disk("syncing", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_empty_unfinished_or_has_something() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(contents(&dir.path().join("missing")).unwrap(), Contents::Empty);
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::write(dir.path().join("freqcap.lock"), "process 1").unwrap();
        assert_eq!(contents(dir.path()).unwrap(), Contents::Empty);
        std::fs::write(dir.path().join("000001.sst"), "").unwrap();
        assert_eq!(contents(dir.path()).unwrap(), Contents::Something("000001.sst".to_owned()));
        let restoring = Restoring { prefix: "p".to_owned(), sequence: 4, nonce: "n".to_owned() };
        restoring.write(dir.path()).unwrap();
        assert_eq!(contents(dir.path()).unwrap(), Contents::Unfinished(4));
        Restoring::remove(dir.path()).unwrap();
        assert_eq!(contents(dir.path()).unwrap(), Contents::Something("000001.sst".to_owned()));
        // A file in its place, and a mark that is torn.
        assert_eq!(contents(&dir.path().join("000001.sst")).unwrap_err().code(), "disk_failed");
        std::fs::write(dir.path().join(MARK), "{").unwrap();
        assert_eq!(Mark::read(dir.path()).unwrap_err().code(), "disk_failed");
    }
}
