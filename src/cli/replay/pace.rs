//! A bound on events per second.

use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Lets events through at a constant rate, whoever asks.
pub(super) struct Pace {
    per_second: u32,
    /// When the next events may go.
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(per_second: u32) -> Self {
        Self { per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until it is these events' turn.
    pub async fn wait(&self, events: usize) {
        let turn = {
            let mut next = self.next.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs_f64(events as f64 / f64::from(self.per_second));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}
