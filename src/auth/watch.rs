//! Files that are read again when they change.

use super::digest::Digest;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// Some files that belong together, and what was read of them last.
#[derive(Debug)]
pub struct WatchedFiles {
    files: Vec<(PathBuf, Option<Stamp>)>,
    /// They were different when they were last looked at. A file may be written twice within one tick of the file system's
    /// clock, so they are read once more at the next look.
    is_unsettled: bool,
    /// Of what was read last.
    digest: Option<Digest>,
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: cannot be read: {kind}", path.display())]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why, as the system has it.
    pub kind: std::io::ErrorKind,
}

impl WatchedFiles {
    /// Files that were not read yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let files = paths.into_iter().map(|path| (path, None)).collect();
        Self { files, is_unsettled: false, digest: None }
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The texts of all files where they are not those that were read last; `None` where nothing has changed. Blocks.
    pub fn read_changed(&mut self, forced: bool) -> Option<Result<Vec<Vec<u8>>, Unreadable>> {
        let mut is_new = false;
        for (path, known) in &mut self.files {
            let stamp = Stamp::of(path);
            is_new |= stamp != *known || stamp.is_none();
            *known = stamp;
        }
        if !is_new && !self.is_unsettled && !forced {
            return None;
        }
        self.is_unsettled = is_new;
        let read = |(path, _): &(PathBuf, Option<Stamp>)| {
            std::fs::read(path).map_err(|why| Unreadable { path: path.clone(), kind: why.kind() })
        };
        let texts: Result<Vec<_>, _> = self.files.iter().map(read).collect();
        let digest = match &texts {
            Ok(texts) => digest_of(texts),
            // Told once, not at every look.
            Err(why) => Digest::of(why.to_string().as_bytes()),
        };
        if self.digest.replace(digest) == Some(digest) && !forced {
            return None;
        }
        Some(texts)
    }
}

fn digest_of(texts: &[Vec<u8>]) -> Digest {
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(&(text.len() as u64).to_be_bytes());
        all.extend_from_slice(text);
    }
    Digest::of(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let mut files = WatchedFiles::new([path.clone()]);
        assert!(files.read_changed(false).unwrap().is_err());
        assert_eq!(files.read_changed(false), None, "told once");
        std::fs::write(&path, "one").unwrap();
        assert_eq!(files.read_changed(false), Some(Ok(vec![b"one".to_vec()])));
        assert_eq!(files.read_changed(false), None);
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.read_changed(false), Some(Ok(vec![b"two".to_vec()])));
        // The same again is no change.
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.read_changed(false), None);
        assert_eq!(files.read_changed(true), Some(Ok(vec![b"two".to_vec()])));
        // Another file of that name, as `mv` and Kubernetes put it there.
        std::fs::write(dir.path().join("next"), "six").unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(files.read_changed(false), Some(Ok(vec![b"six".to_vec()])));
        std::fs::remove_file(&path).unwrap();
        assert!(files.read_changed(false).unwrap().is_err());
    }
}
