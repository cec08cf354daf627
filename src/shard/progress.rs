//! How far the caps of each shard, and the mirror, are by the current rules.

use crate::model::{SHARDS, ShardId};
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// By shard, the revision of the rules by which every cap was last judged, and the last change of a cap at that time.
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

    /// How many shards were judged by this revision or a later one, with all resulting changes in Redis, if there is
    /// one.
    pub(super) fn since(&self, revision: u64, stores: &[Arc<Store>]) -> usize {
        let mut done = 0;
        for store in stores {
            for shard in store.shards().iter() {
                let (judged, seq) = &self.shards[shard.index()];
                if judged.load(Ordering::Acquire) >= revision && store.is_mirrored(shard, seq.load(Ordering::Relaxed)) {
                    done += 1;
                }
            }
        }
        done
    }
}
