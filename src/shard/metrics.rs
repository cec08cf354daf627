//! What the shards tell about themselves. Handles are made once: looking one up by name costs more than counting.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

#[derive(Clone)]
pub(super) struct ShardMetrics {
    pub counted: Counter,
    pub duplicate: Counter,
    pub late: Counter,
    pub caps_started: Counter,
    pub caps_ended: Counter,
    pub turn_events: Histogram,
    pub turn_seconds: Histogram,
    pub fsync_seconds: Histogram,
    pub timers_fired: Counter,
    pub timer_lag_seconds: Gauge,
    pub clock_steps: Counter,
    pub free_disk_bytes: Gauge,
}

impl ShardMetrics {
    pub(super) fn new() -> Self {
        metrics::describe_counter!("freqcap_events_total", "Events by result");
        metrics::describe_counter!("freqcap_caps_started_total", "Keys that became capped");
        metrics::describe_counter!("freqcap_caps_ended_total", "Keys whose cap ended");
        metrics::describe_histogram!("freqcap_turn_events", "Events that a writer took in one turn");
        metrics::describe_histogram!("freqcap_turn_seconds", "Time of one turn, from its first read to its write");
        metrics::describe_histogram!("freqcap_fsync_seconds", "Time of one sync of the write-ahead log");
        metrics::describe_counter!("freqcap_timers_fired_total", "Timers that fired");
        metrics::describe_gauge!("freqcap_timer_lag_seconds", "How late the oldest timer of the last turn fired");
        metrics::describe_counter!("freqcap_clock_steps_total", "Steps of the time of day against the monotonic clock");
        metrics::describe_gauge!("freqcap_free_disk_bytes", "Bytes free in the data directory's file system");
        Self {
            counted: counter!("freqcap_events_total", "result" => "counted"),
            duplicate: counter!("freqcap_events_total", "result" => "duplicate"),
            late: counter!("freqcap_events_total", "result" => "late"),
            caps_started: counter!("freqcap_caps_started_total"),
            caps_ended: counter!("freqcap_caps_ended_total"),
            turn_events: histogram!("freqcap_turn_events"),
            turn_seconds: histogram!("freqcap_turn_seconds"),
            fsync_seconds: histogram!("freqcap_fsync_seconds"),
            timers_fired: counter!("freqcap_timers_fired_total"),
            timer_lag_seconds: gauge!("freqcap_timer_lag_seconds"),
            clock_steps: counter!("freqcap_clock_steps_total"),
            free_disk_bytes: gauge!("freqcap_free_disk_bytes"),
        }
    }
}
