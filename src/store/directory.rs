//! A data directory before it is opened: it is ours alone, it has all that was acknowledged, and nothing in it is of a
//! newer version.

use super::boot::boot_number;
use super::error::StoreError;
use super::lock::{DirLock, LockError};
use super::manifest;
use super::options::StoreOptions;
use super::overlay::in_doubt;
use super::position::Known;
use super::table::Table;
use super::tables::meta::FORMAT;
use super::whole::{self, Damage, Logs};
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind, LiveFile, Options};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file that is in a directory from before the first byte of a copy until all of it is there and made ready.
pub const RESTORING: &str = "freqcap.restoring";

/// Why a store was not opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum OpenError {
    #[error(
        "the data directory {} is in use by {owner}; stop that process, or choose another directory with --data-dir",
        dir.display()
    )]
    InUse { dir: PathBuf, owner: String },
    #[error(
        "the data directory {} was written by a newer freqcap (format {found}, this one knows up to {FORMAT}); \
         start that version, or choose another directory with --data-dir",
        dir.display()
    )]
    NewerFormat { dir: PathBuf, found: String },
    #[error("the data directory {} cannot be used: {source}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    #[error(
        "the data directory {0} is damaged: {damage}. It is left as it is. `freqcap verify --data-dir {0}` reads all of \
         it and tells what cannot be read; `freqcap repair --data-dir {0}` tells what it would give up to make it whole, \
         and with --yes gives it up; or put a copy from before the damage in its place",
        dir.display()
    )]
    Damaged { dir: PathBuf, damage: Damage },
    #[error(
        "the data directory {} is a copy that was not restored to its end: the file {RESTORING} is in it. Begin the same \
         restore once more, or choose another directory with --data-dir",
        dir.display()
    )]
    Unfinished { dir: PathBuf },
    #[error(
        "the data directory {} was made with --units {found}, which never changes: start with that instead of --units {wanted}, \
         or choose another directory with --data-dir",
        dir.display()
    )]
    OtherUnits { dir: PathBuf, found: usize, wanted: usize },
    #[error(
        "the unit {} is not there, and the events of its users with it: put a copy of it in its place",
        dir.display()
    )]
    UnitMissing { dir: PathBuf },
    #[error("RocksDB cannot open the data directory {}: {source}", dir.display())]
    RocksDb { dir: PathBuf, source: rocksdb::Error },
    #[error("reading the state of the data directory {}: {source}", dir.display())]
    State { dir: PathBuf, source: StoreError },
}

/// What RocksDB says of a directory that it cannot open.
pub(super) fn failed(dir: &Path, source: rocksdb::Error) -> OpenError {
    let text = source.to_string();
    let is_damage = source.kind() == ErrorKind::Corruption || text.contains("No such file");
    if !is_damage {
        return OpenError::RocksDb { dir: dir.to_owned(), source };
    }
    let is_log = text.contains("WAL");
    let lost = if is_log {
        "acknowledged changes that were in that part of the write-ahead log are lost"
    } else {
        "RocksDB cannot tell from there on what is in the directory"
    };
    let lost = lost.to_owned();
    OpenError::Damaged { dir: dir.to_owned(), damage: Damage { what: text, lost } }
}

/// Refuses a directory in which a restore did not end.
pub(super) fn refuse_unfinished(dir: &Path) -> Result<(), OpenError> {
    match std::fs::symlink_metadata(dir.join(RESTORING)) {
        Ok(_) => Err(OpenError::Unfinished { dir: dir.to_owned() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(source) => Err(OpenError::Directory { dir: dir.to_owned(), source }),
    }
}

/// Refuses a directory that has lost something that was acknowledged, before anything of it is changed. Returns up to
/// where its log is known to be on disk.
pub(super) fn refuse_damage(options: &StoreOptions, database: &Options) -> Result<Known, OpenError> {
    let dir = options.data_dir.as_path();
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let damaged = |damage| Err(OpenError::Damaged { dir: dir.to_owned(), damage });
    if let Some(damage) = whole::without_list(dir).map_err(unusable)? {
        return damaged(damage);
    }
    if !dir.join("CURRENT").exists() {
        return Ok(Known { boot: boot_number(), ..Known::default() });
    }
    let logs = whole::look(dir, boot_number()).map_err(unusable)?;
    if let Some(damage) = logs.damage {
        return damaged(damage);
    }
    // RocksDB reads nothing of a directory whose list of files ends in what it cannot read.
    if let Some(at) = manifest::trim(dir, &logs).map_err(unusable)? {
        tracing::info!(at, "RocksDB's list of files ends in a change that was never done");
    }
    refuse_unknown_tables(dir, database)?;
    // All that is promised may be in files already: then no log has it.
    if logs.promised > logs.last_seq() {
        let last = last_sequence(dir, database)?;
        if last < logs.promised && !logs.lost_a_write {
            return damaged(whole::ends_too_soon(dir, last, logs.promised));
        }
    }
    if let Some(torn) = logs.torn {
        // Before anything is changed.
        if let Some(damage) = lost_log(options, &logs)? {
            return damaged(damage);
        }
        let file = &logs.files[torn];
        let (name, at, bytes) = (whole::name(&file.path), file.whole_to, file.lost_bytes());
        if logs.lost_a_write {
            tracing::error!(
                file = name,
                at,
                bytes,
                "the end of the last acknowledged write is missing: its events may be lost; clients may send them again"
            );
        } else {
            tracing::info!(file = name, at, bytes, "the write-ahead log ends in a write that was not acknowledged");
        }
        logs.trim(&whole::aside(dir)).map_err(unusable)?;
    }
    if let Some(damage) = missing_log(options, &logs)? {
        return damaged(damage);
    }
    let (known, boot) = (logs.known.unwrap_or_default(), boot_number());
    // What is not there was promised to nobody, or has just been told of.
    let last = if logs.lost_a_write { logs.last_seq() } else { u64::MAX };
    Ok(Known { synced: known.synced.min(last), written: known.promised(boot).min(last), boot, clean: false })
}

/// Opens a directory whatever logs are missing, and makes what tables it lacks.
pub(super) fn open_at(options: &StoreOptions, dir: &Path) -> Result<DB, OpenError> {
    let database = options.of_what_is_there();
    let cache = Cache::new_lru_cache(32 << 20);
    let descriptor =
        |table: Table| ColumnFamilyDescriptor::new(table.name(), options.of_table(table, &cache, &Default::default()));
    DB::open_cf_descriptors(&database, dir, Table::ALL.map(descriptor)).map_err(|source| failed(dir, source))
}

/// Whether every file is there in the size that RocksDB knows.
pub(super) fn missing_files(db: &DB, dir: &Path) -> Result<Option<Damage>, rocksdb::Error> {
    let files = db.live_files()?;
    let why = |file: &LiveFile| match std::fs::metadata(dir.join(file.name.trim_start_matches('/'))) {
        Ok(data) if data.len() == file.size as u64 => None,
        Ok(data) => Some(format!("has {} bytes instead of {}", data.len(), file.size)),
        // A start puts it in its place.
        Err(_) if in_doubt::ours(dir, file).is_some() => None,
        Err(_) => Some("is missing".to_owned()),
    };
    let bad: Vec<_> = files.iter().filter_map(|file| Some((file, why(file)?))).collect();
    if bad.is_empty() {
        return Ok(None);
    }
    // Compaction goes on meanwhile: a file that it is done with by now is not missing. It is off the list before it is removed,
    // so the list is asked for after the files.
    let still_wanted = db.live_files()?;
    let mut missing = Vec::new();
    for (file, why) in bad.into_iter().filter(|(file, _)| still_wanted.iter().any(|wanted| wanted.name == file.name)) {
        missing.push(format!("{} of table {} {why}", file.name.trim_start_matches('/'), file.column_family_name));
    }
    let (what, count) = (missing.join(", "), missing.len());
    let lost = format!("{count} of {} files cannot be used, and the rows in them are lost", files.len());
    Ok((count > 0).then_some(Damage { what, lost }))
}

/// Whether a whole file of the log is missing: by what the others say of it, or by what was noted of it. RocksDB knows of
/// every table which logs it needs. What is torn must be cut off already.
pub(super) fn missing_log(options: &StoreOptions, logs: &Logs) -> Result<Option<Damage>, OpenError> {
    if !logs.has_gap() {
        return lost_log(options, logs);
    }
    let mut database = options.of_database(None);
    // Without this what it finds is no error.
    database.set_paranoid_checks(true);
    match open_to_read(options, database).map_err(|source| failed(&options.data_dir, source)) {
        // A file of a table that cannot be read is refused to its users alone.
        Err(OpenError::Damaged { damage, .. }) if !damage.what.contains(".sst") => Ok(Some(damage)),
        Err(OpenError::Damaged { .. }) => lost_log(options, logs),
        Err(error) => Err(error),
        Ok(db) => Ok(needed(&db, logs)),
    }
}

/// Whether a log that was noted is not there, though RocksDB is not done with it. Whatever else is torn or missing is left
/// aside.
pub(super) fn lost_log(options: &StoreOptions, logs: &Logs) -> Result<Option<Damage>, OpenError> {
    if logs.not_there().is_empty() {
        return Ok(None);
    }
    let mut database = options.of_what_is_there();
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let db = open_to_read(options, database).map_err(|source| failed(&options.data_dir, source))?;
    Ok(needed(&db, logs))
}

/// The first log that was noted, is not there, and is needed.
fn needed(db: &DB, logs: &Logs) -> Option<Damage> {
    // What every table has in files ends before this one. Of a directory in which nothing was ever flushed it is not known.
    let from = db.property_int_value("rocksdb.min-log-number-to-keep").ok().flatten().unwrap_or(0);
    logs.not_there().into_iter().find(|log| log.number >= from).map(whole::is_missing)
}

/// With all tables there are, and changing nothing.
pub(super) fn open_to_read(options: &StoreOptions, mut database: Options) -> Result<DB, rocksdb::Error> {
    database.create_if_missing(false);
    database.create_missing_column_families(false);
    // Told not to go by the logs in its list, RocksDB takes them off the list: opened only to be read, it crashes then.
    database.set_track_and_verify_wals_in_manifest(true);
    let there = DB::list_cf(&database, &options.data_dir)?;
    let cache = Cache::new_lru_cache(32 << 20);
    let tables = Table::ALL.into_iter().filter(|table| there.iter().any(|name| name == table.name()));
    let descriptors = tables
        .map(|table| ColumnFamilyDescriptor::new(table.name(), options.of_table(table, &cache, &Default::default())));
    DB::open_cf_descriptors_read_only(&database, &options.data_dir, descriptors, false)
}

/// The last sequence of a directory, without changing anything in it.
pub(super) fn last_sequence(dir: &Path, database: &Options) -> Result<u64, OpenError> {
    let mut options = database.clone();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let db = DB::open_for_read_only(&options, dir, false).map_err(|source| failed(dir, source))?;
    Ok(db.latest_sequence_number())
}

/// Makes a data directory where there is none, closes it to others, and takes it for this process.
pub fn lock_dir(dir: &Path) -> Result<DirLock, OpenError> {
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    // Who may read the files knows what was shown to whom.
    let metadata = std::fs::metadata(dir).map_err(unusable)?;
    if metadata.permissions().mode() & 0o077 != 0
        && let Err(error) = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
    {
        tracing::warn!(%error, dir = %dir.display(), "others may read the data directory, and it cannot be closed to them");
    }
    // A directory just made is itself only durable once the one above it is. Where we may not open that one, somebody
    // else made ours, long ago.
    if let Some(above) = dir.canonicalize().map_err(unusable)?.parent()
        && let Ok(above) = std::fs::File::open(above)
    {
        above.sync_all().map_err(unusable)?;
    }
    DirLock::take(dir).map_err(|error| match error {
        LockError::Io(source) => unusable(source),
        LockError::Held(owner) => {
            let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
            OpenError::InUse { dir: dir.to_owned(), owner }
        }
    })
}

/// A table that this version does not know is a later version's.
fn refuse_unknown_tables(dir: &Path, database: &Options) -> Result<(), OpenError> {
    let tables = DB::list_cf(database, dir).map_err(|source| failed(dir, source))?;
    let known = |name: &String| name == "default" || Table::ALL.iter().any(|table| table.name() == name);
    match tables.into_iter().find(|name| !known(name)) {
        Some(table) => Err(OpenError::NewerFormat { dir: dir.to_owned(), found: format!("with a table {table:?}") }),
        None => Ok(()),
    }
}
