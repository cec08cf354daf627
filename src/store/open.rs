//! Opening: the directory is ours alone, its format is known, and the sequences go on where they ended.

use super::at_rest::AtRest;
use super::check::{missing_files, missing_log};
use super::lock::{DirLock, LockError};
use super::manifest;
use super::meta::boot_number;
use super::overlay::Overlay;
use super::position::{Known, Position};
use super::whole::{self, Damage};
use super::{FORMAT, Reclaim, StorageKind, Store, StoreError, StoreOptions, Table};
use crate::alarm::Alarm;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, Env, ErrorKind, Options};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::Notify;

/// Who a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// 32 hex digits, made with the data directory.
    pub id: String,
}

/// Why a store was not opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
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
    #[error("RocksDB cannot open the data directory {}: {source}", dir.display())]
    RocksDb { dir: PathBuf, source: rocksdb::Error },
    #[error("reading the state of the data directory {}: {source}", dir.display())]
    State { dir: PathBuf, source: StoreError },
}

impl Store {
    /// Opens the store, making it if there is none. Blocks on disk.
    pub fn open(options: &StoreOptions) -> Result<Store, OpenError> {
        let in_memory = options.storage == StorageKind::Memory;
        let dir = if in_memory { PathBuf::from("/freqcap") } else { options.data_dir.clone() };
        let lock = if in_memory { None } else { Some(lock_dir(&dir)?) };
        let rocks = |source| failed(&dir, source);
        let env = if in_memory { Some(Env::mem_env().map_err(rocks)?) } else { None };
        let write_buffers = options.write_buffers();
        let mut database = options.of_database(env.as_ref());
        let known = if in_memory { Known::default() } else { refuse_damage(options, &database)? };
        if !in_memory
            && dir.join("CURRENT").exists()
            && whole::is_only_begun(&dir).map_err(|source| unusable(&dir, source))?
        {
            // Without a log RocksDB refuses a directory that is not new. This makes one.
            drop(open_at(options, &dir)?);
        }
        database.set_write_buffer_manager(&write_buffers);
        let position = if in_memory {
            None
        } else {
            let begun = Position::begin(&dir, known);
            Some(begun.map_err(|source| unusable(&dir, source))?)
        };

        let cache = Cache::new_hyper_clock_cache(options.block_cache.as_usize(), 0);
        let reclaim = Arc::new(Reclaim::default());
        let descriptor =
            |table: Table| ColumnFamilyDescriptor::new(table.name(), options.of_table(table, &cache, &reclaim));
        let db = DB::open_cf_descriptors(&database, &dir, Table::ALL.map(descriptor)).map_err(rocks)?;
        let folder = Store::folder_of(&dir, in_memory);
        let folder = folder.map_err(|source| unusable(&dir, source))?;
        let mut store = Store {
            db,
            dir: (!in_memory).then(|| dir.clone()),
            overlay: Overlay::new(options.overlay_size.as_usize(), options.existence_filter.as_usize()),
            folder,
            file_options: options.of_files(&cache, &reclaim, env.as_ref()),
            #[cfg(test)]
            at_step: std::sync::OnceLock::new(),
            info: StoreInfo { id: String::new() },
            durability: options.durability,
            keep_changes: options.keep_changes,
            poisoned: AtomicBool::new(false),
            alarm: Alarm::default(),
            position,
            synced_seq: AtomicU64::new(0),
            unreadable_rows: AtomicU64::new(0),
            seq: Store::shard_counters(0),
            durable_seq: Store::shard_counters(0),
            told_seq: Store::shard_counters(u64::MAX),
            wanted_after: Store::shard_counters(u64::MAX),
            trimmed_to: Store::shard_counters(0),
            changed: Arc::new(Notify::new()),
            reclaim,
            at_rest: AtRest::default(),
            erasure_key: [0; 16],
            cache,
            write_buffers,
            _lock: lock,
        };
        let state = |source| OpenError::State { dir: dir.clone(), source };
        let damaged = |damage| OpenError::Damaged { dir: dir.clone(), damage };
        let (last, promised) = (store.db.latest_sequence_number(), known.promised(boot_number()));
        if last < promised {
            return Err(damaged(whole::ends_too_soon(&dir, last, promised)));
        }
        if let Some(dir) = &store.dir
            && let Some(damage) = missing_files(&store.db, dir).map_err(rocks)?
        {
            return Err(damaged(damage));
        }
        let format = store.format().map_err(state)?;
        if let Some(found) = format.filter(|&found| found > FORMAT) {
            return Err(OpenError::NewerFormat { dir, found: found.to_string() });
        }
        store.info = store.open_info().map_err(state)?;
        store.upgrade().map_err(state)?;
        // The first format's changes say less: nobody is told anything by them.
        store.load_sequences(format == Some(1)).map_err(state)?;
        store.know_if_empty();
        store.recover_journal().map_err(|error| {
            let lost = "acknowledged events that were not in a file yet are in it".to_owned();
            damaged(Damage { what: format!("the journal cannot be read: {error}"), lost })
        })?;
        store.load_at_rest().map_err(state)?;
        store.mark_opened().map_err(state)?;
        store.sync().map_err(state)?;
        Ok(store)
    }
}

fn unusable(dir: &Path, source: std::io::Error) -> OpenError {
    OpenError::Directory { dir: dir.to_owned(), source }
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

/// Refuses a directory that has lost something that was acknowledged, before anything of it is changed. Returns up to
/// where its log is known to be on disk.
fn refuse_damage(options: &StoreOptions, database: &Options) -> Result<Known, OpenError> {
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
    if logs.has_gap()
        && let Some(damage) = missing_log(options)?
    {
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

/// The last sequence of a directory, without changing anything in it.
pub(super) fn last_sequence(dir: &Path, database: &Options) -> Result<u64, OpenError> {
    let mut options = database.clone();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let db = DB::open_for_read_only(&options, dir, false).map_err(|source| failed(dir, source))?;
    Ok(db.latest_sequence_number())
}

pub(super) fn lock_dir(dir: &Path) -> Result<DirLock, OpenError> {
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
