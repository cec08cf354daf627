//! Opening: the directory is ours alone, its format is known, and the sequences go on where they ended.

use super::at_rest::AtRest;
use super::lock::{DirLock, LockError};
use super::overlay::Overlay;
use super::{FORMAT, Reclaim, StorageKind, Store, StoreError, StoreOptions, Table};
use crate::alarm::Alarm;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Env, Options};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
        let rocks = |source| OpenError::RocksDb { dir: dir.clone(), source };
        let env = if in_memory { Some(Env::mem_env().map_err(rocks)?) } else { None };
        let database = options.of_database(env.as_ref()).map_err(rocks)?;
        if !in_memory {
            refuse_unknown_tables(&dir, &database)?;
        }

        let cache = Cache::new_hyper_clock_cache(options.block_cache.as_usize(), 0);
        let reclaim = Arc::new(Reclaim::default());
        let descriptor =
            |table: Table| ColumnFamilyDescriptor::new(table.name(), options.of_table(table, &cache, &reclaim));
        let db = DB::open_cf_descriptors(&database, &dir, Table::ALL.map(descriptor)).map_err(rocks)?;
        let folder = Store::folder_of(&dir, in_memory);
        let folder = folder.map_err(|source| OpenError::Directory { dir: dir.clone(), source })?;
        let mut store = Store {
            db,
            dir: (!in_memory).then(|| dir.clone()),
            overlay: Overlay::new(options.overlay_size.as_usize()),
            folder,
            file_options: options.of_files(&cache, &reclaim, env.as_ref()),
            #[cfg(test)]
            at_step: std::sync::OnceLock::new(),
            info: StoreInfo { id: String::new() },
            durability: options.durability,
            keep_changes: options.keep_changes,
            poisoned: AtomicBool::new(false),
            alarm: Alarm::default(),
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
            _lock: lock,
        };
        let state = |source| OpenError::State { dir: dir.clone(), source };
        let format = store.format().map_err(state)?;
        if let Some(found) = format.filter(|&found| found > FORMAT) {
            return Err(OpenError::NewerFormat { dir, found: found.to_string() });
        }
        store.info = store.open_info().map_err(state)?;
        store.upgrade().map_err(state)?;
        // The first format's changes say less: nobody is told anything by them.
        store.load_sequences(format == Some(1)).map_err(state)?;
        store.know_if_empty().map_err(state)?;
        store.recover_journal().map_err(state)?;
        store.load_at_rest().map_err(state)?;
        store.mark_opened().map_err(state)?;
        Ok(store)
    }
}

fn lock_dir(dir: &Path) -> Result<DirLock, OpenError> {
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
    if !dir.join("CURRENT").exists() {
        return Ok(());
    }
    let rocks = |source| OpenError::RocksDb { dir: dir.to_owned(), source };
    let tables = DB::list_cf(database, dir).map_err(rocks)?;
    let known = |name: &String| name == "default" || Table::ALL.iter().any(|table| table.name() == name);
    match tables.into_iter().find(|name| !known(name)) {
        Some(table) => Err(OpenError::NewerFormat { dir: dir.to_owned(), found: format!("with a table {table:?}") }),
        None => Ok(()),
    }
}
