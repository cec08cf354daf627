//! Takes what was erased out of every file, well before the time is over within which that is promised.

use crate::clock::Clock;
use crate::store::Store;
use crate::telemetry::unit_labels;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use metrics::{Gauge, Histogram};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Eraser {
    store: Arc<Store>,
    clock: Clock,
    within: Duration,
    pending: Gauge,
    age_seconds: Gauge,
    round_seconds: Histogram,
}

impl Eraser {
    pub(super) fn new(store: Arc<Store>, clock: Clock, within: Duration) -> Self {
        let labels = unit_labels(store.unit(), &[]);
        Self {
            store,
            clock,
            within,
            pending: metrics::gauge!("freqcap_erasures_pending_shards", labels.clone()),
            age_seconds: metrics::gauge!("freqcap_erasures_pending_seconds", labels),
            round_seconds: metrics::histogram!("freqcap_erasure_round_seconds"),
        }
    }

    /// Works until told to end.
    pub(super) fn run(self, ended: &Receiver<()>) {
        let tick = (self.within / 8).clamp(Duration::from_millis(50), Duration::from_secs(60));
        // After a round that failed others come first.
        let mut not_before = Instant::now();
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(tick) {
            let age = self.measure();
            // Half of the time is for the round. One round serves all that have been erased by then.
            if age.is_some_and(|age| age >= self.within / 2) && Instant::now() >= not_before && !self.round(ended) {
                not_before = Instant::now() + (self.within / 8).max(Duration::from_secs(1));
            }
        }
    }

    /// How old the oldest erasure is that waits.
    fn measure(&self) -> Option<Duration> {
        let pending = self.store.at_rest().waiting();
        self.pending.set(pending.map_or(0.0, |(shards, _)| shards as f64));
        let age = pending.map(|(_, oldest)| Duration::from_millis(self.clock.now().0.saturating_sub(oldest.0)));
        self.age_seconds.set(age.map_or(0.0, |age| age.as_secs_f64()));
        age
    }

    /// Whether all that waited is at rest.
    fn round(&self, ended: &Receiver<()>) -> bool {
        let start = Instant::now();
        let goes_on = || ended.try_recv() == Err(TryRecvError::Empty);
        match self.store.at_rest().run(goes_on) {
            Ok(round) => {
                self.round_seconds.record(start.elapsed().as_secs_f64());
                if round.whole {
                    tracing::info!(shards = round.shards, seconds = start.elapsed().as_secs(), "erasures are at rest");
                } else if goes_on() {
                    tracing::warn!("erasures are not at rest yet: compaction failed; it is tried again");
                }
                self.measure();
                round.whole
            }
            Err(error) => {
                tracing::error!(%error, "erasures are not at rest yet");
                false
            }
        }
    }
}
