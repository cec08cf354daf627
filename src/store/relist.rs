//! RocksDB's list of files (its MANIFEST, which CURRENT names) where it is gone or damaged: what is left of it is named
//! again. Without any list it is not known which files count, and which of two rows is the newer one.

use super::directory::{OpenError, failed, open_to_read};
use super::options::StoreOptions;
use super::wal::unreadable_from;
use super::whole::{self, Damage, name};
use rocksdb::{DB, DBRecoveryMode};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What was wrong with the list, and whether it was damaged itself.
struct Wrong {
    what: String,
    is_cut: bool,
    /// The list that CURRENT names: one from before it is no list of what is there now.
    named: Option<u64>,
}

/// Whether CURRENT names a list that can be read.
fn wrong_with_list(dir: &Path) -> io::Result<Option<Wrong>> {
    if !dir.join("CURRENT").exists() {
        let damage = whole::without_list(dir)?;
        return Ok(damage.map(|damage| Wrong { what: damage.what, is_cut: false, named: None }));
    }
    let named = fs::read(dir.join("CURRENT"))?;
    let named = String::from_utf8_lossy(&named).trim_end().to_owned();
    let number = number_of(&named);
    if number.is_none() {
        let what = "the file CURRENT names no list of files".to_owned();
        return Ok(Some(Wrong { what, is_cut: false, named: None }));
    }
    match fs::read(dir.join(&named)) {
        Ok(bytes) => Ok(unreadable_from(&bytes).map(|(to, _)| Wrong {
            what: format!("{named}, the list of files, is damaged at byte {to} of {}", bytes.len()),
            is_cut: true,
            named: number,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Some(Wrong { what: format!("{named}, the list of files, is missing"), is_cut: false, named: number }))
        }
        Err(error) => Err(error),
    }
}

/// Names the last list again that can be opened, cut off where it is damaged; `kept` gets what it was, and the files that
/// it does not name. Returns what was wrong and what is given up; `None` if nothing was wrong, or nothing can be done.
pub(super) fn relist(
    options: &StoreOptions,
    kept: impl FnOnce() -> io::Result<PathBuf>,
) -> Result<Option<(Damage, PathBuf)>, OpenError> {
    let dir = options.data_dir.as_path();
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let Some(wrong) = wrong_with_list(dir).map_err(unusable)? else { return Ok(None) };
    let mut lists = lists(dir).map_err(unusable)?;
    lists.retain(|list| number_of(&name(list)) >= wrong.named);
    if lists.is_empty() {
        return Ok(None);
    }
    let kept = kept().map_err(unusable)?;
    let before = fs::read(dir.join("CURRENT")).ok();
    if let Some(current) = &before {
        fs::write(kept.join("CURRENT"), current).map_err(unusable)?;
    }
    for list in lists {
        let bytes = fs::read(&list).map_err(unusable)?;
        let whole_to = unreadable_from(&bytes).map_or(bytes.len() as u64, |(to, _)| to);
        if whole_to == 0 {
            continue;
        }
        fs::write(kept.join(name(&list)), &bytes).map_err(unusable)?;
        write(&list, &bytes[..whole_to as usize]).map_err(unusable)?;
        write(&dir.join("CURRENT"), format!("{}\n", name(&list)).as_bytes()).map_err(unusable)?;
        let mut database = options.of_what_is_there();
        database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        if let Ok(db) = open_to_read(options, database) {
            let unnamed = set_aside(dir, &db, &kept)?;
            return Ok(Some((told(wrong, &list, &unnamed), kept)));
        }
        write(&list, &bytes).map_err(unusable)?;
    }
    match before {
        Some(current) => write(&dir.join("CURRENT"), &current),
        None => fs::remove_file(dir.join("CURRENT")).or_else(ignore_missing),
    }
    .map_err(unusable)?;
    fs::remove_dir_all(&kept).map_err(unusable)?;
    Ok(None)
}

fn told(wrong: Wrong, list: &Path, unnamed: &[String]) -> Damage {
    let mut lost = format!("{} is named again", name(list));
    if wrong.is_cut {
        lost.push_str(", up to there: what was removed from files since may be back, and what came into files is lost");
    }
    if unnamed.is_empty() {
        lost.push_str(if wrong.is_cut {
            "; every file is in it"
        } else {
            ", and nothing is lost: every file is in it"
        });
    } else {
        lost.push_str("; it does not name these files, whose rows are lost: ");
        lost.push_str(&unnamed.join(", "));
    }
    Damage { what: wrong.what, lost }
}

/// Moves the tables that are not in the list out of the way: RocksDB would remove them.
fn set_aside(dir: &Path, db: &DB, kept: &Path) -> Result<Vec<String>, OpenError> {
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let live = db.live_files().map_err(|source| failed(dir, source))?;
    let is_live = |name: &str| live.iter().any(|file| file.name.trim_start_matches('/') == name);
    let mut unnamed = Vec::new();
    for entry in fs::read_dir(dir).map_err(unusable)? {
        let path = entry.map_err(unusable)?.path();
        let name = name(&path);
        let is_table = name.strip_suffix(".sst").is_some_and(|number| number.parse::<u64>().is_ok());
        if is_table && !is_live(&name) {
            fs::rename(&path, kept.join(&name)).map_err(unusable)?;
            unnamed.push(name);
        }
    }
    unnamed.sort_unstable();
    Ok(unnamed)
}

/// The lists that are there, the newest first.
fn lists(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut lists = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        lists.extend(number_of(&name(&path)).map(|number| (number, path)));
    }
    lists.sort_unstable_by(|a, b| b.cmp(a));
    Ok(lists.into_iter().map(|(_, path)| path).collect())
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.parse().ok()
}

/// Replaces a file; it is on disk where this returns.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
