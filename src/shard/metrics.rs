//! The metrics of the shards. Handles are registered once: looking one up by name costs more than counting.

use crate::model::{OverCause, RuleId};
use crate::telemetry::unit_labels;
use hashbrown::HashMap;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::cell::RefCell;

const OVER_DELIVERED: &str = "freqcap_over_delivered_total";
const WOULD_CAP: &str = "freqcap_would_cap_total";

/// Maximum handles that a thread keeps: more than there can be rules.
const WOULD_CAP_HANDLES: usize = 16_384;

/// Counts that a shadow rule would have capped. One call may do so a hundred thousand times, so each thread keeps its
/// handles.
pub(super) fn would_cap(rule: &RuleId) {
    thread_local! {
        static HANDLES: RefCell<HashMap<RuleId, Counter>> = RefCell::default();
    }
    HANDLES.with_borrow_mut(|handles| {
        if let Some(counter) = handles.get(rule) {
            return counter.increment(1);
        }
        if handles.len() >= WOULD_CAP_HANDLES {
            handles.clear();
        }
        let counter = counter!(WOULD_CAP, "rule" => rule.as_str().to_owned());
        counter.increment(1);
        handles.insert(rule.clone(), counter);
    });
}

const RESERVATIONS: &str = "freqcap_reservations_total";

/// Counts the results of candidates: `reserved`, `refused` or `released`.
pub(super) fn reservations(became: &'static str, count: usize) {
    counter!(RESERVATIONS, "result" => became).increment(count as u64);
}

#[derive(Clone)]
pub(super) struct ShardMetrics {
    pub counted: Counter,
    pub duplicate: Counter,
    pub late: Counter,
    pub erased: Counter,
    pub rejected: Counter,
    pub ignored: Counter,
    pub duplicate_age: Histogram,
    pub users_erased: Counter,
    pub erasure_steps: Counter,
    pub caps_started: Counter,
    pub caps_ended: Counter,
    pub turn_events: Histogram,
    pub turn_seconds: Histogram,
    pub fsync_seconds: Histogram,
    pub timers_fired: Counter,
    pub timer_lag_seconds: Gauge,
}

impl ShardMetrics {
    pub(super) fn new(unit: Option<&str>) -> Self {
        describe();
        Self {
            counted: counter!("freqcap_events_total", "result" => "counted"),
            duplicate: counter!("freqcap_events_total", "result" => "duplicate"),
            late: counter!("freqcap_events_total", "result" => "late"),
            erased: counter!("freqcap_events_total", "result" => "erased"),
            rejected: counter!("freqcap_events_total", "result" => "rejected"),
            ignored: counter!("freqcap_events_total", "result" => "ignored"),
            duplicate_age: histogram!("freqcap_duplicate_age_seconds"),
            users_erased: counter!("freqcap_users_erased_total"),
            erasure_steps: counter!("freqcap_erasure_steps_total"),
            caps_started: counter!("freqcap_caps_started_total"),
            caps_ended: counter!("freqcap_caps_ended_total"),
            turn_events: histogram!("freqcap_turn_events"),
            turn_seconds: histogram!("freqcap_turn_seconds"),
            fsync_seconds: histogram!("freqcap_fsync_seconds"),
            timers_fired: counter!("freqcap_timers_fired_total"),
            timer_lag_seconds: gauge!("freqcap_timer_lag_seconds", unit_labels(unit, &[])),
        }
    }
}

/// Counts events that are over, by the rule that had capped their key and by why they came nevertheless.
pub(super) fn over_delivered(rule: &RuleId, cause: OverCause, events: u64) {
    counter!(OVER_DELIVERED, "rule" => rule.as_str().to_owned(), "cause" => cause.as_str()).increment(events);
}

/// Describes the metrics of the shards and of the store.
pub fn describe() {
    describe_counter!("freqcap_events_total", "Events by result");
    describe_counter!("freqcap_users_erased_total", "Users erased");
    describe_counter!("freqcap_erasure_steps_total", "Steps of erasures: a user with many rows takes several");
    describe_counter!(WOULD_CAP, "Verdicts in which a shadow rule would have capped, by rule");
    describe_counter!(
        OVER_DELIVERED,
        "Events of keys that a rule had capped when they happened, by that rule and by why they came nevertheless"
    );
    describe_counter!(RESERVATIONS, "Candidates of /reserve by what became of them");
    describe_counter!("freqcap_caps_started_total", "Keys that became capped");
    describe_counter!("freqcap_caps_ended_total", "Keys whose cap ended");
    describe_histogram!(
        "freqcap_duplicate_age_seconds",
        "Time between a duplicate and the event that it repeats: hours and days tell of ids that are not unique"
    );
    describe_counter!("freqcap_unreadable_rows_total", "Rows found that cannot be read, by table");
    describe_histogram!("freqcap_turn_events", "Events that a writer took in one turn");
    describe_histogram!("freqcap_turn_seconds", "Time of one turn, from its first read to its write");
    describe_histogram!("freqcap_fsync_seconds", "Time of one sync of the write-ahead log");
    describe_gauge!("freqcap_overlay_bytes", "Logs that changed and are not in a file yet");
    describe_gauge!("freqcap_known_logs_filter_bytes", "Filters of which logs RocksDB may have");
    describe_histogram!("freqcap_overlay_flush_seconds", "Time to write the frozen logs to a file");
    describe_histogram!("freqcap_overlay_wait_seconds", "Time that a turn waited for room in the overlay");
    describe_counter!("freqcap_timers_fired_total", "Timers that fired");
    describe_gauge!("freqcap_timer_lag_seconds", "How late the oldest timer of the last turn fired");
    describe_gauge!("freqcap_free_disk_bytes", "Bytes free in the data directory's file system");
    describe_gauge!("freqcap_erasures_pending_shards", "Shards with erasures whose bytes are still in files");
    describe_gauge!("freqcap_erasures_pending_seconds", "Age of the oldest of these erasures");
    describe_histogram!("freqcap_erasure_round_seconds", "Time to take erasures out of every file");
    describe_counter!("freqcap_clock_steps_total", "How often the time of day stopped being believed");
    describe_gauge!("freqcap_clock_believed", "1 while the time of day agrees with what is known, else 0");
    describe_gauge!("freqcap_recheck_shards", "Shards whose caps are yet to be judged by changed rules");
}
