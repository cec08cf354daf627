//! Logs what holds the mirror up: when it begins, then once a minute while it lasts.

use super::error::MirrorError;
use std::time::Duration;
use tokio::time::Instant;

const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// The kind of error that was logged last, and when.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    last: Option<(&'static str, Instant)>,
}

impl ErrorLog {
    /// Logs an error; at level debug if one of its kind was logged within the last minute.
    pub fn write(&mut self, error: &MirrorError) {
        let kind = error.kind();
        if let Some((logged, at)) = self.last
            && logged == kind
            && at.elapsed() < REPEAT_INTERVAL
        {
            tracing::debug!(kind, "the Redis mirror is still held up: {error}");
            return;
        }
        self.last = Some((kind, Instant::now()));
        match error {
            MirrorError::Copied { .. } => tracing::error!(kind, "the Redis mirror is off: {error}"),
            _ => tracing::warn!(kind, "the Redis mirror is held up: {error}"),
        }
    }

    /// Forgets the last error: the next one is logged as new.
    pub fn forget(&mut self) {
        self.last = None;
    }
}
