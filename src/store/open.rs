//! Opening: the directory is ours alone, its format is known, and the sequences go on where they ended.

use super::at_rest::AtRest;
use super::boot::boot_number;
use super::change_log::ChangeLog;
use super::compaction_filter::CompactionFilter;
use super::db::Db;
use super::directory::{OpenError, failed, lock_dir, missing_files, open_at, refuse_damage, refuse_unfinished};
use super::erasing::Erasing;
use super::logs::Logs;
use super::options::{StorageKind, StoreOptions};
use super::overlay::Overlay;
use super::overlay::flush::Flusher;
use super::overlay::in_doubt;
use super::position::{Known, Position};
use super::resources::Resources;
use super::store::{Store, StoreInfo};
use super::table::Table;
use super::tables::Tables;
use super::tables::meta::{FORMAT, Meta};
use super::unit_dirs::refuse_other_units;
use super::whole::{self, Damage};
use rocksdb::{ColumnFamilyDescriptor, DB, Env};
use std::path::PathBuf;
use std::sync::Arc;

impl Store {
    /// Opens the store with memory of its own, making it if there is none. Blocks on disk.
    pub fn open(options: &StoreOptions) -> Result<Store, OpenError> {
        Self::open_with(options, &Resources::new(options))
    }

    /// Opens the store with memory that it shares with others of the process. Blocks on disk.
    pub fn open_with(options: &StoreOptions, resources: &Resources) -> Result<Store, OpenError> {
        if options.storage == StorageKind::Rocksdb {
            refuse_unfinished(&options.data_dir)?;
            if options.unit.is_none() {
                refuse_other_units(&options.data_dir, 1)?;
            }
        }
        Self::open_copy_with(options, resources)
    }

    /// Opens the store, though the directory may be a copy that is not whole yet.
    pub(in crate::store) fn open_copy(options: &StoreOptions) -> Result<Store, OpenError> {
        Self::open_copy_with(options, &Resources::new(options))
    }

    fn open_copy_with(options: &StoreOptions, resources: &Resources) -> Result<Store, OpenError> {
        if options.storage == StorageKind::Memory {
            return Self::open_unlocked(options, resources);
        }
        let lock = lock_dir(&options.data_dir)?;
        Ok(Store { _lock: Some(lock), ..Self::open_unlocked(options, resources)? })
    }

    /// The same for whoever holds the lock of the directory.
    fn open_unlocked(options: &StoreOptions, resources: &Resources) -> Result<Store, OpenError> {
        let in_memory = options.storage == StorageKind::Memory;
        let dir = if in_memory { PathBuf::from("/freqcap") } else { options.data_dir.clone() };
        let rocks = |source| failed(&dir, source);
        let env = if in_memory { Some(Env::mem_env().map_err(rocks)?) } else { None };
        let mut database = options.of_database(env.as_ref());
        let known = if in_memory { Known::default() } else { refuse_damage(options, &database)? };
        let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
        if !in_memory && dir.join("CURRENT").exists() && whole::is_only_begun(&dir).map_err(unusable)? {
            // Without a log RocksDB refuses a directory that is not new. This makes one.
            drop(open_at(options, &dir)?);
        }
        database.set_write_buffer_manager(&resources.write_buffers);
        let position = if in_memory {
            None
        } else {
            let begun = Position::begin(&dir, known);
            Some(begun.map_err(unusable)?)
        };

        let cache = resources.block_cache.clone();
        let filter = Arc::new(CompactionFilter::default());
        let descriptor =
            |table: Table| ColumnFamilyDescriptor::new(table.name(), options.of_table(table, &cache, &filter));
        let rocks_db = DB::open_cf_descriptors(&database, &dir, Table::ALL.map(descriptor)).map_err(rocks)?;
        let file_options = options.of_files(&cache, &filter, env.as_ref());
        let on_disk = (!in_memory).then(|| dir.clone());
        let db = Arc::new(Db::new(rocks_db, on_disk, cache, resources.write_buffers.clone(), position));
        let state = |source| OpenError::State { dir: dir.clone(), source };
        let damaged = |damage| OpenError::Damaged { dir: dir.clone(), damage };
        let (last, promised) = (db.rocks.latest_sequence_number(), known.promised(boot_number()));
        if last < promised {
            return Err(damaged(whole::ends_too_soon(&dir, last, promised)));
        }
        if let Some(dir) = db.dir() {
            in_doubt::put_in_place(&db.rocks, dir).map_err(unusable)?;
        }
        if let Some(dir) = db.dir()
            && let Some(damage) = missing_files(&db.rocks, dir).map_err(rocks)?
        {
            return Err(damaged(damage));
        }
        let meta = Meta::new(db.clone());
        let format = meta.format().map_err(state)?;
        if let Some(found) = format.filter(|&found| found > FORMAT) {
            return Err(OpenError::NewerFormat { dir, found: found.to_string() });
        }
        let info = StoreInfo { id: meta.read_or_make_id().map_err(state)? };
        let tables = Tables::new(&db, options.shards, meta.upgrade().map_err(state)?);
        let changes = Arc::new(ChangeLog::new(&db, options.shards, options.keep_changes));
        // The first format's changes say less: nobody is notified by them.
        changes.load(format == Some(1)).map_err(state)?;

        let (overlay_bytes, filter_bytes) = (options.overlay_size.as_usize(), options.existence_filter.as_usize());
        let overlay = Arc::new(Overlay::new(options.shards, overlay_bytes, filter_bytes));
        let waiting = overlay.clone();
        db.on_poison(move || waiting.wake());
        let flusher = Flusher::new(&db, &overlay, &dir, file_options);
        let flusher = Arc::new(flusher.map_err(unusable)?);
        // Before the journal: what is recovered may be flushed, and a filter must not miss it.
        flusher.build_filters_if_empty();
        flusher.recover_journal().map_err(|error| {
            let lost = "acknowledged events that were not in a file yet are in it".to_owned();
            damaged(Damage { what: format!("the journal cannot be read: {error}"), lost })
        })?;
        let at_rest = AtRest::load(&db, &changes, &flusher, options.shards).map_err(state)?;
        let erasing = Arc::new(Erasing::load(&db, options.shards).map_err(state)?);
        tables.meta.mark_opened(options.keep_changes).map_err(state)?;
        db.sync().map_err(state)?;
        Ok(Store {
            logs: Logs::new(db.clone(), overlay.clone(), erasing.clone()),
            erasing,
            info,
            shards: options.shards,
            unit: options.unit.clone(),
            durability: options.durability,
            alarm: resources.alarm.clone(),
            db,
            tables,
            overlay,
            flusher,
            changes,
            at_rest,
            compaction_filter: filter,
            _lock: None,
        })
    }
}
