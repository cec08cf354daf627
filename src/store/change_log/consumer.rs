//! Who follows the changes, and how far each has come.

use crate::model::{SHARDS, ShardId};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many changes may wait for a consumer before it is given up on: it is told that it lags, and must begin anew with
/// what is capped by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of all shards.
    pub total: u64,
    /// Of one shard.
    pub of_shard: u64,
}

/// A number a shard, read and written from several threads.
#[derive(Debug)]
pub(in crate::store) struct ShardCounters([AtomicU64; SHARDS]);

impl Default for ShardCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl std::ops::Index<ShardId> for ShardCounters {
    type Output = AtomicU64;

    fn index(&self, shard: ShardId) -> &AtomicU64 {
        &self.0[shard.index()]
    }
}

/// One consumer, by shard.
#[derive(Debug)]
pub(super) struct Consumer {
    pub name: &'static str,
    pub bounds: Bounds,
    /// It has taken in the changes up to here, as far as it counts what waits for it.
    pub position: ShardCounters,
    /// What it keeps in line has every change up to here.
    pub confirmed: ShardCounters,
    /// It wants the changes after this one; those up to here may go.
    pub retained_after: ShardCounters,
    /// The changes up to here were given up on for it alone.
    pub lagged_to: ShardCounters,
}

impl Consumer {
    pub fn new(name: &'static str, bounds: Bounds) -> Self {
        Self {
            name,
            bounds,
            position: ShardCounters::default(),
            confirmed: ShardCounters::default(),
            retained_after: ShardCounters::default(),
            lagged_to: ShardCounters::default(),
        }
    }

    /// Gives up on the changes of a shard up to a sequence: it wants none of them any more.
    pub fn give_up(&self, shard: ShardId, seq: u64) {
        // First it must know that it lags, then they may go.
        self.lagged_to[shard].fetch_max(seq, Ordering::AcqRel);
        self.retained_after[shard].fetch_max(seq, Ordering::Relaxed);
    }
}
