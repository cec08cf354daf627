//! Up to which write everything is in the bucket, for whoever answers only then.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Up to which RocksDB sequence a restore from the bucket has every write. Only with `--durability bucket`.
#[derive(Debug)]
pub struct Shipped {
    state: Mutex<State>,
    changed: Condvar,
    wanted: Notify,
    /// How long a write is waited for.
    wait: Duration,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    /// Nothing more is shipped.
    is_closed: bool,
}

impl Shipped {
    /// Nothing is in the bucket yet; a write is waited for as long as `wait`.
    pub fn new(wait: Duration) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), wanted: Notify::new(), wait }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to this sequence is in the bucket.
    pub fn advance(&self, sequence: u64) {
        let mut state = self.state();
        if sequence > state.sequence {
            state.sequence = sequence;
            self.changed.notify_all();
        }
    }

    /// Nothing more is shipped: nobody need wait any longer.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Somebody waits: what is written is to be shipped now.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Until somebody waits, or has since this was last called.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether everything up to this sequence is in the bucket.
    pub fn reaches(&self, sequence: u64) -> bool {
        self.state().sequence >= sequence
    }

    /// When who begins to wait now has waited long enough.
    pub fn deadline(&self, since: Instant) -> Instant {
        since + self.wait
    }

    /// Waits until everything up to this sequence is in the bucket; false if it is not by `deadline`, or nothing more is shipped.
    pub fn wait(&self, sequence: u64, deadline: Instant) -> bool {
        let mut state = self.state();
        while state.sequence < sequence && !state.is_closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.sequence >= sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_is_woken_by_what_reaches_it_and_by_the_end_alone() {
        let shipped = Arc::new(Shipped::new(LONG));
        let waits = |sequence, shipped: &Arc<Shipped>| {
            let shipped = shipped.clone();
            std::thread::spawn(move || shipped.wait(sequence, shipped.deadline(Instant::now())))
        };
        let (five, nine) = (waits(5, &shipped), waits(9, &shipped));
        shipped.advance(4);
        shipped.advance(7);
        // What is older changes nothing.
        shipped.advance(3);
        assert!(five.join().unwrap());
        assert!(shipped.reaches(7) && !shipped.reaches(8));
        shipped.close();
        assert!(!nine.join().unwrap());
        // What is there is there.
        assert!(shipped.wait(7, Instant::now()) && !shipped.wait(8, shipped.deadline(Instant::now())));
    }

    #[test]
    fn nobody_waits_beyond_the_deadline() {
        let shipped = Shipped::new(Duration::ZERO);
        assert!(!shipped.wait(1, shipped.deadline(Instant::now())));
    }
}
