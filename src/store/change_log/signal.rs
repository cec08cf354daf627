//! One wake-up for everybody who waits: tasks and threads alike.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Counts how often it was raised. Whoever remembers the count that it saw misses nothing that comes after.
#[derive(Debug, Default)]
pub(in crate::store) struct Signal {
    raised: Mutex<u64>,
    threads: Condvar,
    tasks: Notify,
}

impl Signal {
    fn raised(&self) -> MutexGuard<'_, u64> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn raise(&self) {
        *self.raised() += 1;
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }

    pub(in crate::store) fn count(&self) -> u64 {
        *self.raised()
    }

    /// Waits until it was raised since `seen`, which it brings up to date.
    pub(in crate::store) async fn changed(&self, seen: &mut u64) {
        loop {
            let mut notified = std::pin::pin!(self.tasks.notified());
            // Before the look at the count: what is raised between the look and the wait must wake it.
            notified.as_mut().enable();
            let count = self.count();
            if count != *seen {
                *seen = count;
                return;
            }
            notified.await;
        }
    }

    /// The same for a thread, no longer than `timeout`.
    pub(in crate::store) fn wait(&self, seen: &mut u64, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut raised = self.raised();
        while *raised == *seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            raised = self.threads.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *seen = *raised;
    }
}
