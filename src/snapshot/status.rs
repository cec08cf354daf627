//! What is known from outside of how the snapshots are.

use super::error::SnapshotError;
use super::manifest::Manifest;
use super::take::Taken;
use crate::model::TsMs;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The figures of one instant, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// The epoch of this process.
    pub epoch: u64,
    /// The newest snapshot; 0 where there is none.
    pub sequence: u64,
    /// When it was begun, in ms since 1970 by the service's clock.
    pub taken_ms: Option<u64>,
    /// The size of the data directory in it.
    pub bytes: u64,
    /// How many files it has.
    pub files: usize,
    /// The revision of the rules in it.
    pub rules_revision: u64,
    /// Snapshots taken since the start.
    pub taken: u64,
    /// Snapshots that failed since the start.
    pub failed: u64,
    /// The code and text of the last failure, if the last try failed.
    pub error: Option<(&'static str, String)>,
    /// Bytes uploaded since the start.
    pub uploaded_bytes: u64,
    /// Bytes that needed no upload since the start.
    pub spared_bytes: u64,
    /// How long the last one took, in ms.
    pub took_ms: u64,
    /// Whether a snapshot is being taken.
    pub is_taking: bool,
    /// Writes are shipped between snapshots: how long ago all of them were, in ms.
    pub shipping_lag_ms: Option<u64>,
    /// Segments shipped since the start.
    pub shipped: u64,
    /// Their bytes.
    pub shipped_bytes: u64,
    /// A newer epoch writes under the prefix.
    pub is_superseded: bool,
}

/// The metrics, and the figures behind the handle.
pub(super) struct Report {
    figures: Mutex<Figures>,
    age: Gauge,
    superseded: Gauge,
    uploaded: Counter,
    spared: Counter,
    collected: Counter,
    seconds: Histogram,
}

impl Report {
    pub(super) fn new(epoch: u64, newest: Option<&Manifest>) -> Self {
        describe();
        let mut figures = Figures { epoch, ..Figures::default() };
        if let Some(newest) = newest {
            set_newest(&mut figures, newest);
        }
        Self {
            figures: Mutex::new(figures),
            age: gauge!("freqcap_snapshot_age_seconds"),
            superseded: gauge!("freqcap_snapshot_superseded"),
            uploaded: counter!("freqcap_snapshot_uploaded_bytes_total"),
            spared: counter!("freqcap_snapshot_spared_bytes_total"),
            collected: counter!("freqcap_snapshot_collected_objects_total"),
            seconds: histogram!("freqcap_snapshot_seconds"),
        }
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn begun(&self) {
        self.change(|figures| figures.is_taking = true);
    }

    /// Whatever became of the snapshot.
    pub(super) fn uploaded(&self, bytes: u64) {
        self.uploaded.increment(bytes);
        self.change(|figures| figures.uploaded_bytes += bytes);
    }

    pub(super) fn taken(&self, taken: &Taken) {
        self.spared.increment(taken.spared_bytes);
        self.seconds.record(taken.took.as_secs_f64());
        counter!("freqcap_snapshots_total").increment(1);
        self.change(|figures| {
            set_newest(figures, &taken.manifest);
            figures.taken += 1;
            figures.error = None;
            figures.spared_bytes += taken.spared_bytes;
            figures.took_ms = u64::try_from(taken.took.as_millis()).unwrap_or(u64::MAX);
            figures.is_taking = false;
        });
    }

    pub(super) fn failed(&self, error: &SnapshotError) {
        count_error("take", error.code());
        self.change(|figures| {
            figures.failed += 1;
            figures.error = Some((error.code(), error.to_string()));
            figures.is_taking = false;
        });
    }

    /// How long ago everything was shipped.
    pub(super) fn lag(&self, lag: Duration) {
        gauge!("freqcap_snapshot_shipping_lag_seconds").set(lag.as_secs_f64());
        let ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.change(|figures| figures.shipping_lag_ms = Some(ms));
    }

    /// A segment is in the bucket.
    pub(super) fn shipped(&self, bytes: u64) {
        counter!("freqcap_snapshot_shipped_bytes_total").increment(bytes);
        counter!("freqcap_snapshot_segments_total").increment(1);
        self.change(|figures| {
            figures.shipped += 1;
            figures.shipped_bytes += bytes;
        });
    }

    pub(super) fn set_superseded(&self) {
        self.superseded.set(1.0);
        self.change(|figures| figures.is_superseded = true);
    }

    pub(super) fn collected(&self, objects: usize) {
        self.collected.increment(objects as u64);
    }

    /// The age of the newest snapshot, looked at once a second.
    pub(super) fn age(&self, now: TsMs) {
        if let Some(taken_ms) = self.figures().taken_ms {
            self.age.set(Duration::from_millis(now.0.saturating_sub(taken_ms)).as_secs_f64());
        }
    }
}

/// Something failed; `during` is `take`, `ship` or `collect` (the writer counts what fails with its lease).
pub(super) fn count_error(during: &'static str, code: &'static str) {
    counter!("freqcap_snapshot_errors_total", "during" => during, "code" => code).increment(1);
}

fn set_newest(figures: &mut Figures, manifest: &Manifest) {
    figures.sequence = manifest.sequence;
    figures.taken_ms = Some(manifest.taken_ms);
    figures.bytes = manifest.bytes();
    figures.files = manifest.files.len();
    figures.rules_revision = manifest.rules_revision;
}

/// Says what the metrics mean.
pub fn describe() {
    describe_gauge!("freqcap_snapshot_age_seconds", Unit::Seconds, "Age of the newest snapshot in the bucket");
    describe_gauge!("freqcap_snapshot_superseded", "1 once a newer process writes under this process' prefix");
    describe_counter!("freqcap_snapshots_total", "Snapshots taken");
    describe_counter!(
        "freqcap_snapshot_errors_total",
        "What failed with the bucket of the snapshots: during take, ship, lease or collect, by code"
    );
    describe_counter!("freqcap_snapshot_uploaded_bytes_total", Unit::Bytes, "Bytes uploaded for snapshots");
    describe_gauge!(
        "freqcap_snapshot_shipping_lag_seconds",
        Unit::Seconds,
        "How long ago everything that was written was in the bucket, with --snapshot-lag"
    );
    describe_counter!("freqcap_snapshot_segments_total", "Segments of writes shipped between snapshots");
    describe_counter!("freqcap_snapshot_shipped_bytes_total", Unit::Bytes, "Bytes of these segments, compressed");
    describe_counter!(
        "freqcap_snapshot_spared_bytes_total",
        Unit::Bytes,
        "Bytes of snapshots that were in the bucket already"
    );
    describe_counter!("freqcap_snapshot_collected_objects_total", "Objects of old snapshots that were removed");
    describe_histogram!(
        "freqcap_snapshot_seconds",
        Unit::Seconds,
        "How long a snapshot took, from its checkpoint to its manifest"
    );
}
