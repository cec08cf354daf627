//! What refuses events, shared by the threads that find it and those that must know.

use super::refusal::Refusal;
use super::sync_watch::SyncWatch;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether events can be taken.
#[derive(Clone)]
pub struct Health {
    store: Arc<Store>,
    disk_full: Arc<AtomicBool>,
    superseded: Arc<AtomicBool>,
    bucket_late: Arc<AtomicBool>,
    sync: Arc<SyncWatch>,
}

/// A sync that takes this long will not return.
const SYNC_HANGS_AFTER: Duration = Duration::from_secs(5);

impl Health {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            disk_full: Arc::default(),
            superseded: Arc::default(),
            bucket_late: Arc::default(),
            sync: Arc::default(),
        }
    }

    /// Whether only a restart helps.
    pub fn is_poisoned(&self) -> bool {
        self.store.is_poisoned()
    }

    /// The thread that ended by a panic, if one did.
    pub fn panicked(&self) -> Option<&str> {
        self.store.alarm().raised()
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
        self.sync.waits().filter(|waits| *waits > SYNC_HANGS_AFTER)
    }

    pub(super) fn sync_watch(&self) -> &SyncWatch {
        &self.sync
    }

    /// Failed reads since the start. Their users are refused, others are served.
    pub fn unreadable_rows(&self) -> u64 {
        self.store.unreadable_rows()
    }

    pub(super) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Release);
    }

    /// Whether the bucket does not have in time what is to be acknowledged.
    pub(super) fn set_bucket_late(&self, late: bool) {
        self.bucket_late.store(late, Ordering::Release);
    }

    /// From now on nothing is taken that would write: another process has taken over the store.
    pub fn set_superseded(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    /// Whether another process has taken over the store.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// What refuses events now, if anything does.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.store.is_poisoned() {
            Some(Refusal::Poisoned)
        } else if self.is_superseded() {
            Some(Refusal::Superseded)
        } else if self.disk_full.load(Ordering::Acquire) {
            Some(Refusal::DiskFull)
        } else if self.bucket_late.load(Ordering::Acquire) {
            Some(Refusal::BucketLate)
        } else {
            None
        }
    }
}
