//! Starts the writers and what watches over them, and ends them in order.

use super::bucket_commit::BucketCommit;
use super::catalogue::Catalogue;
use super::clock_watch::ClockWatch;
use super::ended_caps::EndedCaps;
use super::eraser::Eraser;
use super::erasures::Erasures;
use super::event_batch::WriterMap;
use super::group_commit::{self, Acknowledger};
use super::health::Health;
use super::mailbox::{TaskBytes, mailbox};
use super::metrics::ShardMetrics;
use super::opt_outs::OptOuts;
use super::options::Options;
use super::partition_sender::SequenceGuard;
use super::reader::Reader;
use super::recheck::Recheck;
use super::router::Router;
use super::rule_source::Source;
use super::rulebook::{Rulebook, RulebookError};
use super::survey::{Survey, Surveyor};
use super::timers::Timers;
use super::tombstones::Tombstones;
use super::writer::Writer;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::Rule;
use crate::priority::lower_priority;
use crate::store::{Durability, Store, StoreError};
use crate::telemetry::unit_labels;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running shards.
pub struct Shards {
    router: Router,
    reader: Reader,
    rulebook: Rulebook,
    survey: (Survey, JoinHandle<()>),
    store: Arc<Store>,
    threads: Vec<JoinHandle<()>>,
    flusher: JoinHandle<()>,
    watch: (Sender<()>, JoinHandle<()>),
    eraser: (Sender<()>, JoinHandle<()>),
}

impl Shards {
    /// Starts the writers, with the settings of `base` and, besides the rules of the API, those of the flags and the file.
    /// Finds the first timer of every shard on the way, so it blocks on disk.
    pub fn start(
        store: Arc<Store>,
        base: &Policy,
        fixed: Vec<(Rule, Source)>,
        clock: Clock,
        options: &Options,
    ) -> Result<Self, RulebookError> {
        let task_bytes = Arc::new(TaskBytes::new(options.mailbox_bytes));
        Self::start_with(store, base, fixed, clock, options, task_bytes)
    }

    /// Starts them with a bound on what waits that they share with other units.
    pub(super) fn start_with(
        store: Arc<Store>,
        base: &Policy,
        fixed: Vec<(Rule, Source)>,
        clock: Clock,
        options: &Options,
        task_bytes: Arc<TaskBytes>,
    ) -> Result<Self, RulebookError> {
        let metrics = ShardMetrics::new(store.unit());
        let health = Health::new(store.clone());
        let writers = options.writers.clamp(1, store.shards().len().max(1));
        let max_skew = Duration::from_millis(base.max_skew_ms());
        let clock_watch = ClockWatch::start(&store, &clock, max_skew, options)?;
        let rulebook = Rulebook::open(store.clone(), base, fixed, clock.clone())?;
        let policy = rulebook.policy().clone();
        let catalogue = Catalogue::load(&store)?;
        let opt_outs = OptOuts::load(store.clone(), options.opted_out)?;
        let revision = policy.load().revision();
        let mut threads = Vec::new();
        let mut mailboxes = Vec::new();
        let (acknowledger, written) = Acknowledger::new(&store, writers);
        let mut loaded = Vec::new();
        for number in 0..writers {
            let (mailbox, inbox) = mailbox(options.mailbox_events, &task_bytes);
            mailboxes.push(mailbox);
            let shards = store.shards().of_writer(number, writers);
            let labels = unit_labels(store.unit(), &[("writer", number.to_string())]);
            loaded.push(Writer {
                store: store.clone(),
                policy: policy.clone(),
                clock: clock.clone(),
                inbox,
                acknowledger: acknowledger.clone(),
                metrics: metrics.clone(),
                timers: Timers::load(&store, shards)?,
                recheck: Recheck::load(&store, shards, revision, rulebook.progress().clone())?,
                tombstones: Tombstones::load(&store, shards)?,
                opt_outs: opt_outs.clone(),
                erasures: Erasures::load(&store, shards)?,
                pulled: SequenceGuard::default(),
                recheck_left: metrics::gauge!("freqcap_recheck_shards", labels),
                upkeep_after: None,
                deferred: None,
                number: number as u8,
                counted: None,
                ended: EndedCaps::default(),
            });
        }
        // Nothing fails from here on, so that no thread is left behind by a start that failed.
        let name = |name: &str| thread_name(name, store.unit());
        for (number, writer) in loaded.into_iter().enumerate() {
            let guard = PoisonOnPanic(store.clone());
            threads.push(spawn(name(&format!("writer-{number}")), move || {
                let _guard = guard;
                lower_priority();
                writer.run();
            }));
        }
        drop(acknowledger);
        let guard = PoisonOnPanic(store.clone());
        let flusher = spawn(name("flusher"), move || {
            lower_priority();
            guard.0.flusher().run();
        });
        if let Some(written) = written {
            let (guard, metrics, health) = (PoisonOnPanic(store.clone()), metrics.clone(), health.clone());
            threads.push(spawn(name("syncer"), move || match guard.0.durability() {
                Durability::Bucket => BucketCommit::new(&guard.0, metrics, health).run(&written),
                Durability::Fsync | Durability::Wal => {
                    group_commit::run(&guard.0, &written, &metrics, health.sync_watch())
                }
            }));
        }
        let router = Router::new(
            (mailboxes, WriterMap::new(store.shards(), writers), task_bytes),
            policy.clone(),
            clock.clone(),
            health.clone(),
            metrics.ignored.clone(),
            (catalogue, opt_outs.clone()),
        );
        let watch = Watch {
            store: store.clone(),
            health,
            metrics,
            min_free_disk: options.min_free_disk,
            clock_watch,
            rulebook: rulebook.clone(),
            clock: clock.clone(),
            next_trim: Instant::now() + TRIM_INTERVAL,
        };
        watch.check_disk();
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let guard = PoisonOnPanic(store.clone());
        let eraser = Eraser::new(store.clone(), clock.clone(), options.erase_within);
        let (stop_eraser, eraser_stopped) = crossbeam_channel::bounded(0);
        let eraser = (
            stop_eraser,
            spawn(name("eraser"), move || {
                let _guard = guard;
                lower_priority();
                eraser.run(&eraser_stopped);
            }),
        );
        let (surveyor, survey) = Surveyor::new(store.clone(), rulebook.clone(), clock.clone());
        let surveying = name("survey");
        // What it does nobody else waits for: without it events are counted all the same.
        let watched = store.alarm().watch(surveying.clone());
        let thread = spawn(surveying, move || {
            let _watched = watched;
            lower_priority();
            surveyor.run();
        });
        let survey = (survey, thread);
        let guard = PoisonOnPanic(store.clone());
        let watch = (
            stop,
            spawn(name("watch"), move || {
                let _guard = guard;
                watch.run(&stopped);
            }),
        );
        Ok(Self {
            router,
            reader: Reader::new(store.clone(), policy, clock, opt_outs),
            rulebook,
            survey,
            store,
            threads,
            flusher,
            watch,
            eraser,
        })
    }

    /// Hands events to the writers.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Answers reads.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Holds the rules.
    pub fn rulebook(&self) -> &Rulebook {
        &self.rulebook
    }

    /// Answers questions about all users.
    pub fn survey(&self) -> &Survey {
        &self.survey.0
    }

    /// Waits until what was sent is counted and durable, and closes the store. Every other [`Router`] must be gone or
    /// go by itself: the writers end when the last one does.
    pub fn stop(self) -> Result<(), StoreError> {
        drop(self.router);
        let (survey, surveyor) = self.survey;
        survey.end();
        join(surveyor);
        for thread in self.threads {
            join(thread);
        }
        self.store.flusher().end();
        join(self.flusher);
        drop(self.watch.0);
        join(self.watch.1);
        let (stop_eraser, eraser) = self.eraser;
        drop(stop_eraser);
        wait_briefly(&eraser);
        // Ends a compaction that is under way, which the eraser may wait for.
        let closed = self.store.close();
        join(eraser);
        closed
    }
}

/// A thread that panicked can serve nobody: then events are refused and the process asks to be restarted.
struct PoisonOnPanic(Arc<Store>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.alarm().raise(std::thread::current().name().unwrap_or("unnamed"));
            self.0.poison();
        }
    }
}

/// Linux shows 15 bytes of a name.
fn thread_name(name: &str, unit: Option<&str>) -> String {
    unit.map_or_else(|| name.to_owned(), |unit| format!("{name}-{unit}"))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = std::thread::Builder::new().name(name.clone()).spawn(run);
    // Only at start, where a machine that can make no thread can serve nobody.
    thread.unwrap_or_else(|error| panic!("cannot start the thread {name}: {error}"))
}

/// Waits for a thread, but not for long.
fn wait_briefly(thread: &JoinHandle<()>) {
    let start = Instant::now();
    while !thread.is_finished() && start.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread ended by a panic");
    }
}

/// Looks once a second at what nobody else would notice in time.
struct Watch {
    store: Arc<Store>,
    health: Health,
    metrics: ShardMetrics,
    min_free_disk: u64,
    clock_watch: ClockWatch,
    rulebook: Rulebook,
    clock: Clock,
    /// When what was over is looked at again.
    next_trim: Instant,
}

/// How often rows of what was over are let go.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

impl Watch {
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
        if let Err(error) = self.store.over().trim(self.clock.now())
            && !self.store.is_poisoned()
        {
            tracing::warn!(%error, "old rows of what was over stay");
        }
    }

    fn check_disk(&self) {
        let Some(free) = self.store.dir().and_then(free_bytes) else { return };
        self.metrics.free_disk_bytes.set(free as f64);
        self.health.set_disk_full(free < self.min_free_disk);
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
