//! Whether a directory still has all that was acknowledged, found out before it is opened: history is whole or refused.

use super::position::{Known, Position};
use super::promised_logs::{self, PromisedLog};
use super::wal::{self, WalEnd, WalFile};
use rocksdb::{DB, Options};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a directory, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// The file, and where in it.
    pub what: String,
    /// What is lost by it.
    pub lost: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.lost)
    }
}

/// What the write-ahead logs of a directory come to.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub files: Vec<WalFile>,
    pub known: Option<Known>,
    /// The files that hold what was promised, by what was noted of them.
    pub noted: Vec<PromisedLog>,
    /// The last sequence that must be there, by all that is known.
    pub promised: u64,
    /// The log that does not end well, and what of it is damage.
    pub torn: Option<usize>,
    pub damage: Option<Damage>,
    /// The end of the last acknowledged write is missing.
    pub lost_a_write: bool,
}

impl Logs {
    /// The last sequence in whole records that nothing stands before.
    pub(super) fn last_seq(&self) -> u64 {
        let whole = self.torn.map_or(self.files.len(), |torn| torn + 1);
        self.files[..whole].iter().map(|file| file.last_seq).max().unwrap_or(0)
    }

    /// Whether a log speaks of one before it that is not there: then that one was done with, or it is missing.
    pub(super) fn has_gap(&self) -> bool {
        let before = std::iter::once(None).chain(self.files.iter().map(|file| Some(file.number)));
        self.files
            .iter()
            .zip(before)
            .any(|(file, there)| file.before.is_some_and(|before| Some(before.number) != there))
    }

    /// Those noted that are not there: RocksDB was done with them, or they are missing.
    pub(super) fn not_there(&self) -> Vec<PromisedLog> {
        let is_there = |log: &PromisedLog| self.files.iter().any(|file| file.number == log.number);
        self.noted.iter().copied().filter(|log| !is_there(log)).collect()
    }

    /// Cuts off what is torn, so that RocksDB meets whole logs alone. What comes after it was promised to nobody, and goes
    /// to `aside`.
    pub(super) fn trim(&self, aside: &Path) -> io::Result<()> {
        let Some(torn) = self.torn else { return Ok(()) };
        let file = &self.files[torn];
        let log = std::fs::OpenOptions::new().write(true).open(&file.path)?;
        log.set_len(file.whole_to)?;
        log.sync_all()?;
        let later = &self.files[torn + 1..];
        if let (Some(dir), Some(first)) = (file.path.parent(), later.first()) {
            promised_logs::forget(dir, |number| number >= first.number)?;
        }
        for later in later {
            set_aside(&later.path, aside)?;
        }
        Ok(())
    }
}

/// Moves a file into a folder for what is given up.
pub(super) fn set_aside(path: &Path, aside: &Path) -> io::Result<()> {
    std::fs::create_dir_all(aside)?;
    std::fs::rename(path, aside.join(path.file_name().unwrap_or_default()))
}

/// Reads the write-ahead logs of a directory and judges how they end.
pub(super) fn look(dir: &Path, boot: u64) -> io::Result<Logs> {
    let mut logs = Logs {
        files: wal::scan(dir)?,
        known: Position::read(dir)?,
        noted: promised_logs::read(dir)?,
        ..Logs::default()
    };
    let notes = logs.files.iter().map(|file| file.synced).max().unwrap_or(0);
    logs.promised = logs.known.map_or(0, |known| known.promised(boot)).max(notes);
    if logs.files.is_empty() && dir.join("CURRENT").exists() && !is_only_begun(dir)? {
        logs.damage = Some(ends_too_soon(dir, 0, logs.promised));
        return Ok(logs);
    }
    logs.torn =
        (0..logs.files.len()).find(|&place| logs.files[place].end != WalEnd::Whole || is_short(&logs.files, place));
    if let Some(torn) = logs.torn {
        judge(&mut logs, torn);
    }
    Ok(logs)
}

/// Whether a log ends after a whole record, and before it ended by what the next one says.
fn is_short(files: &[WalFile], place: usize) -> bool {
    let file = &files[place];
    let next = files.get(place + 1).and_then(|next| next.before).filter(|before| before.number == file.number);
    next.is_some_and(|next| (next.bytes, next.last_first) != (file.bytes, file.last_first))
}

fn judge(logs: &mut Logs, torn: usize) {
    let file = &logs.files[torn];
    let clean = logs.known.is_some_and(|known| known.clean);
    let next = logs.last_seq() + 1;
    // A file of logs that was taken in has a sequence that no log has: the record says better where it stands. But what it
    // says may be what is damaged, and there is no more than one such file between two writes.
    let near = |first: &u64| (next..=next + 1).contains(first);
    let (what, from, is_damage) = match file.end {
        WalEnd::Whole => ("its end is missing", next, clean || logs.promised >= next),
        WalEnd::Cut(record) => {
            let record = record.filter(|(first, _)| near(first));
            let from = record.map_or(next, |(first, _)| first);
            let is_last = torn + 1 == logs.files.len();
            // One write whose end is missing: that is what a torn tail looks like, so it is told and gone past.
            let only_this = is_last && !clean && record.is_some_and(|(_, last)| logs.promised <= last);
            logs.lost_a_write = only_this && logs.promised >= from;
            // Nothing of it was whole, and its first record says no sequence: whether something is lost is seen by what RocksDB
            // has once it is open, for the logs before it may be gone because files have all that was in them.
            let only_begun = is_last && !clean && file.whole_to == 0 && record.is_none();
            ("it ends within a record", from, clean || (logs.promised >= from && !only_this && !only_begun))
        }
        WalEnd::Bad(bad) => {
            let from = bad.first.filter(near).unwrap_or(next);
            // Where no write says how much was synced, what comes after damage says that it is no tail.
            let unsure = bad.notes == 0 || logs.known.is_some_and(|known| known.is_unsynced());
            (bad.what, from, clean || logs.promised >= from || (bad.later > 0 && unsure))
        }
    };
    if is_damage {
        let later_logs = &logs.files[torn + 1..];
        let later = later_logs.iter().map(|file| file.records).sum::<u64>();
        let last = match file.end {
            WalEnd::Bad(bad) => bad.later_seq,
            _ => 0,
        };
        let last = later_logs.iter().map(|file| file.last_seq).chain([last, logs.promised]).max().unwrap_or(from);
        let later = later + if let WalEnd::Bad(bad) = file.end { bad.later } else { 0 };
        logs.damage = Some(Damage {
            what: format!(
                "{} of the write-ahead log is damaged at byte {} of {}: {what}",
                name(&file.path),
                file.whole_to,
                file.bytes
            ),
            lost: format!(
                "acknowledged changes from sequence {from} to {} are in what follows ({} bytes here, {later} writes that \
                 can be read after it)",
                last.max(from),
                file.lost_bytes()
            ),
        });
    }
}

/// That the log ends before what it must have.
pub(super) fn ends_too_soon(dir: &Path, last: u64, promised: u64) -> Damage {
    let logs = wal::scan(dir).unwrap_or_default();
    let names = logs.iter().map(|file| format!("{} ({} bytes)", name(&file.path), file.bytes));
    let names = names.collect::<Vec<_>>().join(", ");
    let what = if names.is_empty() {
        "the write-ahead log is missing: there is no *.log file".to_owned()
    } else {
        format!("the write-ahead log ends too soon, or a file of it is missing; there are {names}")
    };
    let lost = if promised > last {
        format!("acknowledged changes from sequence {} to {promised} are lost", last + 1)
    } else {
        format!("acknowledged changes from sequence {} on may be lost", last + 1)
    };
    Damage { what, lost }
}

/// That a file of the log is missing that held what was promised.
pub(super) fn is_missing(log: PromisedLog) -> Damage {
    Damage {
        what: format!("{:06}.log of the write-ahead log is missing", log.number),
        lost: format!(
            "acknowledged changes in it are lost; the first of them that was synced has a sequence up to {}",
            log.synced
        ),
    }
}

/// That RocksDB's own list of files is not there though files are.
pub(super) fn without_list(dir: &Path) -> io::Result<Option<Damage>> {
    if dir.join("CURRENT").exists() {
        return Ok(None);
    }
    let mut rests: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_log = name.strip_suffix(".log").is_some_and(|number| number.parse::<u64>().is_ok());
        if is_log || name.ends_with(".sst") || name.starts_with("MANIFEST-") {
            rests.push(name);
        }
    }
    // A directory is made by a MANIFEST, then CURRENT that names it, then all else: where it got no further, nobody was
    // promised anything.
    let was_used = rests.iter().any(|name| !name.starts_with("MANIFEST-"));
    if !was_used && Position::read(dir)?.is_none_or(|known| known.synced.max(known.written) == 0) {
        return Ok(None);
    }
    let list = rests.iter().filter(|name| name.starts_with("MANIFEST-")).max().cloned();
    rests.sort_unstable();
    rests.truncate(8);
    let there = if rests.is_empty() { "none of RocksDB's files is there".to_owned() } else { rests.join(", ") };
    Ok(Some(Damage {
        what: format!("the file CURRENT is missing from a directory that was used ({there})"),
        lost: match list {
            Some(list) => {
                format!("nothing that was acknowledged can be found until a list of files, as {list}, is named again")
            }
            None => "without it nothing that was acknowledged can be found".to_owned(),
        },
    }))
}

/// Whether a directory was made and nothing was written to it: then it has no log yet.
pub(super) fn is_only_begun(dir: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".log") || name.ends_with(".sst") {
            return Ok(false);
        }
    }
    if Position::read(dir)?.is_some_and(|known| known.synced.max(known.written) > 0) {
        return Ok(false);
    }
    // The first log is made before the first table is.
    let tables = DB::list_cf(&Options::default(), dir);
    Ok(!dir.join("CURRENT").exists() || tables.is_ok_and(|tables| tables.iter().all(|name| name == "default")))
}

/// The name alone of a file.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a directory keeps what was given up.
pub(super) fn aside(dir: &Path) -> PathBuf {
    dir.join("damaged")
}
