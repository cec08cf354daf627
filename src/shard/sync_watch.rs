//! Watches whether the disk answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures how long written turns wait for their sync.
#[derive(Debug)]
pub(super) struct SyncWatch {
    start: Instant,
    /// When the sync under way began, in ms since `start`, plus one; 0 if there is none.
    began: AtomicU64,
}

impl Default for SyncWatch {
    fn default() -> Self {
        Self { start: Instant::now(), began: AtomicU64::new(0) }
    }
}

impl SyncWatch {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn begin(&self) {
        self.began.store(self.now() + 1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// How long the sync under way has lasted.
    pub(super) fn waits(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(began)))
    }
}
