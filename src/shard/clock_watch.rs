//! Stores the last believed time of day, and has caps judged again once a wrong clock is right again.

use super::options::Options;
use crate::clock::{Clock, ClockState};
use crate::model::TsMs;
use crate::store::{Store, StoreError};
use crate::telemetry::unit_labels;
use metrics::{Counter, Gauge};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the believed time is stored.
const STORE_INTERVAL: Duration = Duration::from_secs(10);
/// The file that `freqcap clock accept` writes in the data directory. The service that finds it believes its clock.
const ACCEPT_FILE: &str = "clock.accept";

/// Asks the service of a data directory, or the next one there, to believe its clock.
pub fn ask_to_accept_clock(data_dir: &Path) -> std::io::Result<()> {
    std::fs::File::create(data_dir.join(ACCEPT_FILE))?.sync_all()
}

/// Whether no service has handled [`ask_to_accept_clock`] yet.
pub fn is_asked_to_accept_clock(data_dir: &Path) -> bool {
    data_dir.join(ACCEPT_FILE).exists()
}

pub(super) struct ClockWatch {
    store: Arc<Store>,
    clock: Clock,
    steps: Counter,
    believed: Gauge,
    stored: Option<Instant>,
    /// Whether the clock was believed when it was last checked.
    before: ClockState,
    /// Whether caps must be judged again once the time of day is believed.
    doubted: bool,
}

impl ClockWatch {
    /// Compares the time of day with what the store knows. Blocks on disk.
    pub(super) fn start(
        store: &Arc<Store>,
        clock: &Clock,
        max_skew: Duration,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let last = store.meta().last_believed()?;
        clock.resume(last, max_skew, options.max_offline);
        let mut watch = Self {
            store: store.clone(),
            clock: clock.clone(),
            steps: metrics::counter!("freqcap_clock_steps_total"),
            believed: metrics::gauge!("freqcap_clock_believed", unit_labels(store.unit(), &[])),
            stored: None,
            before: clock.state(),
            doubted: store.meta().is_clock_doubted()?,
        };
        watch.steps.absolute(watch.before.lost);
        if !watch.before.believed {
            watch.doubt(last)?;
        }
        if options.accept_clock || watch.is_accepted() {
            watch.accept();
        }
        Ok(watch)
    }

    /// Whether an operator asked to believe the clock. The request is removed.
    fn is_accepted(&self) -> bool {
        self.store.dir().is_some_and(|dir| std::fs::remove_file(dir.join(ACCEPT_FILE)).is_ok())
    }

    fn accept(&self) {
        self.clock.accept();
        tracing::warn!(shows = self.clock.state().shows.0, "the time of day is accepted as right");
    }

    fn doubt(&mut self, known: Option<TsMs>) -> Result<(), StoreError> {
        let ClockState { shows, goes_by, .. } = self.clock.state();
        tracing::error!(
            shows = shows.0,
            goes_by = goes_by.0,
            last_believed = known.map(|known| known.0),
            "the time of day is not believed: no cap ends and nothing is reclaimed until it agrees again, another clock \
             says the same, or `freqcap clock accept` says that it is right"
        );
        self.doubted = true;
        self.store.meta().put_clock_doubted(true)
    }

    /// Checks the clock. `judge_anew` has every cap judged again, also after a restart. Blocks on disk.
    pub(super) fn look(&mut self, judge_anew: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.is_accepted() {
            self.accept();
        }
        let state = self.clock.state();
        let before = std::mem::replace(&mut self.before, state);
        self.steps.absolute(state.lost);
        self.believed.set(f64::from(u8::from(state.believed)));
        self.store.compaction_filter().set_now(state.believed.then_some(state.goes_by));
        if state.lost > before.lost {
            self.doubt(Some(before.goes_by))?;
        }
        if !state.believed {
            return Ok(());
        }
        if self.doubted {
            tracing::warn!(shows = state.shows.0, "the time of day is believed again: all caps are judged anew");
            judge_anew()?;
            self.store.meta().put_clock_doubted(false)?;
            self.doubted = false;
        }
        if self.stored.is_none_or(|stored| stored.elapsed() >= STORE_INTERVAL) {
            self.store(state)?;
        }
        Ok(())
    }

    /// Stores the time at the end of a run.
    pub(super) fn end(self) -> Result<(), StoreError> {
        let state = self.clock.state();
        if state.believed { self.store.meta().put_last_believed(state.goes_by) } else { Ok(()) }
    }

    fn store(&mut self, state: ClockState) -> Result<(), StoreError> {
        self.store.meta().put_last_believed(state.goes_by)?;
        self.stored = Some(Instant::now());
        Ok(())
    }
}
