//! A position in the change log.

use crate::model::{SHARDS, ShardId};
use std::ops::{Index, IndexMut};

/// By shard, the sequence of a change. Everything up to it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position(Box<[u64; SHARDS]>);

impl Position {
    pub fn of(seq: impl Fn(ShardId) -> u64) -> Self {
        Self(Box::new(std::array::from_fn(|shard| seq(ShardId(shard as u8)))))
    }

    /// Of all shards together: differences of it count changes.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, seq| total.wrapping_add(*seq))
    }
}

impl Default for Position {
    fn default() -> Self {
        Self::of(|_| 0)
    }
}

impl Index<ShardId> for Position {
    type Output = u64;

    fn index(&self, shard: ShardId) -> &u64 {
        &self.0[shard.index()]
    }
}

impl IndexMut<ShardId> for Position {
    fn index_mut(&mut self, shard: ShardId) -> &mut u64 {
        &mut self.0[shard.index()]
    }
}
