//! Starts the writers and what watches over them, and ends them in order.

use super::ended_caps::EndedCaps;
use super::eraser::Eraser;
use super::erasures::Erasures;
use super::event_batch::WriterMap;
use super::group_commit::{self, Acknowledger};
use super::health::Health;
use super::mailbox::mailbox;
use super::metrics::ShardMetrics;
use super::options::Options;
use super::partition_sender::SequenceGuard;
use super::reader::Reader;
use super::recheck::Recheck;
use super::resources::SharedBounds;
use super::router::Router;
use super::rulebook::{Rulebook, RulebookError, Source};
use super::threads::{PoisonOnPanic, join, spawn, thread_name, wait_briefly};
use super::timers::Timers;
use super::tombstones::Tombstones;
use super::watch::{Watch, resume_clock};
use super::writer::Writer;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::Rule;
use crate::priority::lower_priority;
use crate::store::{Store, StoreError};
use crate::telemetry::unit_labels;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The running shards.
pub struct Shards {
    serving: Serving,
    watch: Watch,
}

/// The running shards of a unit, without what watches over the process.
pub(super) struct Serving {
    pub router: Router,
    pub reader: Reader,
    pub rulebook: Rulebook,
    pub store: Arc<Store>,
    threads: Vec<JoinHandle<()>>,
    flusher: JoinHandle<()>,
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
        Self::start_with(store, base, fixed, clock, options, &SharedBounds::new(options))
    }

    /// Starts them with bounds that they share with other units.
    pub(super) fn start_with(
        store: Arc<Store>,
        base: &Policy,
        fixed: Vec<(Rule, Source)>,
        clock: Clock,
        options: &Options,
        bounds: &SharedBounds,
    ) -> Result<Self, RulebookError> {
        let (unit, dir) = (store.unit().map(str::to_owned), store.dir().map(ToOwned::to_owned));
        let stores = vec![store.clone()];
        let clock_watch = resume_clock(&stores, (unit.as_deref(), dir), &clock, base, options)?;
        let rulebook = Rulebook::open(stores, base, fixed, clock.clone())?;
        let serving = Serving::start(store, &rulebook, clock.clone(), options, bounds)?;
        let watch = Watch::start(clock_watch, vec![serving.router.health().clone()], rulebook, clock, options);
        Ok(Self { serving, watch })
    }

    /// Hands events to the writers.
    pub fn router(&self) -> &Router {
        &self.serving.router
    }

    /// Answers reads.
    pub fn reader(&self) -> &Reader {
        &self.serving.reader
    }

    /// Holds the rules.
    pub fn rulebook(&self) -> &Rulebook {
        &self.serving.rulebook
    }

    /// Waits until what was sent is counted and durable, and closes the store. Every other [`Router`] must be gone or
    /// go by itself: the writers end when the last one does.
    pub fn stop(self) -> Result<(), StoreError> {
        let ended = self.serving.end_writers();
        self.watch.end();
        ended.close()
    }
}

impl Serving {
    /// Starts the writers of a store, by rules that are in force. The clock goes on from the last believed time by then.
    /// Blocks on disk.
    pub(super) fn start(
        store: Arc<Store>,
        rulebook: &Rulebook,
        clock: Clock,
        options: &Options,
        bounds: &SharedBounds,
    ) -> Result<Self, RulebookError> {
        let task_bytes = bounds.task_bytes.clone();
        let metrics = ShardMetrics::new(store.unit());
        let health = Health::new(store.clone());
        let writers = options.writers.clamp(1, store.shards().len().max(1));
        let policy = rulebook.policy().clone();
        let revision = policy.load().revision();
        let mut threads = Vec::new();
        let mut mailboxes = Vec::new();
        let (acknowledger, written) = Acknowledger::new(&store, 4 * writers);
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
            let (guard, metrics, sync) = (PoisonOnPanic(store.clone()), metrics.clone(), health.sync_watch());
            threads.push(spawn(name("syncer"), move || group_commit::run(&guard.0, &written, &metrics, &sync)));
        }
        let router = Router::new(
            (mailboxes, WriterMap::new(store.shards(), writers), task_bytes),
            policy.clone(),
            clock.clone(),
            health.clone(),
            metrics.ignored.clone(),
        );
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
        let reader = Reader::new(store.clone(), policy, clock, bounds.places.clone());
        Ok(Self { router, reader, rulebook: rulebook.clone(), store, threads, flusher, eraser })
    }

    /// Waits until what was sent is counted and durable. Every other [`Router`] must be gone or go by itself.
    pub(super) fn end_writers(self) -> Ended {
        let Self { router, store, threads, flusher, eraser, .. } = self;
        drop(router);
        for thread in threads {
            join(thread);
        }
        store.flusher().end();
        join(flusher);
        Ended { store, eraser }
    }
}

/// A unit whose writers have ended, and whose store is open.
pub(super) struct Ended {
    store: Arc<Store>,
    eraser: (Sender<()>, JoinHandle<()>),
}

impl Ended {
    /// Closes the store.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let (stop_eraser, eraser) = self.eraser;
        drop(stop_eraser);
        wait_briefly(&eraser);
        // Ends a compaction that is under way, which the eraser may wait for.
        let closed = self.store.close();
        join(eraser);
        closed
    }
}
