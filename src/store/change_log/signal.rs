//! One wake-up for all who wait, tasks and threads alike.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Counts how often it was raised. A waiter that remembers the count misses nothing that comes after.
#[derive(Debug, Default)]
pub(in crate::store) struct Signal {
    raised: Mutex<u64>,
    threads: Condvar,
    tasks: Notify,
    /// Raised with this one.
    next: OnceLock<Arc<Signal>>,
}

impl Signal {
    fn raised(&self) -> MutexGuard<'_, u64> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn raise(&self) {
        *self.raised() += 1;
        self.threads.notify_all();
        self.tasks.notify_waiters();
        if let Some(next) = self.next.get() {
            next.raise();
        }
    }

    /// Raises another with this one from now on; the first that is given. Nobody passes on to itself, by whatever way.
    pub(in crate::store) fn pass_on_to(&self, next: &Arc<Signal>) {
        let _ = self.next.set(next.clone());
    }

    pub(in crate::store) fn count(&self) -> u64 {
        *self.raised()
    }

    /// Waits until it was raised since `seen`, and updates `seen`.
    pub(in crate::store) async fn changed(&self, seen: &mut u64) {
        loop {
            let mut notified = std::pin::pin!(self.tasks.notified());
            // Before the count is read: what is raised between reading and waiting must wake this task.
            notified.as_mut().enable();
            let count = self.count();
            if count != *seen {
                *seen = count;
                return;
            }
            notified.await;
        }
    }

    /// The same for a thread, for at most `timeout`.
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
