//! A writer: owns some shards, and does one thing after another to them.

use super::block::writer_of;
use super::health::Refusal;
use super::mailbox::{BlockOutcome, Inbox, Job};
use super::metrics::ShardMetrics;
use super::recheck::{Page, Recheck};
use super::syncer::{Acknowledger, Written};
use super::timers::{Due, Timers};
use super::turn::{TurnOutcome, run_turn};
use crate::clock::{Clock, StepWatch};
use crate::engine::Policy;
use crate::model::{ShardId, TsMs};
use crate::store::{DueRow, Store, StoreError};
use arc_swap::ArcSwap;
use crossbeam_channel::RecvTimeoutError;
use metrics::Gauge;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Writer {
    pub store: Arc<Store>,
    pub policy: Arc<ArcSwap<Policy>>,
    pub clock: Clock,
    pub inbox: Inbox,
    pub acknowledger: Acknowledger,
    pub metrics: ShardMetrics,
    pub timers: Timers,
    pub recheck: Recheck,
    /// The gauge of what is left of `recheck`.
    pub recheck_left: Gauge,
    pub steps: StepWatch,
    /// After a failed turn, timers and rechecks wait: they must not take the events down with them.
    pub upkeep_after: Option<Instant>,
}

/// What a turn does besides events.
#[derive(Default)]
struct Upkeep {
    due: Due,
    page: Page,
}

/// What a turn that was written leaves to do.
struct TurnDone {
    outcomes: Vec<BlockOutcome>,
    changes: Vec<(ShardId, u64)>,
}

/// From so many events on a turn takes no more jobs: an answer must not wait for ever, nor a write grow without end.
const TURN_EVENTS: usize = 8_192;
/// And from so many row keys on, for an event may touch seventeen.
const TURN_KEYS: usize = 32_768;
/// So many logs are judged anew in a turn after the rules changed.
const TURN_RECHECKS: usize = 1_024;
/// How long timers and rechecks wait after a failed turn.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);
/// So many timers fire in a turn at most: events of the same turn wait for them.
const TURN_TIMERS: usize = 2_048;
/// The longest wait for a job: a clock that stepped ahead is noticed that soon.
const TICK: Duration = Duration::from_millis(500);

impl Writer {
    /// The shards that writer number `writer` of `writers` owns.
    pub(super) fn shards(writer: usize, writers: usize) -> impl Iterator<Item = ShardId> {
        ShardId::all().filter(move |shard| writer_of(*shard, writers) == writer)
    }

    /// Works until every router is gone and the mailbox is empty.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.inbox.receiver.recv_timeout(self.wait()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let jobs = self.collect(first);
            self.turn(jobs);
        }
    }

    fn wait(&self) -> Duration {
        if self.store.is_poisoned() || self.upkeep_after.is_some() || !self.steps.is_believed() {
            return TICK;
        }
        if self.recheck.shards_left() > 0 {
            return Duration::ZERO;
        }
        let until = |due: TsMs| Duration::from_millis(due.0.saturating_sub(self.clock.now().0));
        self.timers.next().map_or(TICK, |due| TICK.min(until(due)))
    }

    fn collect(&self, first: Option<Job>) -> Vec<Job> {
        let mut jobs = Vec::new();
        let (mut events, mut keys) = (0, 0);
        let mut next = first;
        while let Some(job) = next {
            self.inbox.taken(&job);
            events += job.block.len();
            keys += job.block.key_count();
            jobs.push(job);
            next = if events < TURN_EVENTS && keys < TURN_KEYS { self.inbox.receiver.try_recv().ok() } else { None };
        }
        jobs
    }

    fn turn(&mut self, jobs: Vec<Job>) {
        if self.store.is_poisoned() {
            return refuse(jobs, Refusal::Poisoned);
        }
        let start = Instant::now();
        let now = self.clock.now();
        self.steps.look(now, start);
        match self.take_turn(&jobs, now, start) {
            Ok(None) => {}
            Ok(Some(TurnDone { outcomes, changes })) => {
                self.metrics.turn_seconds.record(start.elapsed().as_secs_f64());
                let answers = jobs.into_iter().map(|job| job.reply).zip(outcomes).collect();
                self.acknowledger.acknowledge(Written { answers, changes });
            }
            Err(error) => {
                if self.upkeep_after.is_none() {
                    tracing::error!(%error, "a turn failed");
                }
                self.upkeep_after = Some(start + UPKEEP_PAUSE);
                let poisoned = self.store.is_poisoned();
                refuse(jobs, if poisoned { Refusal::Poisoned } else { Refusal::ReadFailed });
            }
        }
    }

    /// Timers that are due and logs to judge anew. None while the time of day is not believed: a clock that is days
    /// ahead would end every cap.
    fn upkeep(&mut self, now: TsMs, mono: Instant) -> Result<Upkeep, StoreError> {
        if !self.steps.is_believed() || self.upkeep_after.is_some_and(|after| mono < after) {
            return Ok(Upkeep::default());
        }
        self.upkeep_after = None;
        let due = self.timers.due(&self.store, now, TURN_TIMERS)?;
        let page = self.recheck.next(&self.store, TURN_RECHECKS)?;
        Ok(Upkeep { due, page })
    }

    fn take_turn(&mut self, jobs: &[Job], now: TsMs, mono: Instant) -> Result<Option<TurnDone>, StoreError> {
        let upkeep = self.upkeep(now, mono)?;
        if jobs.is_empty() && upkeep.due.rows.is_empty() && upkeep.page.is_empty() {
            // What a timer was waited for may be gone.
            self.timers.advance(&upkeep.due);
            return Ok(None);
        }
        let policy = self.policy.load_full();
        let mut turn = self.store.turn();
        for rows in &upkeep.due.rows {
            turn.remove_fired(rows);
        }
        upkeep.page.mark(&mut turn, self.recheck.rules());
        let fired = upkeep.due.rows.concat();
        let blocks = jobs.iter().map(|job| &job.block);
        let outcome = run_turn(&self.store, &policy, blocks, &fired, &upkeep.page.row_keys, now, &mut turn)?;
        let changes = turn.commit()?;
        self.timers.advance(&upkeep.due);
        self.recheck.advance(&upkeep.page);
        for &(shard, due) in &outcome.timers_added {
            self.timers.added(ShardId(shard), due);
        }
        self.measure(jobs, &fired, &outcome, now);
        Ok(Some(TurnDone { outcomes: outcome.blocks, changes }))
    }

    fn measure(&self, jobs: &[Job], fired: &[DueRow], outcome: &TurnOutcome, now: TsMs) {
        let sum = |of: fn(&BlockOutcome) -> usize| outcome.blocks.iter().map(of).sum::<usize>() as u64;
        self.metrics.counted.increment(sum(|block| block.counted));
        self.metrics.duplicate.increment(sum(|block| block.duplicate));
        self.metrics.late.increment(sum(|block| block.late));
        self.metrics.caps_started.increment(outcome.caps_started);
        self.metrics.caps_ended.increment(outcome.caps_ended);
        if !jobs.is_empty() {
            self.metrics.turn_events.record(jobs.iter().map(|job| job.block.len()).sum::<usize>() as f64);
        }
        self.metrics.timers_fired.increment(fired.len() as u64);
        let lag_ms = fired.iter().map(|row| now.0.saturating_sub(row.due.0)).max().unwrap_or(0);
        self.metrics.timer_lag_seconds.set(lag_ms as f64 / 1_000.0);
        self.recheck_left.set(self.recheck.shards_left() as f64);
    }
}

fn refuse(jobs: Vec<Job>, refusal: Refusal) {
    for job in jobs {
        let _ = job.reply.send(Err(refusal));
    }
}
