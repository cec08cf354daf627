//! What refuses events, shared by the threads that find it and those that must know.

use super::refusal::Refusal;
use super::sync_watch::SyncWatch;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether events can be taken: by a unit, or by several together. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<[UnitHealth]>);

/// Whether events can be taken by one unit.
#[derive(Clone)]
struct UnitHealth {
    store: Arc<Store>,
    disk_full: Arc<AtomicBool>,
    superseded: Arc<AtomicBool>,
    sync: Arc<SyncWatch>,
}

/// A sync that takes this long will not return.
const SYNC_HANGS_AFTER: Duration = Duration::from_secs(5);

impl Health {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let unit = UnitHealth { store, disk_full: Arc::default(), superseded: Arc::default(), sync: Arc::default() };
        Self(Arc::new([unit]))
    }

    /// That of several units together, in their order.
    pub(super) fn joined<'h>(units: impl IntoIterator<Item = &'h Health>) -> Self {
        Self(units.into_iter().flat_map(|health| health.0.iter().cloned()).collect())
    }

    /// Whether only a restart helps.
    pub fn is_poisoned(&self) -> bool {
        self.0.iter().any(|unit| unit.store.is_poisoned())
    }

    /// The thread that ended by a panic, if one did.
    pub fn panicked(&self) -> Option<&str> {
        self.0.iter().find_map(|unit| unit.store.alarm().raised())
    }

    /// Why only a restart helps, if so: a write failed, a thread ended by a panic, or the disk hangs.
    pub fn needs_restart(&self) -> Option<String> {
        if let Some(thread) = self.panicked() {
            Some(format!("the thread {thread} ended by a panic"))
        } else if self.is_poisoned() {
            Some("a write to the store failed".to_owned())
        } else {
            self.hanging_sync().map(|waits| format!("the disk has not answered a sync for {} s", waits.as_secs()))
        }
    }

    /// How long a turn has waited for its sync, if that is too long: the disk hangs.
    pub fn hanging_sync(&self) -> Option<Duration> {
        self.0.iter().filter_map(|unit| unit.sync.waits()).max().filter(|waits| *waits > SYNC_HANGS_AFTER)
    }

    /// That of the first unit.
    pub(super) fn sync_watch(&self) -> Arc<SyncWatch> {
        self.0[0].sync.clone()
    }

    /// Failed reads since the start. Their users are refused, others are served.
    pub fn unreadable_rows(&self) -> u64 {
        self.0.iter().map(|unit| unit.store.unreadable_rows()).sum()
    }

    pub(super) fn set_disk_full(&self, full: bool) {
        self.0.iter().for_each(|unit| unit.disk_full.store(full, Ordering::Release));
    }

    /// From now on nothing is taken that would write: another process has taken over the store.
    pub fn set_superseded(&self) {
        self.0.iter().for_each(|unit| unit.superseded.store(true, Ordering::Release));
    }

    /// Whether another process has taken over the store.
    pub fn is_superseded(&self) -> bool {
        self.0.iter().any(|unit| unit.superseded.load(Ordering::Acquire))
    }

    /// What refuses events of some users now, if anything does.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.iter().find_map(UnitHealth::refusal)
    }

    /// What refuses the events of the unit with this number.
    pub(super) fn refusal_of(&self, unit: usize) -> Option<Refusal> {
        self.0[unit].refusal()
    }

    /// What refuses the events of all users now: every unit refuses them.
    pub(super) fn refusal_of_all(&self) -> Option<Refusal> {
        let mut first = None;
        for unit in self.0.iter() {
            first = first.or(Some(unit.refusal()?));
        }
        first
    }
}

impl UnitHealth {
    fn refusal(&self) -> Option<Refusal> {
        if self.store.is_poisoned() {
            Some(Refusal::Poisoned)
        } else if self.superseded.load(Ordering::Acquire) {
            Some(Refusal::Superseded)
        } else if self.disk_full.load(Ordering::Acquire) {
            Some(Refusal::DiskFull)
        } else {
            None
        }
    }
}
