//! A unit: the store of some shards and what serves it. A process has one with all shards, or several beside each other.

use super::options::Options;
use super::reader::Reader;
use super::resources::Resources;
use super::router::Router;
use super::rulebook::{Rulebook, RulebookError, Source};
use super::service::Shards;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::Rule;
use crate::store::{OpenError, Store, StoreError, StoreOptions};
use std::sync::Arc;

/// What a unit is made of.
pub struct UnitOptions {
    /// With the shards that the unit has, and its name where there are several.
    pub store: StoreOptions,
    /// How its shards are served.
    pub shards: Options,
    /// The settings that verdicts follow.
    pub policy: Policy,
    /// The rules of the flags and the file.
    pub rules: Vec<(Rule, Source)>,
}

/// Why a unit did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The rules cannot be read or brought into force.
    #[error(transparent)]
    Rules(#[from] RulebookError),
    /// The store did not close.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// A running unit.
pub struct Unit {
    store: Arc<Store>,
    shards: Shards,
}

/// What others do with a unit. Cheap to clone. The unit ends once every handle is gone, or [`Unit::stop`] waits for it.
#[derive(Clone)]
pub struct UnitHandle {
    /// Takes events and calls.
    pub router: Router,
    /// Answers reads.
    pub reader: Reader,
    /// The rules.
    pub rulebook: Rulebook,
    /// Its store.
    pub store: Arc<Store>,
}

impl Unit {
    /// Opens the store and starts what serves it. What was started is undone where a later step fails. Blocks on disk.
    pub fn start(options: &UnitOptions, resources: &Resources, clock: Clock) -> Result<Self, UnitError> {
        let store = Arc::new(Store::open_with(&options.store, &resources.store)?);
        let (policy, rules) = (&options.policy, options.rules.clone());
        let shards = Shards::start_with(store.clone(), policy, rules, clock, &options.shards, &resources.bounds)?;
        Ok(Self { store, shards })
    }

    /// What others need of it.
    pub fn handle(&self) -> UnitHandle {
        UnitHandle {
            router: self.shards.router().clone(),
            reader: self.shards.reader().clone(),
            rulebook: self.shards.rulebook().clone(),
            store: self.store.clone(),
        }
    }

    /// Its writers, reader and rules.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Its store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Counts what was sent, makes it durable and closes the store. Every [`UnitHandle`] must be gone or go by itself: the
    /// writers end when the last one does, and then the directory is given up, too. Blocks.
    pub fn stop(self) -> Result<(), UnitError> {
        let Self { store, shards } = self;
        drop(store);
        Ok(shards.stop()?)
    }
}
