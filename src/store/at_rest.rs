//! Erasure at rest: what was erased leaves every file, too.
//!
//! A row that is removed stays in RocksDB's files, beside the tombstone that hides it, until compaction meets both; its
//! bytes are in the write-ahead log, in the journal and among the bounds of files in the manifest as well. A round takes
//! them out of all of these:
//!
//! 1. the overlay is written to a file, so that the journal up to there goes;
//! 2. the changes that name who was erased are dropped; a mirror that was not told them is told everything;
//! 3. every table's write buffer is written to a file, which ends the write-ahead log so far;
//! 4. the rows of each shard that has an erasure are rewritten down to the last level, where tombstones go, too;
//! 5. the manifest is begun anew (see `StoreOptions::of_database`: each of its writes is a new file).
//!
//! Which shards wait for a round, and since when, is a row of `meta`, written in the same write as the erasure.

use super::change_log::ChangeLog;
use super::commit::Commit;
use super::db::Db;
use super::error::StoreError;
use super::overlay::flush::Flusher;
use super::row::ShardPrefix;
use super::table::Table;
use super::tables::audit::AuditEntry;
use super::tables::meta::{Meta, ShardField};
use crate::model::{ShardId, ShardSet, TsMs};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tables with rows that name users.
const NAMING: [Table; 6] = [Table::Logs, Table::Caps, Table::Changes, Table::Due, Table::Reservations, Table::Meta];

/// The shards with erasures whose bytes may still be in files, and how they leave those.
pub struct AtRest {
    db: Arc<Db>,
    meta: Meta,
    changes: Arc<ChangeLog>,
    flusher: Arc<Flusher>,
    pending: Mutex<BTreeMap<ShardId, Pending>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    oldest: TsMs,
    /// How many erasures there were: a round does not speak for those that came after it began.
    erasures: u64,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Shards that were rewritten.
    pub shards: usize,
    /// Whether all of them were; else the process is about to end, or compaction failed, and the rest waits.
    pub whole: bool,
}

impl AtRest {
    /// Finds the erasures that an earlier run left behind.
    pub(in crate::store) fn load(
        db: &Arc<Db>,
        changes: &Arc<ChangeLog>,
        flusher: &Arc<Flusher>,
        shards: ShardSet,
    ) -> Result<Self, StoreError> {
        let meta = Meta::new(db.clone());
        let mut pending = BTreeMap::new();
        for shard in shards.iter() {
            if let Some(oldest) = meta.get(shard, ShardField::ErasedSince)? {
                pending.insert(shard, Pending { oldest: TsMs(oldest), erasures: 1 });
            }
        }
        let (changes, flusher) = (changes.clone(), flusher.clone());
        Ok(Self { db: db.clone(), meta, changes, flusher, pending: Mutex::new(pending) })
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<ShardId, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many shards have erasures that are not at rest, and since when.
    pub fn waiting(&self) -> Option<(usize, TsMs)> {
        let pending = self.pending();
        let oldest = pending.values().map(|pending| pending.oldest).min()?;
        Some((pending.len(), oldest))
    }

    /// Writes the commit of an erasure in a shard, and its line of the audit if it is the last one of the erasure; it is at
    /// rest only after a round.
    pub fn write_erasure(
        &self,
        mut commit: Commit<'_>,
        shard: ShardId,
        now: TsMs,
        line: Option<&AuditEntry>,
    ) -> Result<Vec<(ShardId, u64)>, StoreError> {
        // Held over the write: a round that ends meanwhile must not take this shard for one that it has done.
        let mut pending = self.pending();
        let before = pending.get(&shard).copied();
        let oldest = before.map_or(now, |before| before.oldest.min(now));
        self.meta.put(&mut commit.batch, shard, ShardField::ErasedSince, oldest.0);
        let audit = &commit.parts.tables.audit;
        let line = line.map(|line| audit.add(&mut commit.batch, now, std::slice::from_ref(line))).transpose()?;
        let changes = commit.write()?;
        if let Some(line) = line {
            line.written();
        }
        pending.insert(shard, Pending { oldest, erasures: before.map_or(0, |before| before.erasures) + 1 });
        Ok(changes)
    }

    /// Takes what was erased so far out of every file. Asks `goes_on` between its steps. Blocks on disk, for long.
    pub fn run(&self, goes_on: impl Fn() -> bool) -> Result<Round, StoreError> {
        let begun = self.pending().clone();
        let shards: Vec<ShardId> = begun.keys().copied().collect();
        let unfinished = Round { shards: 0, whole: false };
        if shards.is_empty() || self.db.dir().is_none() {
            return Ok(Round { whole: true, ..unfinished });
        }
        self.flusher.flush_beside_writers()?;
        // Durable, and so known to whoever asks for the changes after them.
        self.db.sync()?;
        self.changes.drop_up_to(shards.iter().map(|shard| (*shard, self.changes.last_seq(*shard))))?;
        if !goes_on() {
            return Ok(unfinished);
        }
        let failures = self.db.background_errors();
        self.flush_tables()?;
        // Other compactions go on meanwhile.
        self.db.compact(Table::Journal, None, false);
        // In no shard either.
        self.db.compact(Table::Over, None, false);
        let mut done = 0;
        for run in runs(&shards) {
            let range = ShardPrefix(run.start).rows().start..ShardPrefix(run.end).rows().end;
            for table in NAMING {
                if !goes_on() {
                    return Ok(Round { shards: done, whole: false });
                }
                self.db.compact(table, Some(&range), false);
            }
            done += run.end.index() - run.start.index() + 1;
        }
        // Who compacts is told of no failure.
        if self.db.background_errors() > failures || !goes_on() {
            return Ok(unfinished);
        }
        let mut pending = self.pending();
        let mut batch = rocksdb::WriteBatch::default();
        let same = |shard: &ShardId| pending.get(shard) == begun.get(shard);
        let rested: Vec<ShardId> = shards.into_iter().filter(same).collect();
        for shard in &rested {
            self.meta.delete(&mut batch, *shard, ShardField::ErasedSince);
            pending.remove(shard);
        }
        self.db.write(batch, "noting that erasures are at rest")?;
        drop(pending);
        self.renew_manifest()?;
        Ok(Round { shards: rested.len(), whole: true })
    }

    /// Writes every table's write buffer to a file: whatever the write-ahead log holds by then goes with its files.
    fn flush_tables(&self) -> Result<(), StoreError> {
        for table in Table::ALL {
            self.db.flush(table)?;
        }
        self.db.rocks.flush().map_err(StoreError::rocks("flushing a table"))
    }

    /// Has the manifest written anew: the bounds of files that are gone are in it until then.
    fn renew_manifest(&self) -> Result<(), StoreError> {
        // Two writes of it: the first may still fit into the file that is there.
        for _ in 0..2 {
            // A write buffer that has something is flushed, and a flush is a write of the manifest.
            let mut batch = rocksdb::WriteBatch::default();
            batch.put_cf(self.db.cf(Table::Meta), MANIFEST_ROW, b"");
            self.db.write(batch, "renewing the manifest")?;
            self.db.flush(Table::Meta)?;
        }
        Ok(())
    }
}

/// No shard's: it is one byte longer than any of theirs.
const MANIFEST_ROW: [u8; 3] = *b"\0mf";

/// Shards that follow each other, the last included.
fn runs(shards: &[ShardId]) -> Vec<Range<ShardId>> {
    let mut runs: Vec<Range<ShardId>> = Vec::new();
    for &shard in shards {
        match runs.last_mut() {
            Some(run) if run.end.index() + 1 == shard.index() => run.end = shard,
            _ => runs.push(shard..shard),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_rewritten_together() {
        let shards = [0, 1, 2, 5, 254, 255].map(ShardId);
        let runs: Vec<(u8, u8)> = runs(&shards).into_iter().map(|run| (run.start.0, run.end.0)).collect();
        assert_eq!(runs, [(0, 2), (5, 5), (254, 255)]);
    }
}
