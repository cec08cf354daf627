//! How far the caps of each shard, and the mirror, follow the rules.

use crate::model::{SHARDS, ShardId};
use crate::store::Store;
use std::sync::atomic::{AtomicU64, Ordering};

/// The revision of the rules by which every cap of a shard was last judged, and the last change of caps by then.
pub(super) struct Progress {
    shards: [(AtomicU64, AtomicU64); SHARDS],
}

impl Default for Progress {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0))) }
    }
}

impl Progress {
    pub(super) fn judged(&self, shard: ShardId, revision: u64, seq: u64) {
        let (judged, told) = &self.shards[shard.index()];
        told.store(seq, Ordering::Relaxed);
        judged.store(revision, Ordering::Release);
    }

    /// How many shards were judged by this revision or a later one, and Redis, where there is one, told of what came of
    /// it.
    pub(super) fn since(&self, revision: u64, store: &Store) -> usize {
        let is_done = |shard: &ShardId| {
            let (judged, seq) = &self.shards[shard.index()];
            judged.load(Ordering::Acquire) >= revision && store.is_mirrored(*shard, seq.load(Ordering::Relaxed))
        };
        store.shards().iter().filter(is_done).count()
    }
}
