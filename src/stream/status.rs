//! The figures of the stream.

use super::outcome::{End, Reason};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Says what the metrics mean.
pub fn describe() {
    describe_gauge!("freqcap_streams", "Streams of cap changes that are open");
    describe_counter!("freqcap_stream_caps_total", "Caps sent to all streams together");
    describe_counter!("freqcap_stream_resets_total", "Streams that could not resume and got a snapshot, by reason");
    describe_counter!("freqcap_streams_ended_total", "Streams that ended, by reason");
    describe_counter!("freqcap_streams_refused_total", "Streams refused since as many are open as may be");
    describe_histogram!("freqcap_stream_delay_seconds", "Time from a change's turn to its way to the streams");
    describe_gauge!("freqcap_stream_kept_changes", "Changes of caps kept for readers that are away");
}

pub(super) struct Figures {
    pub open: Gauge,
    pub caps: Counter,
    pub refused: Counter,
    pub delay: Histogram,
    pub kept: Gauge,
}

impl Figures {
    pub fn new() -> Self {
        describe();
        Self {
            open: gauge!("freqcap_streams"),
            caps: counter!("freqcap_stream_caps_total"),
            refused: counter!("freqcap_streams_refused_total"),
            delay: histogram!("freqcap_stream_delay_seconds"),
            kept: gauge!("freqcap_stream_kept_changes"),
        }
    }

    pub fn reset(&self, reason: Reason) {
        counter!("freqcap_stream_resets_total", "reason" => reason.as_str()).increment(1);
    }

    pub fn ended(&self, end: End) {
        counter!("freqcap_streams_ended_total", "reason" => end.as_str()).increment(1);
    }
}
