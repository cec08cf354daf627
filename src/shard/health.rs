//! What stands in the way of events, shared by who finds out and who must know.

use super::group_commit::SyncWatch;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The code of an event that is refused, for something that is held of its user cannot be read.
pub const ROW_UNREADABLE: &str = "row_unreadable";

/// Why events are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the mailbox of a writer is full")]
    Busy,
    #[error("an earlier write failed: this process must be restarted")]
    Poisoned,
    #[error("less than min_free_disk is left in the data directory's file system")]
    DiskFull,
    #[error("a row could not be read; the log of this process says which")]
    ReadFailed,
    #[error(
        "the time of day does not agree with what is known, so an event without a ts has no time; send it with one, or set \
         the clock right (freqcap clock accept, where it is right)"
    )]
    ClockNotBelieved,
    #[error(
        "something that is held of the user cannot be read; the log of this process says more, and DELETE /users/{{user}} erases it"
    )]
    RowUnreadable,
    #[error("the service is stopping")]
    Stopping,
}

impl Refusal {
    /// Stable: what programs go by.
    pub fn code(self) -> &'static str {
        match self {
            Self::Busy => "overloaded",
            Self::Poisoned => "store_failed",
            Self::DiskFull => "disk_full",
            Self::RowUnreadable => ROW_UNREADABLE,
            Self::ReadFailed => "store_read_failed",
            Self::ClockNotBelieved => "clock_not_believed",
            Self::Stopping => "stopping",
        }
    }
}

/// Whether events can be taken.
#[derive(Clone)]
pub struct Health {
    store: Arc<Store>,
    disk_full: Arc<AtomicBool>,
    sync: Arc<SyncWatch>,
}

/// A disk that has not answered a sync for so long is not going to.
const SYNC_HANGS_AFTER: Duration = Duration::from_secs(5);

impl Health {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, disk_full: Arc::default(), sync: Arc::default() }
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

    /// For how long a turn has waited for its sync, where that is too long: the disk hangs.
    pub fn hanging_sync(&self) -> Option<Duration> {
        self.sync.waits().filter(|waits| *waits > SYNC_HANGS_AFTER)
    }

    pub(super) fn sync_watch(&self) -> Arc<SyncWatch> {
        self.sync.clone()
    }

    /// How often something could not be read since the start. Its users are refused, others are served.
    pub fn unreadable_rows(&self) -> u64 {
        self.store.unreadable_rows()
    }

    pub(super) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Release);
    }

    /// What refuses events now, if anything.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.store.is_poisoned() {
            Some(Refusal::Poisoned)
        } else if self.disk_full.load(Ordering::Acquire) {
            Some(Refusal::DiskFull)
        } else {
            None
        }
    }
}
