//! A data directory belongs to one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held as long as the store is open; the kernel gives it up when the process ends, however it ends.
pub struct DirLock {
    _file: File,
}

pub(super) enum LockError {
    /// By whom, as far as the lock file tells.
    Held(String),
    Io(std::io::Error),
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("freqcap.lock");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message: what cannot be read is left out.
                let _ = file.read_to_string(&mut owner);
                return Err(LockError::Held(owner.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "process {}", std::process::id())
        };
        write(&mut file).map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}
