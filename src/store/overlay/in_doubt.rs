//! A file of logs of which it is not known whether RocksDB ingested it.
//!
//! Ingesting changes RocksDB's list of files. If writing that change fails, RocksDB removes its link to the file. But
//! the change may be on disk all the same, and then the list names a file that is missing. Our own link still exists:
//! it is removed only after success, or by the next start, which checks this first.

use rocksdb::{DB, LiveFile};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The folder for files before RocksDB ingests them, beside its own.
pub(in crate::store) const FOLDER: &str = "overlay";

/// The name of a file, by which it is found again: number, first and last row key.
pub(super) fn name(number: u64, first: &[u8], last: &[u8]) -> String {
    format!("{number}-{}", ending(first, last))
}

fn ending(first: &[u8], last: &[u8]) -> String {
    format!("{:08x}.sst", crc32c::crc32c_append(crc32c::crc32c(first), last))
}

/// Our link to the file that RocksDB names, if it is the same file.
pub(in crate::store) fn ours(dir: &Path, named: &LiveFile) -> Option<PathBuf> {
    let (Some(first), Some(last)) = (&named.start_key, &named.end_key) else { return None };
    let ending = format!("-{}", ending(first, last));
    let mut files = std::fs::read_dir(dir.join(FOLDER)).ok()?.filter_map(Result::ok);
    let is_it = |file: &std::fs::DirEntry| {
        file.file_name().to_string_lossy().ends_with(&ending)
            && file.metadata().is_ok_and(|data| data.len() == named.size as u64)
    };
    files.find(is_it).map(|file| file.path())
}

/// Restores files that RocksDB names and lost in this way.
pub(in crate::store) fn put_in_place(db: &DB, dir: &Path) -> io::Result<()> {
    if std::fs::read_dir(dir.join(FOLDER)).map_or(true, |mut files| files.next().is_none()) {
        return Ok(());
    }
    for named in db.live_files().map_err(io::Error::other)? {
        let name = named.name.trim_start_matches('/');
        let place = dir.join(name);
        if !place.exists()
            && let Some(ours) = ours(dir, &named)
        {
            std::fs::hard_link(&ours, &place)?;
            File::open(dir)?.sync_all()?;
            tracing::warn!(file = name, "a file of logs was put in its place, which RocksDB had taken in and removed");
        }
    }
    Ok(())
}
