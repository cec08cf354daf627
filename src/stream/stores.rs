//! The stores of all units as one: each shard is in one of them.

use super::position::Position;
use crate::model::{ShardId, ShardSet};
use crate::store::{ChangeLog, Store};
use std::sync::Arc;

/// In the order of their numbers: that of number p of N has the shards that leave p when divided by N.
pub(super) struct Stores(Vec<Arc<Store>>);

impl Stores {
    /// Of one at least.
    pub fn new(stores: Vec<Arc<Store>>) -> Self {
        Self(stores)
    }

    pub fn all(&self) -> &[Arc<Store>] {
        &self.0
    }

    /// The number of the store that has a shard.
    pub fn number_of(&self, shard: ShardId) -> usize {
        shard.index() % self.0.len()
    }

    pub fn of(&self, shard: ShardId) -> &Store {
        &self.0[self.number_of(shard)]
    }

    pub fn log(&self, shard: ShardId) -> &ChangeLog {
        self.of(shard).changes()
    }

    /// The shards that any of them has.
    pub fn shards(&self) -> ShardSet {
        self.0.iter().flat_map(|store| store.shards().iter()).collect()
    }

    /// The position that everything durable is before.
    pub fn durable(&self) -> Position {
        Position::of(|shard| self.log(shard).durable_seq(shard))
    }
}
