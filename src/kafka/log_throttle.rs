//! Throttles a log line.

use std::time::{Duration, Instant};

/// Lets one line through every few seconds, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    quiet_until: Option<Instant>,
    held: u64,
}

const QUIET: Duration = Duration::from_secs(5);

impl LogThrottle {
    /// Whether to log now; if so, how many lines were left out since the last one.
    pub(super) fn say(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.held += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.held))
    }
}
