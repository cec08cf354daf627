//! Keeps the bytes of every write on its way to RocksDB, for whoever ships them.
//!
//! RocksDB's own log would have them too, but only up to its next flush: keeping its files longer would keep erased users on
//! disk, and each look into a file begins at its start. While writes are kept, they go to RocksDB one at a time, so that each
//! is known to have the sequences right before RocksDB's last.

use super::error::StoreError;
use rocksdb::{DB, WriteBatch};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailBatch {
    /// Its first sequence.
    pub first: u64,
    /// So many sequences it has.
    pub count: u32,
    /// As RocksDB encodes it.
    pub bytes: Vec<u8>,
}

impl TailBatch {
    /// Its last sequence.
    pub fn last(&self) -> u64 {
        (self.first + u64::from(self.count)).saturating_sub(1)
    }
}

/// The writes that wait to be shipped.
#[derive(Default)]
pub(super) struct Tap {
    /// Whether writes are kept. Held for a write, so that none is under way when it changes.
    is_on: RwLock<bool>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    batches: VecDeque<TailBatch>,
    bytes: usize,
    bytes_max: usize,
    /// More came than there was room for: what was kept is gone.
    has_gap: bool,
}

/// Writes were not kept for lack of room: only a new checkpoint helps, with the tail begun anew before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more was written than there was room to keep until it was shipped")]
pub struct TailGap;

impl Kept {
    fn push(&mut self, batch: TailBatch) {
        if self.has_gap {
            return;
        }
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
        if self.bytes > self.bytes_max {
            self.forget();
            self.has_gap = true;
        }
    }

    fn forget(&mut self) {
        (self.batches, self.bytes) = (VecDeque::new(), 0);
    }
}

impl Tap {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch by `write`, and keeps it if writes are kept.
    pub(super) fn write(
        &self,
        rocks: &DB,
        batch: WriteBatch,
        write: impl FnOnce(WriteBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let is_on = self.is_on.read().unwrap_or_else(PoisonError::into_inner);
        if !*is_on {
            return write(batch);
        }
        // Before the lock: others write meanwhile.
        let bytes = batch.data().to_vec();
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let mut kept = self.kept();
        write(batch)?;
        let first = (rocks.latest_sequence_number() + 1).saturating_sub(u64::from(count));
        kept.push(TailBatch { first, count, bytes });
        Ok(())
    }

    /// Keeps writes from now on, up to so many bytes. What was kept before is forgotten.
    pub(super) fn begin(&self, bytes_max: usize) {
        let mut is_on = self.is_on.write().unwrap_or_else(PoisonError::into_inner);
        *is_on = true;
        *self.kept() = Kept { bytes_max, ..Kept::default() };
    }

    /// Takes the writes that are kept, the oldest first: one at least if there is any, then as many as have so many bytes.
    pub(super) fn take(&self, bytes_max: usize) -> Result<Vec<TailBatch>, TailGap> {
        let mut kept = self.kept();
        if kept.has_gap {
            return Err(TailGap);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(batch) = kept.batches.pop_front()
        {
            bytes += batch.bytes.len();
            taken.push(batch);
        }
        kept.bytes -= bytes;
        Ok(taken)
    }

    /// Does what takes a sequence without a write, such as a file that RocksDB takes in: no write is under way meanwhile.
    pub(super) fn beside_writes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _kept = self.kept();
        work()
    }
}
