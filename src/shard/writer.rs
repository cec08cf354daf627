//! A writer: owns some shards, and does one thing after another to them.

use super::block::writer_of;
use super::health::Refusal;
use super::mailbox::{Inbox, Job};
use super::metrics::ShardMetrics;
use super::syncer::{Acknowledger, Written};
use super::timers::Timers;
use super::turn::run_turn;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::{ShardId, TsMs};
use crate::store::{DueRow, Store, StoreError};
use arc_swap::ArcSwap;
use crossbeam_channel::RecvTimeoutError;
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
}

/// From so many events on a turn takes no more jobs: an answer must not wait for ever, nor a write grow without end.
const TURN_EVENTS: usize = 8_192;
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
        let now = self.clock.now();
        match self.timers.next() {
            // A poisoned store fires no timers: it must not be asked in a tight loop.
            Some(due) if !self.store.is_poisoned() => TICK.min(Duration::from_millis(due.0.saturating_sub(now.0))),
            _ => TICK,
        }
    }

    fn collect(&self, first: Option<Job>) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut events = 0;
        let mut next = first;
        while let Some(job) = next {
            self.inbox.taken(&job);
            events += job.block.len();
            jobs.push(job);
            next = if events < TURN_EVENTS { self.inbox.receiver.try_recv().ok() } else { None };
        }
        jobs
    }

    fn turn(&mut self, jobs: Vec<Job>) {
        if self.store.is_poisoned() {
            return refuse(jobs, Refusal::Poisoned);
        }
        let start = Instant::now();
        let now = self.clock.now();
        match self.take_turn(&jobs, now) {
            Ok(None) => {}
            Ok(Some((outcomes, changes))) => {
                self.metrics.turn_seconds.record(start.elapsed().as_secs_f64());
                let answers = jobs.into_iter().map(|job| job.reply).zip(outcomes).collect();
                self.acknowledger.acknowledge(Written { answers, changes });
            }
            Err(error) => {
                tracing::error!(%error, "a turn failed");
                let poisoned = self.store.is_poisoned();
                refuse(jobs, if poisoned { Refusal::Poisoned } else { Refusal::ReadFailed });
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn take_turn(
        &mut self,
        jobs: &[Job],
        now: TsMs,
    ) -> Result<Option<(Vec<super::mailbox::BlockOutcome>, Vec<(ShardId, u64)>)>, StoreError> {
        let fired = self.timers.take_due(&self.store, now, TURN_TIMERS)?;
        if jobs.is_empty() && fired.is_empty() {
            return Ok(None);
        }
        let policy = self.policy.load_full();
        let mut turn = self.store.turn();
        for rows in &fired {
            turn.remove_fired(rows);
        }
        let fired = fired.concat();
        let blocks = jobs.iter().map(|job| &job.block);
        let outcome = run_turn(&self.store, &policy, blocks, &fired, now, &mut turn)?;
        let changes = turn.commit()?;
        for &(shard, due) in &outcome.timers_added {
            self.timers.added(ShardId(shard), due);
        }
        self.measure(jobs, &fired, &outcome, now);
        Ok(Some((outcome.blocks, changes)))
    }

    fn measure(&self, jobs: &[Job], fired: &[DueRow], outcome: &super::turn::TurnOutcome, now: TsMs) {
        let sum = |of: fn(&super::mailbox::BlockOutcome) -> usize| outcome.blocks.iter().map(of).sum::<usize>() as u64;
        self.metrics.counted.increment(sum(|block| block.counted));
        self.metrics.duplicate.increment(sum(|block| block.duplicate));
        self.metrics.late.increment(sum(|block| block.late));
        self.metrics.caps_started.increment(outcome.caps_started);
        self.metrics.caps_ended.increment(outcome.caps_ended);
        if !jobs.is_empty() {
            self.metrics.turn_events.record(jobs.iter().map(|job| job.block.len()).sum::<usize>() as f64);
        }
        self.metrics.timers_fired.increment(fired.len() as u64);
        let lag_ms = fired.first().map_or(0, |row| now.0.saturating_sub(row.due.0));
        self.metrics.timer_lag_seconds.set(lag_ms as f64 / 1_000.0);
    }
}

fn refuse(jobs: Vec<Job>, refusal: Refusal) {
    for job in jobs {
        let _ = job.reply.send(Err(refusal));
    }
}
