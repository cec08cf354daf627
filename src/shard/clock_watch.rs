//! Stores the last believed time of day, and has caps judged again once a wrong clock is right again.

use super::options::Options;
use crate::clock::{Clock, ClockState};
use crate::model::TsMs;
use crate::store::{Store, StoreError};
use crate::telemetry::unit_labels;
use metrics::{Counter, Gauge};
use std::path::{Path, PathBuf};
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

/// Whose time of day is watched: the units of a process, which share one clock.
pub(super) struct Watched {
    /// The first keeps the time.
    pub stores: Vec<Arc<Store>>,
    /// What they are called together; `None` where they are the whole process.
    pub name: Option<String>,
    /// The data directory; `None` in memory.
    pub dir: Option<PathBuf>,
}

pub(super) struct ClockWatch {
    watched: Watched,
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
    /// Compares the time of day with the latest that a store knows. Blocks on disk.
    pub(super) fn start(
        watched: Watched,
        clock: &Clock,
        max_skew: Duration,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let (mut last, mut doubted) = (None, false);
        for store in &watched.stores {
            last = last.max(store.meta().last_believed()?);
            doubted |= store.meta().is_clock_doubted()?;
        }
        clock.resume(last, max_skew, options.max_offline);
        let mut watch = Self {
            clock: clock.clone(),
            steps: metrics::counter!("freqcap_clock_steps_total"),
            believed: metrics::gauge!("freqcap_clock_believed", unit_labels(watched.name.as_deref(), &[])),
            stored: None,
            before: clock.state(),
            doubted,
            watched,
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

    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The store that keeps the time for all.
    fn keeper(&self) -> &Store {
        &self.watched.stores[0]
    }

    /// Whether an operator asked to believe the clock. The request is removed.
    fn is_accepted(&self) -> bool {
        self.watched.dir.as_ref().is_some_and(|dir| std::fs::remove_file(dir.join(ACCEPT_FILE)).is_ok())
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
        self.keeper().meta().put_clock_doubted(true)
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
        for store in &self.watched.stores {
            store.compaction_filter().set_now(state.believed.then_some(state.goes_by));
        }
        if state.lost > before.lost {
            self.doubt(Some(before.goes_by))?;
        }
        if !state.believed {
            return Ok(());
        }
        if self.doubted {
            tracing::warn!(shows = state.shows.0, "the time of day is believed again: all caps are judged anew");
            judge_anew()?;
            for store in &self.watched.stores {
                if store.meta().is_clock_doubted()? {
                    store.meta().put_clock_doubted(false)?;
                }
            }
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
        if state.believed { self.keeper().meta().put_last_believed(state.goes_by) } else { Ok(()) }
    }

    fn store(&mut self, state: ClockState) -> Result<(), StoreError> {
        self.keeper().meta().put_last_believed(state.goes_by)?;
        self.stored = Some(Instant::now());
        Ok(())
    }
}
