//! A file of logs that RocksDB may or may not have taken in.
//!
//! Taking in is a change of RocksDB's own list of files. If writing that down fails, RocksDB gives up and removes its link to
//! the file; but what was written may be there after all, and then the list names a file that is gone. Ours is still there:
//! it is removed only by a success, or by the next start, which first looks here.

use rocksdb::{DB, LiveFile};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of files that are on their way into RocksDB, beside its own.
pub(in crate::store) const FOLDER: &str = "overlay";

/// How a file is called, so that it is known again by the first and the last of its row keys.
pub(super) fn name(number: u64, first: &[u8], last: &[u8]) -> String {
    format!("{number}-{}", ending(first, last))
}

fn ending(first: &[u8], last: &[u8]) -> String {
    format!("{:08x}.sst", crc32c::crc32c_append(crc32c::crc32c(first), last))
}

/// Our file, if it is the one that RocksDB names.
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

/// Puts in its place what RocksDB names and has lost so.
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
