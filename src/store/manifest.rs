//! RocksDB's own list of files, the MANIFEST. A flush and a compaction write a new one and then name it in CURRENT, but the
//! taking in of a file of logs adds to the one there is. A power cut in the middle of that leaves a tail that RocksDB would
//! refuse, and that nobody was promised: the journal still has what was to be taken in.
//!
//! To tell it from damage, the write-ahead log notes before and after how much of the list is on disk.

use super::wal;
use super::whole::Logs;
use rocksdb::WriteBatch;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// Adds to a write what the list of files is now. It must be the first thing in it.
pub(super) fn note_list(dir: &Path, batch: &mut WriteBatch) {
    // A list that is replaced at this moment needs no note: a new one is not added to, but by who calls this.
    if let Ok(Some(list)) = current(dir)
        && let Ok(data) = std::fs::metadata(dir.join(name(list)))
    {
        batch.put_log_data(wal::listed_note(list, data.len()));
    }
}

/// Cuts off the tail of a list that was being added to; what is damaged stays as it is, and RocksDB refuses it. Says where.
pub(super) fn trim(dir: &Path, logs: &Logs) -> io::Result<Option<u64>> {
    let Some(list) = current(dir)? else { return Ok(None) };
    let path = dir.join(name(list));
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let Some((whole_to, false)) = wal::unreadable_from(&bytes) else { return Ok(None) };
    let (noted, noted_to) = logs.files.iter().map(|file| file.listed).max().unwrap_or_default();
    let was_added_to = noted == list && noted_to <= whole_to;
    // While its tables are made, a directory has nothing yet.
    let is_new = noted == 0 && logs.promised == 0 && logs.known.is_some() && whole_to > 0;
    if logs.known.is_some_and(|known| known.clean) || !(was_added_to || is_new) {
        return Ok(None);
    }
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(whole_to)?;
    file.sync_all()?;
    Ok(Some(whole_to))
}

/// Whether CURRENT names a list.
pub(super) fn is_named(dir: &Path) -> io::Result<bool> {
    match current(dir) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
        list => Ok(list?.is_some()),
    }
}

/// The number of the list that CURRENT names.
fn current(dir: &Path) -> io::Result<Option<u64>> {
    let text = std::fs::read_to_string(dir.join("CURRENT"))?;
    Ok(text.trim_end().strip_prefix("MANIFEST-").and_then(|number| number.parse().ok()))
}

fn name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}
