//! The settings and options of the stream.

use crate::settings::{Count, settings};
use std::time::Duration;

settings! {
    /// The settings of the stream.
    pub struct Settings, SettingFlags {
        "Stream of caps" {
            stream_keep: Duration = "1h", "DURATION",
                "How long a reader of GET /caps/stream may be away and still resume; after that it gets all caps anew";
            stream_keep_changes: Count<1, 1_000_000_000> = "1000000", "N",
                "How many changes of caps are kept for such readers at most";
            max_streams: Count<1, 4096> = "64", "N", "Streams open at once; more are answered 503";
        }
    }
}

impl Settings {
    /// The options of the stream.
    pub fn options(&self) -> Options {
        Options {
            keep: self.stream_keep,
            keep_changes: self.stream_keep_changes.get() as u64,
            streams_max: self.max_streams.get(),
        }
    }
}

/// How caps are streamed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long changes are kept for readers that are away.
    pub keep: Duration,
    /// How many are kept for them.
    pub keep_changes: u64,
    /// Streams open at once.
    pub streams_max: usize,
}
