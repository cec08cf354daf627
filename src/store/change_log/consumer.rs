//! The consumers of the change log, and their positions.

use super::confirmed::Confirmed;
use crate::model::{SHARDS, ShardId, TsMs};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many changes may wait for a consumer before it is given up on. It then lags, and must start over with the rows
/// of `caps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of all shards.
    pub total: u64,
    /// Of one shard.
    pub of_shard: u64,
}

/// A counter for each shard, shared by threads.
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

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub name: &'static str,
    pub bounds: Bounds,
    /// By shard, the changes up to here do not wait for it any more.
    pub position: ShardCounters,
    /// By shard, its copy has every change up to here.
    pub confirmed: ShardCounters,
    /// By shard, when it had which.
    history: Mutex<HashMap<u8, Confirmed>>,
    /// By shard, it needs the changes after this one.
    pub retained_after: ShardCounters,
    /// By shard, the changes up to here were dropped although it needed them.
    pub lagged_to: ShardCounters,
}

impl Consumer {
    pub fn new(name: &'static str, bounds: Bounds) -> Self {
        Self {
            name,
            bounds,
            position: ShardCounters::default(),
            confirmed: ShardCounters::default(),
            history: Mutex::default(),
            retained_after: ShardCounters::default(),
            lagged_to: ShardCounters::default(),
        }
    }

    /// Its copy has every change of a shard up to here: since `at`, or for how long is not known.
    pub fn confirm(&self, shard: ShardId, seq: u64, at: Option<TsMs>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = history.entry(shard.0).or_default();
        match at {
            Some(at) => confirmed.note(seq, at),
            None => confirmed.begin(seq),
        }
        drop(history);
        self.confirmed[shard].store(seq, Ordering::Relaxed);
    }

    pub fn confirmed_at(&self, shard: ShardId, seq: u64) -> Option<TsMs> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).get(&shard.0)?.at(seq)
    }

    /// Gives up on the changes of a shard up to a sequence.
    pub fn give_up(&self, shard: ShardId, seq: u64) {
        // First the consumer must see that it lags; then the changes may go.
        self.lagged_to[shard].fetch_max(seq, Ordering::AcqRel);
        self.retained_after[shard].fetch_max(seq, Ordering::Relaxed);
    }
}
