//! Makes a damaged directory usable again by removing what cannot be read. What is removed stays in the folder
//! `damaged`.

use super::boot::boot_number;
use super::check::{TableCheck, Verified, look, tables};
use super::directory::{OpenError, failed, lock_dir, missing_files, open_at, refuse_unfinished};
use super::manifest;
use super::options::StoreOptions;
use super::position::{Known, Position};
use super::promised_logs;
use super::relist::relist;
use super::table::Table;
use super::tables::meta::{CHANGES_FIELD, ShardField};
use super::whole::{self, aside, name};
use crate::model::ShardId;
use rocksdb::{DB, FlushOptions, WriteBatch};
use std::io;
use std::path::{Path, PathBuf};

/// The folder for the rows that can be read, beside the damaged files.
const COPY: &str = "repaired";
/// Bytes of rows copied in one write.
const BATCH_BYTES: usize = 4 << 20;

/// Removes what cannot be read, and what follows damage in the write-ahead log. `progress` is as in
/// [`verify`](super::verify). Returns what was removed; an undamaged directory is not changed.
pub fn repair(options: &StoreOptions, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, OpenError> {
    let dir = &options.data_dir;
    let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
    refuse_unfinished(dir)?;
    let _lock = lock_dir(dir)?;
    if dir.join("CURRENT").exists() && manifest::is_named(dir).map_err(unusable)? {
        // The same as a start does.
        manifest::trim(dir, &whole::look(dir, boot_number()).map_err(unusable)?).map_err(unusable)?;
    }
    let relisted = relist(options, || new_folder(&aside(dir)))?;
    let mut found = Verified::default();
    let there = look(options, &mut found)?;
    let kept = relisted.map(|(damage, kept)| {
        found.files.insert(0, damage);
        kept
    });
    let Some((logs, db)) = there else { return Ok(found) };
    let copy = dir.join(COPY);
    remove(&copy).map_err(unusable)?;
    found.tables = tables(&db, progress, &mut |_, _, _| Ok(()))?;
    if found.is_whole() {
        return Ok(found);
    }
    let kept = kept.map_or_else(|| new_folder(&aside(dir)), Ok).map_err(unusable)?;
    for file in &logs.files {
        std::fs::copy(&file.path, kept.join(name(&file.path))).map_err(unusable)?;
    }
    let has_missing = missing_files(&db, dir).map_err(|source| failed(dir, source))?.is_some();
    if has_missing || !found.tables.iter().all(TableCheck::is_whole) {
        rewrite(options, &db, &copy)?;
        drop(db);
        swap(dir, &copy, &kept).map_err(unusable)?;
    } else {
        drop(db);
        logs.trim(&kept).map_err(unusable)?;
    }
    begin_anew(options)?;
    Ok(found)
}

/// Copies every row that can be read into a new database.
fn rewrite(options: &StoreOptions, db: &DB, copy: &Path) -> Result<(), OpenError> {
    let rocks = |source| failed(copy, source);
    let new = open_at(options, copy)?;
    let mut batch = WriteBatch::default();
    let write = |batch: WriteBatch| new.write_without_wal(batch).map_err(rocks);
    tables(db, &mut |_, _| {}, &mut |table, key, value| {
        match table.and_then(|table| new.cf_handle(table.name())) {
            Some(cf) => batch.put_cf(cf, key, value),
            None => batch.put(key, value),
        }
        if batch.size_in_bytes() < BATCH_BYTES { Ok(()) } else { write(std::mem::take(&mut batch)) }
    })?;
    write(batch)?;
    let mut flush = FlushOptions::default();
    flush.set_wait(true);
    let all = Table::ALL.iter().filter_map(|table| new.cf_handle(table.name()));
    new.flush_opt(&flush).map_err(rocks)?;
    all.into_iter().try_for_each(|cf| new.flush_cf_opt(cf, &flush).map_err(rocks))
}

/// Replaces the damaged files with the copy, and keeps them.
fn swap(dir: &Path, copy: &Path, kept: &Path) -> io::Result<()> {
    // CURRENT is moved out first and in last, so that no half-replaced database can be opened.
    let mut old = rocks_files(dir)?;
    old.sort_unstable_by_key(|path| !path.ends_with("CURRENT"));
    for path in old {
        std::fs::rename(&path, kept.join(name(&path)))?;
    }
    let mut new = rocks_files(copy)?;
    new.sort_unstable_by_key(|path| path.ends_with("CURRENT"));
    for path in new {
        std::fs::rename(&path, dir.join(name(&path)))?;
    }
    remove(copy)?;
    std::fs::File::open(dir)?.sync_all()
}

/// Opens what is left once. The next start then sends the mirror everything and judges every cap again.
fn begin_anew(options: &StoreOptions) -> Result<(), OpenError> {
    let dir = &options.data_dir;
    let rocks = |source| failed(dir, source);
    // Which logs there should be is another thing now.
    promised_logs::forget(dir, |_| true).map_err(|source| OpenError::Directory { dir: dir.clone(), source })?;
    let db = open_at(options, dir)?;
    let mut batch = WriteBatch::default();
    batch.put(CHANGES_FIELD, "off");
    if let Some(meta) = db.cf_handle(Table::Meta.name()) {
        ShardId::all().for_each(|shard| batch.delete_cf(meta, ShardField::RulesRevision.key(shard)));
    }
    db.write(batch).map_err(rocks)?;
    db.flush_wal(true).map_err(rocks)?;
    let last = db.latest_sequence_number();
    let known = Known { synced: last, written: last, boot: boot_number(), clean: true };
    Position::begin(dir, known).map_err(|source| OpenError::Directory { dir: dir.clone(), source })?;
    Ok(())
}

fn rocks_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && is_rocks_file(&name(&path)) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_rocks_file(name: &str) -> bool {
    let heads = ["MANIFEST-", "OPTIONS-"];
    matches!(name, "CURRENT" | "IDENTITY")
        || heads.iter().any(|head| name.starts_with(head))
        || name.ends_with(".sst")
        || name.ends_with(".log")
}

/// A new folder inside another: `1`, `2`, and so on.
fn new_folder(within: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(within)?;
    let mut number = 1u32;
    loop {
        let folder = within.join(number.to_string());
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
