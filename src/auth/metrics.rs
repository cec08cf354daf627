//! What is measured of keys.

use metrics::{describe_counter, describe_gauge, gauge};

/// Describes the metrics.
pub fn describe() {
    describe_counter!(
        "freqcap_auth_total",
        "Calls by key and result: ok, forbidden (another scope is needed), expired; without a key absent or unknown"
    );
    describe_gauge!("freqcap_keys", "Keys in force");
    describe_gauge!(
        "freqcap_keys_reload_failed",
        "Whether the file of keys cannot be used as it is now: the keys from before are in force"
    );
}

pub(super) fn note_keys(count: usize, failed: bool) {
    gauge!("freqcap_keys").set(count as f64);
    gauge!("freqcap_keys_reload_failed").set(if failed { 1.0 } else { 0.0 });
}
