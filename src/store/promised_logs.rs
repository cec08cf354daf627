//! Which write-ahead logs hold what was promised: a small file beside RocksDB's own, replaced as a whole whenever a log is
//! synced for the first time, before anybody is answered for what is in it.
//!
//! A log says of the one before it how it ends, but only once it is synced itself. Where the power goes before that, it is
//! left with nothing, and the one before it could be missing without a trace. RocksDB's list of files says which logs it is
//! done with. A log that is named here, is not there, and that RocksDB is not done with, was lost.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FILE: &str = "freqcap.logs";
/// Where the file is written before it takes its place.
const NEW: &str = "freqcap.logs.new";
const MAGIC: &[u8; 4] = b"fql1";
/// Magic and checksum. What follows is a number and a sequence a log.
const HEADER: usize = 4 + 4;
const ENTRY: usize = 8 + 8;

/// A log that was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PromisedLog {
    pub number: u64,
    /// Up to this sequence everything was synced when it was first named: in it and in what was before it.
    pub synced: u64,
}

/// What the file of a directory says, in the order of the numbers; nothing where there is none, or it is torn.
pub(super) fn read(dir: &Path) -> io::Result<Vec<PromisedLog>> {
    match std::fs::read(dir.join(FILE)) {
        Ok(bytes) => Ok(decode(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Forgets logs of which nothing was promised, or that were given up. Durable afterwards.
pub(super) fn forget(dir: &Path, is_gone: impl Fn(u64) -> bool) -> io::Result<()> {
    let mut logs = read(dir)?;
    let before = logs.len();
    logs.retain(|log| !is_gone(log.number));
    if logs.len() == before { Ok(()) } else { write(dir, &logs) }
}

fn write(dir: &Path, logs: &[PromisedLog]) -> io::Result<()> {
    let mut file = File::create(dir.join(NEW))?;
    file.write_all(&encode(logs))?;
    file.sync_all()?;
    // The names of the logs come before the name of what names them: a log that was never synced may not be missed.
    let folder = File::open(dir)?;
    folder.sync_all()?;
    std::fs::rename(dir.join(NEW), dir.join(FILE))?;
    folder.sync_all()
}

fn encode(logs: &[PromisedLog]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    for log in logs {
        bytes.extend_from_slice(&log.number.to_le_bytes());
        bytes.extend_from_slice(&log.synced.to_le_bytes());
    }
    bytes[..4].copy_from_slice(MAGIC);
    let crc = crc32c::crc32c(&bytes[HEADER..]);
    bytes[4..HEADER].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<PromisedLog>> {
    let entries = bytes.strip_prefix(MAGIC)?;
    let (crc, entries) = entries.split_first_chunk()?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(entries) || entries.len() % ENTRY != 0 {
        return None;
    }
    let number = |entry: &[u8], at: usize| Some(u64::from_le_bytes(*entry[at..].first_chunk()?));
    let log = |entry| Some(PromisedLog { number: number(entry, 0)?, synced: number(entry, 8)? });
    entries.chunks_exact(ENTRY).map(log).collect()
}

/// Keeps the file of an open directory true.
pub(super) struct PromisedLogs {
    dir: PathBuf,
    /// Has something to read once a file was made in the directory. `None` where that cannot be had: then the directory is
    /// read every time.
    made: Option<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_read: bool,
    there: Vec<u64>,
    named: Vec<PromisedLog>,
}

impl State {
    fn names(&self, number: u64) -> bool {
        self.named.iter().any(|log| log.number == number)
    }
}

impl PromisedLogs {
    /// Of what the file says so far nothing is forgotten before the first sync.
    pub(super) fn begin(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), made: watch(dir).ok(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a sync: the logs that it covers, if one of them is not named yet.
    pub(super) fn unnamed(&self) -> io::Result<Option<Vec<u64>>> {
        let mut state = self.state();
        if self.has_made_files() || !state.is_read {
            state.there = logs_in(&self.dir)?;
            state.is_read = true;
        }
        let is_new = state.there.iter().any(|&number| !state.names(number));
        Ok(is_new.then(|| state.there.clone()))
    }

    /// After it: names them. Everything up to a sequence is on disk.
    pub(super) fn name(&self, there: &[u64], synced: u64) -> io::Result<()> {
        let mut state = self.state();
        // Another sync may have done it meanwhile.
        if there.iter().all(|&number| state.names(number)) {
            return Ok(());
        }
        // One that is gone was done with.
        let is_there = |log: &PromisedLog| there.contains(&log.number) || state.there.contains(&log.number);
        let mut logs: Vec<_> = state.named.iter().copied().filter(is_there).collect();
        logs.extend(there.iter().filter(|&&it| !state.names(it)).map(|&number| PromisedLog { number, synced }));
        logs.sort_unstable_by_key(|log| log.number);
        write(&self.dir, &logs)?;
        state.named = logs;
        Ok(())
    }

    /// Whether files may have been made since it was last asked.
    fn has_made_files(&self) -> bool {
        let Some(made) = &self.made else { return true };
        let mut events = [0u8; 1_024];
        let mut any = false;
        loop {
            match rustix::io::read(made, &mut events[..]) {
                Ok(1..) => any = true,
                Err(rustix::io::Errno::AGAIN) => return any,
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => return true,
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn watch(dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::inotify;
    let made = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&made, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
    Ok(made)
}

#[cfg(not(target_os = "linux"))]
fn watch(_dir: &Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

fn logs_in(dir: &Path) -> io::Result<Vec<u64>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        logs.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    logs.sort_unstable();
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(number: u64, synced: u64) -> PromisedLog {
        PromisedLog { number, synced }
    }

    #[test]
    fn the_bytes_of_the_first_version() {
        let golden = [
            b"fql1".as_slice(),
            &[0x6e, 0x69, 0xee, 0x14],
            &[7, 0, 0, 0, 0, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0, 0x58, 2, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(encode(&[log(7, 300), log(9, 600)]), golden);
    }

    #[test]
    fn a_file_that_is_torn_says_nothing() {
        let logs = [log(7, 300), log(9, 600)];
        let bytes = encode(&logs);
        assert_eq!(decode(&bytes).unwrap(), logs);
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(decode(&torn), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_log_is_named_once_it_is_there_and_stays_so_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let make = |number: u64| std::fs::write(dir.path().join(format!("{number:06}.log")), "").unwrap();
        for is_watched in [true, false] {
            let mut logs = PromisedLogs::begin(dir.path());
            assert!(logs.made.is_some());
            if !is_watched {
                logs.made = None;
            }
            make(4);
            assert_eq!(logs.unnamed().unwrap(), Some(vec![4]));
            // Nobody has named it yet.
            assert_eq!(logs.unnamed().unwrap(), Some(vec![4]));
            logs.name(&[4], 10).unwrap();
            assert_eq!(logs.unnamed().unwrap(), None);
            assert_eq!(read(dir.path()).unwrap(), [log(4, 10)]);
            // Another sync that began earlier, and ends later.
            make(11);
            let earlier = logs.unnamed().unwrap().unwrap();
            make(12);
            let later = logs.unnamed().unwrap().unwrap();
            logs.name(&later, 30).unwrap();
            logs.name(&earlier, 20).unwrap();
            assert_eq!(read(dir.path()).unwrap(), [log(4, 10), log(11, 30), log(12, 30)]);
            std::fs::remove_file(dir.path().join("000004.log")).unwrap();
            assert_eq!(logs.unnamed().unwrap(), None);
            make(13);
            let there = logs.unnamed().unwrap().unwrap();
            logs.name(&there, 40).unwrap();
            assert_eq!(read(dir.path()).unwrap(), [log(11, 30), log(12, 30), log(13, 40)]);
            forget(dir.path(), |number| number > 11).unwrap();
            assert_eq!(read(dir.path()).unwrap(), [log(11, 30)]);
            (11..14).for_each(|number| std::fs::remove_file(dir.path().join(format!("{number:06}.log"))).unwrap());
        }
    }
}
