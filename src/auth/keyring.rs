//! The keys in force, and the file that they come from.

use super::key_file::{self, KeyFileError};
use super::keys::{Keys, KeysDiff};
use super::watch::{Unreadable, WatchedFiles};
use arc_swap::{ArcSwap, Guard};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a file of keys is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is not UTF-8.
    #[error("{}: it is no text", .0.display())]
    NoText(PathBuf),
    /// It does not say what it should.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        why: KeyFileError,
    },
}

/// What became of a file that had changed.
#[derive(Debug)]
pub enum Reloaded {
    /// It is in force.
    Taken {
        /// How many keys there were.
        before: usize,
        /// How many there are.
        after: usize,
        /// Which are others.
        diff: KeysDiff,
    },
    /// It is not; the keys from before are in force.
    Refused(KeyringError),
}

/// The keys in force. Shared by everybody who asks who calls.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    keys: ArcSwap<Keys>,
    /// Rises with every change: what was found in other keys must be looked for again.
    generation: AtomicU64,
    file: Mutex<WatchedFiles>,
    /// What is wrong with the file as it is now.
    wrong: Mutex<Option<KeyringError>>,
}

impl Keyring {
    /// Reads the file. Blocks.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        let mut file = WatchedFiles::new([path.to_owned()]);
        let keys = match file.read_changed(true) {
            Some(texts) => keys_of(path, &texts?)?,
            None => Keys::default(),
        };
        super::metrics::note_keys(keys.len(), false);
        Ok(Self {
            path: path.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            generation: AtomicU64::new(0),
            file: Mutex::new(file),
            wrong: Mutex::default(),
        })
    }

    /// Of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in force now.
    pub fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// What was found in the keys holds as long as this stays the same. Read it before the keys.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Reads the file again if it has changed; `forced`: in any case. Blocks.
    pub fn reload(&self, forced: bool) -> Option<Reloaded> {
        let texts = lock(&self.file).read_changed(forced)?;
        let keys = texts.map_err(KeyringError::from).and_then(|texts| keys_of(&self.path, &texts));
        let reloaded = match keys {
            Ok(keys) => {
                let before = self.keys.load_full();
                let (diff, after) = (keys.changes_since(&before), keys.len());
                self.keys.store(Arc::new(keys));
                self.generation.fetch_add(1, Ordering::Release);
                *lock(&self.wrong) = None;
                Reloaded::Taken { before: before.len(), after, diff }
            }
            Err(why) => {
                *lock(&self.wrong) = Some(why.clone());
                Reloaded::Refused(why)
            }
        };
        super::metrics::note_keys(self.keys.load().len(), matches!(reloaded, Reloaded::Refused(_)));
        Some(reloaded)
    }

    /// For `/status`.
    pub fn status(&self) -> Value {
        let wrong = lock(&self.wrong).as_ref().map(ToString::to_string);
        json!({"file": self.path.to_string_lossy(), "keys": self.keys.load().len(), "file_error": wrong})
    }
}

fn keys_of(path: &Path, texts: &[Vec<u8>]) -> Result<Keys, KeyringError> {
    let text = texts.first().map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| KeyringError::NoText(path.to_owned()))?;
    key_file::read(text).map_err(|why| KeyringError::File { path: path.to_owned(), why })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
