//! The units of a process as one: what asks for a user goes to the unit that has it, a batch to each for its part.

use super::health::Health;
use super::reader::Reader;
use super::router::Router;
use super::rulebook::Rulebook;
use super::unit::UnitHandle;
use crate::clock::Clock;
use crate::model::ShardId;
use crate::store::Store;
use std::sync::Arc;

/// All units of a process: number p of N has the shards that leave p when divided by N. Cheap to clone.
#[derive(Clone)]
pub struct Units {
    router: Router,
    /// One at least.
    units: Arc<[UnitHandle]>,
}

impl Units {
    /// These, in the order of their numbers; they share rules and clock. `None` of none.
    pub fn new(units: Vec<UnitHandle>) -> Option<Self> {
        let router = match &units[..] {
            [one] => one.router.clone(),
            several => Router::joined(several.iter().map(|unit| &unit.router))?,
        };
        Some(Self { router, units: units.into() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.units.len()
    }

    /// Takes the events and calls of all.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Answers reads of a user.
    pub fn reader(&self, user: &str) -> &Reader {
        let unit = match self.units.len() {
            1 => 0,
            units => ShardId::of_user(user.as_bytes()).index() % units,
        };
        &self.units[unit].reader
    }

    /// The rules, which are the same everywhere.
    pub fn rulebook(&self) -> &Rulebook {
        &self.first().rulebook
    }

    /// The clock that all go by.
    pub fn clock(&self) -> &Clock {
        self.router.clock()
    }

    /// Whether events can be taken.
    pub fn health(&self) -> &Health {
        self.router.health()
    }

    /// The one that keeps what is of the whole process: rules, keys, its id.
    pub fn first(&self) -> &UnitHandle {
        &self.units[0]
    }

    /// All, in the order of their numbers.
    pub fn all(&self) -> &[UnitHandle] {
        &self.units
    }

    /// Their stores, in the same order.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.units.iter().map(|unit| &unit.store)
    }
}
