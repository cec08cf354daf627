//! A log line that is not to fill the log.

use std::time::{Duration, Instant};

/// Lets one line through every few seconds, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    quiet_until: Option<Instant>,
    held: u64,
}

const QUIET: Duration = Duration::from_secs(5);

impl LogThrottle {
    /// Whether to say it now, and if so how many were not said since.
    pub(super) fn say(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.held += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.held))
    }
}
