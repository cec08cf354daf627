//! The mirror's state and figures, as others see them.

use super::error::MirrorError;
use super::marker::Reason;
use crate::model::TsMs;
use crate::telemetry::unit_labels;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The state of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not running.
    Off,
    /// Another store owns the prefix: nothing is sent.
    Foreign,
    /// Redis is away, or not reached yet.
    Connecting,
    /// A full sync is under way.
    FullSync,
    /// Redis gets changes as they come.
    Live,
    /// Another process with a copy of the data directory mirrors: nothing is sent.
    Copied,
}

impl State {
    const ALL: [State; 6] =
        [State::Off, State::Foreign, State::Connecting, State::FullSync, State::Live, State::Copied];

    /// How far it is from what it should be.
    fn distance(self) -> u8 {
        match self {
            State::Live => 0,
            State::FullSync => 1,
            State::Connecting => 2,
            State::Off => 3,
            State::Foreign => 4,
            State::Copied => 5,
        }
    }

    /// The name in `/status` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Off => "off",
            State::Foreign => "foreign",
            State::Connecting => "connecting",
            State::FullSync => "full_pass",
            State::Live => "live",
            State::Copied => "copied",
        }
    }
}

/// The figures of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What the mirror is doing.
    pub state: State,
    /// Changes that Redis has not acknowledged.
    pub pending: u64,
    /// The age of the oldest of them, in ms.
    pub lag_ms: u64,
    /// Full syncs begun, by reason.
    pub passes: Vec<(&'static str, u64)>,
    /// Caps written to Redis since the start.
    pub sets: u64,
    /// Caps removed from Redis since the start.
    pub removes: u64,
    /// Errors since the start.
    pub errors: u64,
    /// Keys that Redis evicted, ours or not.
    pub evicted: u64,
}

impl Snapshot {
    /// The figures of several units together: sums, the longest lag, and the state that is the furthest from live.
    pub fn joined(units: impl IntoIterator<Item = Snapshot>) -> Self {
        let mut units = units.into_iter();
        let none = || Self {
            state: State::Off,
            pending: 0,
            lag_ms: 0,
            passes: Vec::new(),
            sets: 0,
            removes: 0,
            errors: 0,
            evicted: 0,
        };
        let mut joined = units.next().unwrap_or_else(none);
        for unit in units {
            if unit.state.distance() > joined.state.distance() {
                joined.state = unit.state;
            }
            for ((_, sum), (_, count)) in joined.passes.iter_mut().zip(unit.passes) {
                *sum += count;
            }
            joined.pending += unit.pending;
            joined.lag_ms = joined.lag_ms.max(unit.lag_ms);
            joined.sets += unit.sets;
            joined.removes += unit.removes;
            joined.errors += unit.errors;
            joined.evicted = joined.evicted.max(unit.evicted);
        }
        joined
    }

    /// Full syncs begun, whatever the reason.
    pub fn full_passes(&self) -> u64 {
        self.passes.iter().map(|(_, count)| count).sum()
    }
}

/// Handle to the mirror's state; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    state: AtomicU8,
    pending: AtomicU64,
    lag_ms: AtomicU64,
    passes: [AtomicU64; Reason::ALL.len()],
    sets: AtomicU64,
    removes: AtomicU64,
    errors: AtomicU64,
    evicted: AtomicU64,
    server_time: Mutex<Option<(TsMs, Instant)>>,
}

impl Handle {
    /// The time of day of Redis, and when that was on the monotonic clock: a second opinion on this machine's clock. It
    /// is asked for at each connection and about once a second after that.
    pub fn server_time(&self) -> Option<(TsMs, Instant)> {
        *self.0.server_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of the mirror.
    pub fn state(&self) -> State {
        let state = usize::from(self.0.state.load(Ordering::Relaxed));
        State::ALL.get(state).copied().unwrap_or(State::Off)
    }

    /// The figures now.
    pub fn snapshot(&self) -> Snapshot {
        let passes = Reason::ALL.iter().zip(&self.0.passes);
        Snapshot {
            state: self.state(),
            pending: load(&self.0.pending),
            lag_ms: load(&self.0.lag_ms),
            passes: passes.map(|(reason, count)| (reason.as_str(), load(count))).collect(),
            sets: load(&self.0.sets),
            removes: load(&self.0.removes),
            errors: load(&self.0.errors),
            evicted: load(&self.0.evicted),
        }
    }
}

fn load(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}

/// The metrics of the mirror, and the figures behind [`Handle`].
pub(super) struct Report {
    pub handle: Handle,
    state: Gauge,
    pending: Gauge,
    lag: Gauge,
    progress: Gauge,
    passes: [Counter; Reason::ALL.len()],
    sets: Counter,
    removes: Counter,
    visible: Histogram,
    evicted: Counter,
}

impl Report {
    pub fn new(unit: Option<&str>) -> Self {
        describe();
        let labels = || unit_labels(unit, &[]);
        Self {
            handle: Handle(Arc::default()),
            state: gauge!("freqcap_mirror_state", labels()),
            pending: gauge!("freqcap_mirror_pending_changes", labels()),
            lag: gauge!("freqcap_mirror_lag_seconds", labels()),
            progress: gauge!("freqcap_mirror_pass_progress", labels()),
            passes: Reason::ALL.map(|reason| counter!("freqcap_mirror_full_passes_total", "reason" => reason.as_str())),
            sets: counter!("freqcap_mirror_sent_total", "op" => "set"),
            removes: counter!("freqcap_mirror_sent_total", "op" => "remove"),
            visible: histogram!("freqcap_mirror_visible_seconds"),
            evicted: counter!("freqcap_mirror_evicted_keys_total"),
        }
    }

    pub fn state(&self, state: State) {
        self.handle.0.state.store(state as u8, Ordering::Relaxed);
        self.state.set(f64::from(state as u8));
    }

    pub fn server_time(&self, time: TsMs, at: Instant) {
        *self.handle.0.server_time.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, at));
    }

    pub fn pending(&self, changes: u64) {
        self.handle.0.pending.store(changes, Ordering::Relaxed);
        self.pending.set(changes as f64);
    }

    pub fn lag(&self, ms: u64) {
        self.handle.0.lag_ms.store(ms, Ordering::Relaxed);
        self.lag.set(ms as f64 / 1e3);
    }

    pub fn progress(&self, part: f64) {
        self.progress.set(part);
    }

    pub fn full_sync_begun(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|known| *known == reason).unwrap_or(0);
        self.handle.0.passes[index].fetch_add(1, Ordering::Relaxed);
        self.passes[index].increment(1);
    }

    pub fn sent(&self, sets: u64, removes: u64) {
        self.handle.0.sets.fetch_add(sets, Ordering::Relaxed);
        self.handle.0.removes.fetch_add(removes, Ordering::Relaxed);
        self.sets.increment(sets);
        self.removes.increment(removes);
    }

    pub fn visible(&self, ms: u64, changes: usize) {
        self.visible.record_many(ms as f64 / 1e3, changes);
    }

    pub fn evicted(&self, keys: u64) {
        self.handle.0.evicted.fetch_add(keys, Ordering::Relaxed);
        self.evicted.increment(keys);
    }

    pub fn error(&self, error: &MirrorError) {
        self.handle.0.errors.fetch_add(1, Ordering::Relaxed);
        counter!("freqcap_mirror_errors_total", "kind" => error.kind()).increment(1);
    }
}

/// Describes the metrics of the mirror.
pub fn describe() {
    describe_gauge!(
        "freqcap_mirror_state",
        "What the Redis mirror does: 0 off, 1 another store has the prefix, 2 connecting, 3 full sync, 4 live, 5 another \
         process with a copy of the data directory mirrors"
    );
    describe_gauge!("freqcap_mirror_pending_changes", "Changes of caps that Redis has not acknowledged");
    describe_gauge!(
        "freqcap_mirror_lag_seconds",
        Unit::Seconds,
        "Age of the oldest change that Redis has not acknowledged"
    );
    describe_gauge!("freqcap_mirror_pass_progress", "How far the full sync under way is, from 0 to 1");
    describe_counter!("freqcap_mirror_full_passes_total", "Full syncs begun, by reason");
    describe_counter!("freqcap_mirror_sent_total", "Caps set in and removed from Redis");
    describe_counter!("freqcap_mirror_errors_total", "Failures of the mirror, all of them tried again, by kind");
    describe_counter!(
        "freqcap_mirror_evicted_keys_total",
        "Keys that Redis evicted for want of memory, ours or not; each time everything is sent again"
    );
    describe_histogram!(
        "freqcap_mirror_visible_seconds",
        Unit::Seconds,
        "From when a cap changed until Redis acknowledged the change"
    );
}
