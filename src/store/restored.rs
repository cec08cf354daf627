//! Makes a directory ready that was copied from a checkpoint: it goes on as a history of its own, and whoever was erased since
//! the checkpoint stays erased.
//!
//! A marker file ([`RESTORING`]) is in the directory until all of this is done and on disk; nobody opens a directory that has
//! it. Every step may be done once more, so after a crash [`prepare`] is begun anew.

use super::checkpoint::{ERASED, erased_rows};
use super::directory::{OpenError, RESTORING};
use super::error::StoreError;
use super::options::StoreOptions;
use super::row::{RowKey, ShardPrefix};
use super::store::Store;
use super::table::Table;
use super::tables::audit::ChangedBy;
use super::tables::erased::erased_until;
use super::tables::kafka_offsets::FrontierAt;
use crate::model::{ShardId, TsMs};
use rocksdb::WriteBatch;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

/// Logs that are looked through at once.
const PAGE: usize = 4_096;

/// What becomes of a copy.
#[derive(Debug, Clone, Copy)]
pub struct PrepareOptions<'a> {
    /// 32 hex digits that nobody else has: what the copy's history is called from here on. Drawn for each restore.
    pub incarnation: &'a str,
    /// The id of a new store, where the copy is to live beside the one that it was made of.
    pub new_id: Option<&'a str>,
    /// The bytes of the file [`ERASED`] of the newest checkpoint of the same store, where the copy is of an older one.
    pub newest_erased: Option<&'a [u8]>,
}

/// A copy that was made ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Who the store is now.
    pub store_id: String,
    /// Users of the copy who were erased later, and are erased from it now.
    pub users_erased: u64,
    /// The last believed time of day.
    pub clock: Option<TsMs>,
    /// How far each Kafka partition is.
    pub kafka: Vec<FrontierAt>,
    /// The revision of the rules in force.
    pub rules_revision: u64,
}

/// The steps that are done, for tests of what a crash leaves after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Marked,
    Opened,
    UserErased,
    Erased,
    Begun,
    Closed,
}

/// Makes the copy in `store.data_dir` ready. It leaves the marker there, which [`finish`] removes: in between the caller may add
/// what is its own. Blocks on disk, for as long as a pass over all users takes where `newest_erased` says of anybody what the
/// copy does not.
pub fn prepare(store: &StoreOptions, options: &PrepareOptions<'_>) -> Result<Prepared, OpenError> {
    prepare_with(store, options, &|_| {})
}

fn prepare_with(
    store_options: &StoreOptions,
    options: &PrepareOptions<'_>,
    at: &dyn Fn(Step),
) -> Result<Prepared, OpenError> {
    let dir = store_options.data_dir.as_path();
    let unusable = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let state = |source| OpenError::State { dir: dir.to_owned(), source };
    if !dir.join("CURRENT").exists() {
        // Opening would make an empty store of it.
        return Err(unusable(io::Error::new(io::ErrorKind::NotFound, "there is no copy of a store in it")));
    }
    mark(dir).map_err(unusable)?;
    at(Step::Marked);
    let store = Store::open_copy(store_options)?;
    at(Step::Opened);
    let users_erased = match options.newest_erased {
        Some(bytes) => take_along_erased(&store, bytes, at).map_err(state)?,
        None => 0,
    };
    at(Step::Erased);
    store.tables.meta.begin_incarnation(options.incarnation, options.new_id).map_err(state)?;
    at(Step::Begun);
    let prepared = Prepared {
        store_id: options.new_id.map_or_else(|| store.info().id.clone(), str::to_owned),
        users_erased,
        clock: store.tables.meta.last_believed().map_err(state)?,
        kafka: store.tables.kafka_offsets.frontiers().map_err(state)?,
        rules_revision: store.tables.rules.in_force().map_err(state)?.map_or(0, |mark| mark.revision),
    };
    store.close().map_err(state)?;
    drop(store);
    // It is of the checkpoint alone: from here on the table says more.
    match std::fs::remove_file(dir.join(ERASED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    at(Step::Closed);
    Ok(prepared)
}

/// Removes the marker: from here on the directory is a whole one. Durable where it returns.
pub fn finish(dir: &Path) -> Result<(), OpenError> {
    let removed = match std::fs::remove_file(dir.join(RESTORING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::open(dir).and_then(|dir| dir.sync_all()),
    };
    removed.map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })
}

/// Puts the marker where there is none; what stands in one is left.
pub(super) fn mark(dir: &Path) -> io::Result<()> {
    let marker = File::options().append(true).create(true).open(dir.join(RESTORING))?;
    marker.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Erases whoever was erased later than the copy knows of. Returns how many it held.
fn take_along_erased(store: &Store, bytes: &[u8], at: &dyn Fn(Step)) -> Result<u64, StoreError> {
    const CUT: StoreError = StoreError::Corrupt { table: "erased", what: "the file of who was erased is cut off" };
    let mut later: HashMap<&[u8], TsMs> = HashMap::new();
    for (key, value) in erased_rows(bytes).ok_or(CUT)? {
        let until = erased_until(value).ok_or(CUT)?;
        if store.tables.erased.row(key)?.is_none_or(|known| known < until) {
            later.insert(key, until);
        }
    }
    if later.is_empty() {
        return Ok(0);
    }
    let mut shards: BTreeSet<ShardId> = BTreeSet::new();
    shards.extend(later.keys().filter_map(|key| key.first().copied().map(ShardId)));
    let mut erased = 0;
    for &shard in &shards {
        for user in users(store, shard)? {
            let mark = store.tables.erased.mark(&user);
            let Some(&until) = later.get(&mark.key(shard)[..]) else { continue };
            let mut commit = store.begin_commit();
            // Who asked for it is in the audit of the store that was copied.
            let by = ChangedBy { key: None, call: "erased again after a restore".to_owned() };
            let line = commit.erase(&user, until)?.audited(mark, by);
            let changes = store.at_rest.write_erasure(commit, shard, until, Some(&line))?;
            store.changes.publish(changes);
            erased += 1;
            at(Step::UserErased);
        }
    }
    // Those whom the copy does not hold must not come in either. Last: who has a tombstone is not looked for again.
    let mut batch = WriteBatch::default();
    for (key, until) in &later {
        if store.tables.erased.row(key)?.is_none_or(|known| known < *until) {
            store.tables.erased.put_row(&mut batch, key, *until);
        }
    }
    store.db.write_durably(batch, "taking along who was erased")?;
    Ok(erased)
}

/// Everybody of whom a shard holds anything that can be read.
fn users(store: &Store, shard: ShardId) -> Result<BTreeSet<String>, StoreError> {
    let mut users = BTreeSet::new();
    let mut add = |row_key: &[u8]| {
        if let Some(user) = RowKey::user_of(row_key)
            && !users.contains(user)
        {
            users.insert(user.to_owned());
        }
    };
    let (mut after, mut is_last) = (None, false);
    while !is_last {
        (after, is_last) = store.logs.scan(shard, after.as_deref(), PAGE, |row_key, _| add(row_key))?;
    }
    for table in [Table::Caps, Table::Reservations] {
        let mut rows = store.db.readable(table, ShardPrefix(shard).rows(), false);
        while let Some((row_key, _)) = rows.next() {
            add(row_key);
        }
    }
    Ok(users)
}

#[cfg(test)]
#[path = "restored_tests.rs"]
mod tests;
