//! Makes, runs and ends all units of a process: one with all shards, or several that share memory, rules and clock.

use super::options::Options;
use super::resources::Resources;
use super::rulebook::Rulebook;
use super::service::{Ended, Serving};
use super::unit::{Unit, UnitError, UnitHandle, UnitOptions};
use super::units::Units;
use super::watch::{Watch, resume_clock};
use crate::clock::Clock;
use crate::store::{StorageKind, Store, StoreError, UnitDirs};
use std::sync::Arc;

/// How many stores are opened or closed at once: each waits for the disk.
const AT_ONCE: usize = 8;

/// The running units of a process.
pub struct UnitHost {
    running: Running,
    units: Units,
}

enum Running {
    One(Box<Unit>),
    Several(Several),
}

/// Several units, and what is of all of them.
struct Several {
    serving: Vec<Serving>,
    watch: Watch,
    /// Given up last; `None` in memory.
    _dirs: Option<UnitDirs>,
}

impl UnitHost {
    /// Opens the stores of so many units (a power of two, up to 256) and starts what serves them. `options` are those of the
    /// process: with one unit they are the unit's, and several share what they have. What was started is undone where a later
    /// step fails. Blocks on disk.
    pub fn start(options: &UnitOptions, units: usize, clock: Clock) -> Result<Self, UnitError> {
        let resources = Resources::new(&options.store, &options.shards);
        let (running, handles) = if units == 1 {
            let unit = Unit::start(options, &resources, clock)?;
            let handle = unit.handle();
            (Running::One(Box::new(unit)), vec![handle])
        } else {
            let several = Several::start(options, units, &resources, clock)?;
            let handles = several.serving.iter().map(handle).collect();
            (Running::Several(several), handles)
        };
        match Units::new(handles) {
            Some(units) => Ok(Self { running, units }),
            // There is one at least.
            None => Err(StoreError::Poisoned.into()),
        }
    }

    /// What others need of them.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// Counts what was sent, makes it durable and closes the stores. Every other [`Units`] must be gone or go by itself. Blocks.
    pub fn stop(self) -> Result<(), UnitError> {
        let Self { running, units } = self;
        drop(units);
        match running {
            Running::One(unit) => unit.stop(),
            Running::Several(several) => several.stop(),
        }
    }
}

fn handle(serving: &Serving) -> UnitHandle {
    let Serving { router, reader, rulebook, store, .. } = serving;
    UnitHandle { router: router.clone(), reader: reader.clone(), rulebook: rulebook.clone(), store: store.clone() }
}

impl Several {
    fn start(options: &UnitOptions, units: usize, resources: &Resources, clock: Clock) -> Result<Self, UnitError> {
        let (store, data_dir) = (&options.store, &options.store.data_dir);
        let in_memory = store.storage == StorageKind::Memory;
        let mut dirs = if in_memory { None } else { Some(UnitDirs::take(data_dir, units)?) };
        let opened =
            at_once((0..units).collect(), |unit| Store::open_with(&store.of_unit(unit, units), &resources.store));
        let mut stores = Vec::with_capacity(units);
        for opened in opened {
            stores.push(Arc::new(opened?));
        }
        if let Some(dirs) = &mut dirs {
            dirs.all_are_made()?;
        }
        let dir = (!in_memory).then(|| data_dir.clone());
        let clock_watch = resume_clock(&stores, (None, dir), &clock, &options.policy, &options.shards)?;
        let rulebook = Rulebook::open(stores.clone(), &options.policy, options.rules.clone(), clock.clone())?;
        let (of_unit, bounds) = (of_unit(&options.shards, units), &resources.bounds);
        let mut serving: Vec<Serving> = Vec::with_capacity(units);
        for store in &stores {
            match Serving::start(store.clone(), &rulebook, clock.clone(), &of_unit, bounds) {
                Ok(started) => serving.push(started),
                Err(error) => {
                    // The cause is told; what these say is less.
                    let _ = close(end_writers(serving));
                    return Err(error.into());
                }
            }
        }
        let healths = serving.iter().map(|unit| unit.router.health().clone()).collect();
        let watch = Watch::start(clock_watch, healths, rulebook, &options.shards);
        Ok(Self { serving, watch, _dirs: dirs })
    }

    fn stop(self) -> Result<(), UnitError> {
        let Self { serving, watch, _dirs } = self;
        let ended = end_writers(serving);
        watch.end();
        Ok(close(ended)?)
    }
}

fn end_writers(serving: Vec<Serving>) -> Vec<Ended> {
    at_once(serving, Serving::end_writers)
}

/// The first error, once all are closed.
fn close(ended: Vec<Ended>) -> Result<(), StoreError> {
    at_once(ended, Ended::close).into_iter().fold(Ok(()), Result::and)
}

/// The options of one of several units, which have the writers of the process between them, each one at least.
fn of_unit(options: &Options, units: usize) -> Options {
    Options { writers: options.writers.div_ceil(units), ..options.clone() }
}

/// Does something with each, some at a time. The results in the same order.
fn at_once<T: Send, R: Send>(mut items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let of_thread = items.len().div_ceil(AT_ONCE).max(1);
    let mut parts = Vec::with_capacity(AT_ONCE);
    while !items.is_empty() {
        let rest = items.split_off(of_thread.min(items.len()));
        parts.push(std::mem::replace(&mut items, rest));
    }
    let mut done = Vec::new();
    std::thread::scope(|scope| {
        let spawn = |part: Vec<T>| {
            let work = &work;
            scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>())
        };
        for thread in parts.into_iter().map(spawn).collect::<Vec<_>>() {
            match thread.join() {
                Ok(results) => done.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done
}
