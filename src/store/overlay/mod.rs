//! The overlay: logs that changed since they were last written to a file, in memory, bounded.
//!
//! ```text
//!  commit ──▶ journal (one row, in the commit) ──▶ active rows ──freeze──▶ frozen rows ──flush──▶ a file of `logs`
//! ```
//!
//! A log that changes is written to the `journal` as it is then, in the same atomic write as everything else of the commit,
//! and put into the active rows of its shard. Once these have used half of the overlay they are frozen, and new ones take
//! their place; the frozen ones are written to a file in the order of their keys, which RocksDB takes in as it is, and the
//! journal up to there is removed. After a crash, what the journal still has is put into the active rows again, in its
//! order: rows as they were, so it does not matter if some of them are in a file already.
//!
//! Whoever reads a log looks at the active rows, then the frozen ones, then RocksDB, if that may have it. Rows leave the
//! frozen ones only once RocksDB has them.

mod existence_filter;
pub(in crate::store) mod flush;
pub(in crate::store) mod in_doubt;
mod order;
mod rows;
#[cfg(test)]
mod tests;
pub(in crate::store) mod walk;
mod watch;

use crate::model::{SHARDS, ShardId, ShardSet};
use crate::store::error::StoreError;
use crate::store::tables::journal;
use existence_filter::ExistenceFilter;
use hashbrown::DefaultHashBuilder;
use rows::Rows;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use watch::Watches;

/// The rows of one shard.
#[derive(Debug, Default)]
pub(in crate::store) struct ShardRows {
    active: Rows,
    frozen: Option<Arc<Rows>>,
    /// Memory for the next active rows.
    spare: Rows,
    /// What RocksDB may have; `None` until it is built.
    filter: Option<ExistenceFilter>,
    /// RocksDB has more than a filter has room for.
    has_too_many: bool,
    /// Who goes through rows of a user now.
    watches: Watches,
}

/// What the overlay knows of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Lookup<T> {
    /// It is here: its bytes, none where it was removed.
    Found(T),
    /// It is in RocksDB, if it exists.
    MaybeOnDisk,
    /// It does not exist.
    Absent,
}

impl ShardRows {
    fn get(&self, hash: u32, key: &[u8]) -> Lookup<&[u8]> {
        match self.active.get(hash, key).or_else(|| self.frozen.as_ref()?.get(hash, key)) {
            Some(row) => Lookup::Found(row),
            None if self.filter.as_ref().is_some_and(|filter| !filter.may_have(hash)) => Lookup::Absent,
            None => Lookup::MaybeOnDisk,
        }
    }
}

/// The state of the flush.
#[derive(Debug, Default)]
struct Progress {
    /// The last position in the journal that the frozen rows cover; `None` if there are none.
    frozen_to: Option<u64>,
    /// Whether a flusher thread waits; without one, writers flush.
    has_flusher: bool,
    /// Whether that thread is to end.
    ends: bool,
}

pub(in crate::store) struct Overlay {
    /// The shards whose rows may be here.
    owned: ShardSet,
    /// By shard; those that are not owned stay empty.
    shards: Box<[RwLock<ShardRows>]>,
    hasher: DefaultHashBuilder,
    /// Shared by commits, from taking a position in the journal until their rows are here; exclusive for a freeze.
    gate: RwLock<()>,
    /// The last position in the journal that was given out.
    position: AtomicU64,
    /// Freezes since the start.
    freezes: AtomicU64,
    active_bytes: AtomicUsize,
    frozen_bytes: AtomicUsize,
    /// Bytes of the journal since the last freeze.
    journal_bytes: AtomicUsize,
    /// Bytes of active rows at which they are frozen. Also frozen at twice as many bytes in the journal, since rows
    /// that change again and again do not grow here.
    freeze_at: usize,
    /// Maximum bytes of the filter of one shard.
    filter_bytes_max: usize,
    /// Bytes of old row versions kept for all walks under way.
    before_bytes: Arc<AtomicUsize>,
    progress: Mutex<Progress>,
    progressed: Condvar,
    /// Held while frozen rows are written to a file.
    pub(in crate::store) flushing: Mutex<()>,
}

/// Figures of the overlay, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayFigures {
    /// Of rows that can still change.
    pub active_bytes: usize,
    /// Of rows that are written to a file.
    pub frozen_bytes: usize,
    /// Of the existence filters.
    pub filter_bytes: usize,
    /// Freezes since the start.
    pub freezes: u64,
}

/// The rows of one shard, locked so that none can change.
pub(in crate::store) struct View<'a> {
    overlay: &'a Overlay,
    rows: RwLockReadGuard<'a, ShardRows>,
}

/// Row keys and values.
pub(in crate::store) type OwnedRows = Vec<(Vec<u8>, Vec<u8>)>;

impl View<'_> {
    /// Looks up a row key.
    pub(in crate::store) fn find(&self, row_key: &[u8]) -> Lookup<&[u8]> {
        self.rows.get(self.overlay.hash(row_key), row_key)
    }

    /// The rows whose keys `wanted` accepts, in the order of keys.
    pub(in crate::store) fn sorted(&self, wanted: impl Fn(&[u8]) -> bool) -> OwnedRows {
        let active = &self.rows.active;
        let mut found = OwnedRows::new();
        for (key, value) in active.iter() {
            if wanted(key) {
                found.push((key.to_vec(), value.to_vec()));
            }
        }
        if let Some(frozen) = &self.rows.frozen {
            for (key, value) in frozen.iter() {
                // A newer version may be active.
                if wanted(key) && active.get(self.overlay.hash(key), key).is_none() {
                    found.push((key.to_vec(), value.to_vec()));
                }
            }
        }
        found.sort_unstable();
        found
    }
}

/// A panic under one of these locks also poisons the store. Reads go on.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Overlay {
    /// An overlay of this many bytes, frozen rows included, with this many for the filters.
    pub(in crate::store) fn new(owned: ShardSet, bytes: usize, filter_bytes: usize) -> Self {
        Self {
            owned,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            gate: RwLock::default(),
            position: AtomicU64::new(0),
            freezes: AtomicU64::new(0),
            active_bytes: AtomicUsize::new(0),
            frozen_bytes: AtomicUsize::new(0),
            journal_bytes: AtomicUsize::new(0),
            freeze_at: bytes / 2,
            filter_bytes_max: filter_bytes / owned.len().max(1),
            before_bytes: Arc::default(),
            progress: Mutex::default(),
            progressed: Condvar::new(),
            flushing: Mutex::default(),
        }
    }

    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn shard_of(&self, row_key: &[u8]) -> &RwLock<ShardRows> {
        &self.shards[usize::from(row_key[0])]
    }

    /// Looks up one log. If it is here, its bytes go to `found`.
    pub(in crate::store) fn find<T>(&self, row_key: &[u8], found: impl FnOnce(&[u8]) -> T) -> Lookup<T> {
        let hash = self.hash(row_key);
        match read(self.shard_of(row_key)).get(hash, row_key) {
            Lookup::Found(row) => Lookup::Found(found(row)),
            Lookup::MaybeOnDisk => Lookup::MaybeOnDisk,
            Lookup::Absent => Lookup::Absent,
        }
    }

    /// The rows of one shard at one instant; they are locked until the view is dropped.
    pub(in crate::store) fn view(&self, shard: ShardId) -> View<'_> {
        View { overlay: self, rows: read(&self.shards[shard.index()]) }
    }

    /// Freezes since the start. While this is the same as when a [`View`] was held, what the view did not have is
    /// unchanged in RocksDB.
    pub(in crate::store) fn freezes(&self) -> u64 {
        self.freezes.load(Ordering::Acquire)
    }

    pub(in crate::store) fn figures(&self) -> OverlayFigures {
        OverlayFigures {
            active_bytes: self.active_bytes.load(Ordering::Relaxed),
            frozen_bytes: self.frozen_bytes.load(Ordering::Relaxed),
            filter_bytes: self
                .shards
                .iter()
                .map(|shard| read(shard).filter.as_ref().map_or(0, ExistenceFilter::bytes))
                .sum(),
            freezes: self.freezes(),
        }
    }

    /// Prevents a freeze while a commit is between the journal and the overlay.
    pub(in crate::store) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        read(&self.gate)
    }

    /// The next position in the journal. Only between [`Overlay::enter`] and the end of its guard.
    pub(in crate::store) fn next_position(&self) -> u64 {
        self.position.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts a row of the journal into the overlay. Damage in it is an error; the logs before the damage are put in.
    pub(in crate::store) fn take_in(&self, journal: &[u8]) -> Result<(), StoreError> {
        let mut grown = 0;
        let mut held: Option<(u8, RwLockWriteGuard<'_, ShardRows>)> = None;
        for row in journal::rows(journal) {
            let (key, value) = row?;
            // Rows are sorted by key, so each shard is locked once.
            let rows = match &mut held {
                Some((shard, rows)) if *shard == key[0] => rows,
                _ => {
                    held = None;
                    &mut held.insert((key[0], write(self.shard_of(key)))).1
                }
            };
            let hash = self.hash(key);
            let ShardRows { watches, active, .. } = &mut **rows;
            watches.before_change(active, hash, key);
            grown += active.put(hash, key, value);
        }
        drop(held);
        self.active_bytes.fetch_add(grown, Ordering::Relaxed);
        self.journal_bytes.fetch_add(journal.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Wakes writers that wait for room, since nothing more will be written.
    pub(in crate::store) fn wake(&self) {
        let _progress = self.progress();
        self.progressed.notify_all();
    }

    fn is_full(&self) -> bool {
        self.active_bytes.load(Ordering::Relaxed) >= self.freeze_at
            || self.journal_bytes.load(Ordering::Relaxed) >= 2 * self.freeze_at
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        self.progressed.wait(progress).unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the active rows into the frozen ones, if there are none and `wanted` still agrees. The lock order is gate,
    /// then progress: a commit that fails locks the progress when it poisons the store.
    fn freeze(&self, wanted: impl FnOnce(&Self) -> bool) -> bool {
        // Exclusive: every commit with a position in the journal up to here has its rows here, too.
        let _gate = write(&self.gate);
        let mut progress = self.progress();
        if progress.frozen_to.is_some() || !wanted(self) {
            return false;
        }
        self.freezes.fetch_add(1, Ordering::AcqRel);
        for shard in &self.shards {
            let mut rows = write(shard);
            // (If nothing was written, the spare memory is freed: it may be large and not be needed again.)
            let spare = std::mem::take(&mut rows.spare);
            let next = if rows.active.is_empty() { Rows::default() } else { spare };
            let active = std::mem::replace(&mut rows.active, next);
            let active = Arc::new(active);
            rows.watches.frozen(&active);
            rows.frozen = (!active.is_empty()).then_some(active);
        }
        progress.frozen_to = Some(self.position.load(Ordering::Relaxed));
        self.journal_bytes.store(0, Ordering::Relaxed);
        self.frozen_bytes.store(self.active_bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.progressed.notify_all();
        true
    }

    /// The frozen rows of a shard.
    fn frozen(&self, shard: ShardId) -> Option<Arc<Rows>> {
        read(&self.shards[shard.index()]).frozen.clone()
    }

    /// The shards whose filter is not built yet.
    fn shards_without_filter(&self) -> Vec<ShardId> {
        let mut without = Vec::new();
        for shard in self.owned.iter() {
            let rows = read(&self.shards[shard.index()]);
            if rows.filter.is_none() && !rows.has_too_many {
                without.push(shard);
            }
        }
        without
    }

    /// Sets the filter of a shard to the hashes of the row keys that RocksDB has. No frozen rows may be dropped
    /// meanwhile.
    fn set_filter(&self, shard: ShardId, hashes: &[u32]) {
        let mut filter = ExistenceFilter::default();
        // With room to grow: reading a shard again and again would cost more than the filter saves.
        if !filter.reserve(hashes.len(), self.filter_bytes_max / 4 * 3) {
            write(&self.shards[shard.index()]).has_too_many = true;
            return;
        }
        hashes.iter().for_each(|&hash| filter.add(hash));
        write(&self.shards[shard.index()]).filter = Some(filter);
    }

    /// Drops the frozen rows, which RocksDB has now.
    fn thaw(&self) {
        for shard in &self.shards {
            let Some(frozen) = read(shard).frozen.clone() else { continue };
            let mut rows = write(shard);
            if rows.filter.as_mut().is_some_and(|filter| !filter.reserve(frozen.len(), self.filter_bytes_max)) {
                // The filter is full, but many of its keys may be gone from RocksDB: the flusher builds it again.
                rows.filter = None;
            }
            drop(rows);
            // The filter must have the keys before the rows go, or a reader in between would take the logs for absent.
            // A shared lock is enough: a reader that finds the rows gone locked the shard after the exclusive lock
            // below, and so sees every bit set here.
            if let Some(filter) = &read(shard).filter {
                frozen.hashes().for_each(|hash| filter.add(hash));
            }
            drop(frozen);
            let frozen = write(shard).frozen.take();
            if let Some(mut spare) = frozen.and_then(Arc::into_inner) {
                spare.clear();
                write(shard).spare = spare;
            }
        }
        self.frozen_bytes.store(0, Ordering::Relaxed);
        self.progress().frozen_to = None;
        self.progressed.notify_all();
    }
}
