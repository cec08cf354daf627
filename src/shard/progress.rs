//! How far the caps of each shard follow the rules.

use crate::model::{SHARDS, ShardId};
use std::sync::atomic::{AtomicU64, Ordering};

/// The revision of the rules by which every cap of a shard was last judged.
pub(super) struct Progress {
    shards: [AtomicU64; SHARDS],
}

impl Default for Progress {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Progress {
    pub(super) fn judged(&self, shard: ShardId, revision: u64) {
        self.shards[shard.index()].store(revision, Ordering::Relaxed);
    }

    /// How many shards were judged by this revision or a later one.
    pub(super) fn since(&self, revision: u64) -> usize {
        self.shards.iter().filter(|shard| shard.load(Ordering::Relaxed) >= revision).count()
    }
}
