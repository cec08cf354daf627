//! Up to where the write-ahead log is known to be on disk: a small file beside RocksDB's own, overwritten after every
//! sync, and not synced itself. After a kill it is exact; after a power cut it may be old, but what it says was true. So a
//! log that ends before that, or is not there at all, has lost what was acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const FILE: &str = "freqcap.synced";
const MAGIC: &[u8; 4] = b"fqp1";
/// Magic, checksum, synced, written, boot, clean.
const BYTES: usize = 4 + 4 + 8 + 8 + 8 + 1;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// Up to this sequence everything is on disk.
    pub synced: u64,
    /// Up to this one it was written, which survives the end of the process, but not that of the machine.
    pub written: u64,
    /// Of the machine's start under which it was written; 0 where the machine does not tell.
    pub boot: u64,
    /// Nothing was written after it.
    pub clean: bool,
}

impl Known {
    /// The last sequence that must be there now.
    pub(super) fn promised(&self, boot: u64) -> u64 {
        if self.boot == boot && boot != 0 { self.synced.max(self.written) } else { self.synced }
    }

    /// Whether more was acknowledged than synced.
    pub(super) fn is_unsynced(&self) -> bool {
        self.written > self.synced
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.synced.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.written.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.boot.to_le_bytes());
        bytes[32] = u8::from(self.clean);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(*bytes[at..].first_chunk()?));
        let crc = u32::from_le_bytes(*bytes[4..].first_chunk()?);
        if !bytes.starts_with(MAGIC) || crc != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        Some(Self { synced: number(8)?, written: number(16)?, boot: number(24)?, clean: bytes[32] == 1 })
    }
}

/// The file, kept open.
pub(super) struct Position {
    file: File,
    known: Mutex<Known>,
}

impl Position {
    /// Reads the file of a directory; `None` where there is none, or it is torn.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Known>> {
        match std::fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Known::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins anew from here; the file is there, whole, after a power cut.
    pub(super) fn begin(dir: &Path, known: Known) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(dir.join(FILE))?;
        file.write_all_at(&known.encode(), 0)?;
        file.set_len(BYTES as u64)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self { file, known: Mutex::new(known) })
    }

    /// Changes what is known.
    pub(super) fn note(&self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        self.file.write_all_at(&known.encode(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_torn_says_nothing() {
        let known = Known { synced: 7, written: 9, boot: 3, clean: true };
        let bytes = known.encode();
        assert_eq!(Known::decode(&bytes), Some(known));
        assert_eq!((known.promised(3), known.promised(4)), (9, 7));
        for at in 0..bytes.len() {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(Known::decode(&torn), None, "byte {at}");
            assert_eq!(Known::decode(&bytes[..at]), None);
        }
    }
}
