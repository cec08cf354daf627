//! Looks once a second at what nobody else would notice in time: the time of day and the room on the disk, for all units of
//! the process.

use super::clock_watch::{ClockWatch, Watched};
use super::health::Health;
use super::options::Options;
use super::rulebook::Rulebook;
use super::threads::{PoisonOnPanic, join, spawn, thread_name};
use crate::clock::Clock;
use crate::engine::Policy;
use crate::store::{Store, StoreError};
use crate::telemetry::unit_labels;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use metrics::Gauge;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running watch.
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Has the clock go on from the last time that any of the stores believed. `name` is the name and `dir` the directory of what
/// they are together. Blocks on disk.
pub(super) fn resume_clock(
    stores: &[Arc<Store>],
    (name, dir): (Option<&str>, Option<PathBuf>),
    clock: &Clock,
    base: &Policy,
    options: &Options,
) -> Result<ClockWatch, StoreError> {
    let max_skew = Duration::from_millis(base.max_skew_ms());
    let watched = Watched { stores: stores.to_vec(), name: name.map(str::to_owned), dir };
    ClockWatch::start(watched, clock, max_skew, options)
}

impl Watch {
    /// Begins to look. `healths` are those of the stores that the clock is watched for, in their order.
    pub(super) fn start(
        clock_watch: ClockWatch,
        healths: Vec<Health>,
        rulebook: Rulebook,
        clock: Clock,
        options: &Options,
    ) -> Self {
        let Watched { stores, name, .. } = clock_watch.watched();
        let (stores, name) = (stores.clone(), name.clone());
        let free_disk = metrics::gauge!("freqcap_free_disk_bytes", unit_labels(name.as_deref(), &[]));
        let guards: Vec<_> = stores.iter().cloned().map(PoisonOnPanic).collect();
        let units = stores.into_iter().zip(healths).collect();
        let next_trim = Instant::now() + TRIM_INTERVAL;
        let min_free_disk = options.min_free_disk;
        let looks = Looks { units, free_disk, min_free_disk, clock_watch, rulebook, clock, next_trim };
        looks.check_disk();
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let thread = spawn(thread_name("watch", name.as_deref()), move || {
            let _guards = guards;
            looks.run(&stopped);
        });
        Self { stop, thread }
    }

    /// Stores the time of day and ends.
    pub(super) fn end(self) {
        drop(self.stop);
        join(self.thread);
    }
}

struct Looks {
    units: Vec<(Arc<Store>, Health)>,
    free_disk: Gauge,
    min_free_disk: u64,
    clock_watch: ClockWatch,
    rulebook: Rulebook,
    clock: Clock,
    /// When what was over is looked at again.
    next_trim: Instant,
}

/// How often rows of what was over are let go.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

impl Looks {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut failed = false;
        loop {
            match self.clock_watch.look(|| self.rulebook.judge_anew()) {
                Ok(()) => failed = false,
                // Once: the store is poisoned by then, or reads fail.
                Err(error) if !failed => {
                    tracing::error!(%error, "the time of day could not be stored");
                    failed = true;
                }
                Err(_) => {}
            }
            self.check_disk();
            self.trim_over();
            match stopped.recv_timeout(Duration::from_secs(1)) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        if let Err(error) = self.clock_watch.end()
            && !failed
        {
            tracing::error!(%error, "the time of day could not be stored");
        }
    }

    /// Lets old rows of what was over go, as long as the time is believed.
    fn trim_over(&mut self) {
        let now = Instant::now();
        if now < self.next_trim || !self.clock.is_believed() {
            return;
        }
        self.next_trim = now + TRIM_INTERVAL;
        for (store, _) in &self.units {
            if let Err(error) = store.over().trim(self.clock.now())
                && !store.is_poisoned()
            {
                tracing::warn!(%error, "old rows of what was over stay");
            }
        }
    }

    fn check_disk(&self) {
        let mut least = u64::MAX;
        for (store, health) in &self.units {
            if let Some(free) = store.dir().and_then(free_bytes) {
                least = least.min(free);
                health.set_disk_full(free < self.min_free_disk);
            }
        }
        if least < u64::MAX {
            self.free_disk.set(least as f64);
        }
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
