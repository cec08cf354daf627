//! A writer: owns some shards, and does one thing after another to them.

use super::command::TurnContext;
use super::ended_caps::EndedCaps;
use super::erasures::Erasures;
use super::group_commit::{Acknowledger, Written};
use super::mailbox::Inbox;
use super::metrics::{self, ShardMetrics};
use super::partition_sender::SequenceGuard;
use super::recheck::{Page, Recheck};
use super::refusal::Refusal;
use super::tally::Tally;
use super::task::Task;
use super::timers::{Due, Timers};
use super::tombstones::Tombstones;
use super::turn::{TurnInput, run_turn};
use super::working_set::TurnOutcome;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::{ShardId, TsMs};
use crate::store::{Commit, DueRow, Store, StoreError, hour_of};
use ::metrics::Gauge;
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
    pub recheck: Recheck,
    pub tombstones: Tombstones,
    pub erasures: Erasures,
    pub pulled: SequenceGuard,
    /// The gauge of what is left of `recheck`.
    pub recheck_left: Gauge,
    /// After a failed turn, timers and rechecks wait: they must not take the events down with them.
    pub upkeep_after: Option<Instant>,
    /// Taken out of the mailbox, and left for a turn of its own.
    pub deferred: Option<Task>,
    /// Its number among the writers.
    pub number: u8,
    /// The hour of the last turn that counted events, and how many were counted in it.
    pub counted: Option<(u32, u64)>,
    pub ended: EndedCaps,
}

/// What a turn does besides tasks.
#[derive(Default)]
struct Upkeep {
    due: Due,
    page: Page,
}

/// The last change of each shard whose caps a turn changed.
type ChangedShards = Vec<(ShardId, u64)>;

/// From so many events on a turn takes no more tasks: an answer must not wait for ever, nor a write grow without end.
const TURN_EVENTS: usize = 8_192;
/// And from so many row keys on, for an event may touch seventeen.
const TURN_KEYS: usize = 32_768;
/// So many logs are looked at in a turn after the rules changed.
const TURN_RECHECKS: usize = 2_048;
/// How long timers and rechecks wait after a failed turn.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);
/// So many timers fire in a turn at most: events of the same turn wait for them.
const TURN_TIMERS: usize = 2_048;
/// The longest wait for a task: a clock that stepped ahead is noticed that soon.
const TICK: Duration = Duration::from_millis(500);

impl Writer {
    /// Works until every router is gone and the mailbox is empty.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.deferred.take() {
                Some(task) => Some(task),
                None => match self.inbox.receiver.recv_timeout(self.wait()) {
                    Ok(task) => Some(self.taken(task)),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            let tasks = self.collect(first);
            let bytes = tasks.iter().map(Task::bytes).sum();
            self.turn(tasks);
            self.inbox.ended(bytes);
            self.erase();
        }
    }

    fn wait(&self) -> Duration {
        if self.store.is_poisoned() || self.upkeep_after.is_some() {
            return TICK;
        }
        if !self.erasures.is_empty() {
            return Duration::ZERO;
        }
        if !self.clock.is_believed() {
            return TICK;
        }
        if self.recheck.shards_left() > 0 {
            return Duration::ZERO;
        }
        let until = |due: TsMs| Duration::from_millis(due.0.saturating_sub(self.clock.now().0));
        self.timers.next().map_or(TICK, |due| TICK.min(until(due)))
    }

    fn taken(&self, task: Task) -> Task {
        self.inbox.taken(&task);
        task
    }

    fn collect(&mut self, first: Option<Task>) -> Vec<Task> {
        let mut tasks = Vec::new();
        let (mut events, mut keys) = (0, 0);
        let mut next = first;
        while let Some(task) = next {
            if task.is_alone() && !tasks.is_empty() {
                self.deferred = Some(task);
                break;
            }
            let is_alone = task.is_alone();
            events += task.weight();
            keys += task.row_count();
            tasks.push(task);
            let more = !is_alone && events < TURN_EVENTS && keys < TURN_KEYS;
            next = if more { self.inbox.receiver.try_recv().ok().map(|task| self.taken(task)) } else { None };
        }
        tasks
    }

    fn turn(&mut self, tasks: Vec<Task>) {
        if self.store.is_poisoned() {
            return refuse(tasks, Refusal::Poisoned);
        }
        let mut tasks = self.pulled.keep(tasks);
        let start = Instant::now();
        let now = self.clock.now();
        self.erasures.saw(now);
        if matches!(tasks.first(), Some(Task::Erase(_))) {
            for task in tasks {
                match task {
                    Task::Erase(command) => self.erasures.push(command),
                    other => other.refuse(Refusal::Busy),
                }
            }
            return;
        }
        let taken = self.take_turn(&tasks, now, start);
        match taken {
            Ok(None) => {}
            Ok(Some(changes)) => {
                self.metrics.turn_seconds.record(start.elapsed().as_secs_f64());
                self.pulled.took(&tasks);
                for task in &mut tasks {
                    task.drop_input();
                }
                self.acknowledger.acknowledge(Written { tasks, changes });
            }
            Err(error) => {
                if self.upkeep_after.is_none() {
                    tracing::error!(%error, "a turn failed");
                }
                self.upkeep_after = Some(start + UPKEEP_PAUSE);
                let poisoned = self.store.is_poisoned();
                refuse(tasks, if poisoned { Refusal::Poisoned } else { Refusal::ReadFailed });
            }
        }
    }

    /// A step of an erasure, so that nobody else waits for all of one.
    fn erase(&mut self) {
        if self.erasures.is_empty() {
            return;
        }
        if self.store.is_poisoned() {
            return self.erasures.refuse_all();
        }
        let start = Instant::now();
        if self.upkeep_after.is_some_and(|after| start < after) {
            return;
        }
        let now = self.clock.now();
        let stepped = match self.erasures.step(&self.store, now) {
            Ok(Some(stepped)) => stepped,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "a step of an erasure failed");
                self.upkeep_after = Some(start + UPKEEP_PAUSE);
                return;
            }
        };
        self.metrics.turn_seconds.record(start.elapsed().as_secs_f64());
        self.metrics.erasure_steps.increment(1);
        self.metrics.caps_ended.increment(stepped.step.caps);
        if let Some(user) = stepped.begun {
            self.tombstones.add(self.store.erased().mark(&user));
            // What is left is told from what comes by its time.
            if self.clock.now() == now {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        self.metrics.users_erased.increment(u64::from(stepped.is_done));
        let tasks = stepped.done.into_iter().map(Task::Erase).collect();
        self.acknowledger.acknowledge(Written { tasks, changes: stepped.step.changes });
    }

    /// Timers that are due and logs to judge anew. None while the time of day is not believed: a clock that is days
    /// ahead would end every cap.
    fn upkeep(&mut self, policy: &Policy, now: TsMs, mono: Instant) -> Result<Upkeep, StoreError> {
        if !self.clock.is_believed() || self.upkeep_after.is_some_and(|after| mono < after) {
            return Ok(Upkeep::default());
        }
        self.upkeep_after = None;
        let due = self.timers.due(&self.store, now, TURN_TIMERS)?;
        let page = self.recheck.next(&self.store, policy, now, TURN_RECHECKS)?;
        Ok(Upkeep { due, page })
    }

    fn take_turn(&mut self, tasks: &[Task], now: TsMs, mono: Instant) -> Result<Option<ChangedShards>, StoreError> {
        let policy = self.policy.load_full();
        self.recheck.follow(policy.revision());
        let upkeep = self.upkeep(&policy, now, mono)?;
        if tasks.is_empty() && upkeep.due.rows.is_empty() && upkeep.page.writes_nothing() {
            // What a timer was waited for may be gone.
            self.timers.advance(&upkeep.due);
            self.recheck.advance(&self.store, upkeep.page);
            return Ok(None);
        }
        let mut commit = self.store.begin_commit();
        for rows in &upkeep.due.rows {
            commit.remove_fired(rows);
        }
        upkeep.page.mark(&mut commit, self.recheck.begun_by());
        let fired = upkeep.due.rows.concat();
        let context = TurnContext {
            store: &self.store,
            policy: &policy,
            tombstones: &self.tombstones,
            now,
            duplicate_age: &self.metrics.duplicate_age,
        };
        let input = TurnInput { context, tasks, fired: &fired, recheck: &upkeep.page.row_keys };
        let outcome = run_turn(&input, &mut self.ended, &mut commit);
        self.erasures.add_replaced(&self.store, &mut commit, &outcome);
        let counted = self.count_hour(tasks, now, &mut commit)?;
        let changes = commit.write()?;
        self.counted = counted;
        self.timers.advance(&upkeep.due);
        self.recheck.advance(&self.store, upkeep.page);
        for &(shard, due) in &outcome.timers_added {
            self.timers.added(ShardId(shard), due);
        }
        self.measure(tasks, &fired, &outcome, now);
        Ok(Some(changes))
    }

    /// Adds how many events the hour has by now to the write. Returns it, to be kept once that is done.
    fn count_hour(&self, tasks: &[Task], now: TsMs, commit: &mut Commit<'_>) -> Result<Option<(u32, u64)>, StoreError> {
        let events: usize = tasks.iter().filter_map(Task::tally).map(|tally| tally.counted).sum();
        if events == 0 {
            return Ok(self.counted);
        }
        let hour = hour_of(now);
        let before = match self.counted {
            Some((last, events)) if last == hour => events,
            _ => self.store.over().counted(hour, self.number)?,
        };
        let all = before + events as u64;
        commit.put_counted(hour, self.number, all);
        Ok(Some((hour, all)))
    }

    fn measure(&self, tasks: &[Task], fired: &[DueRow], outcome: &TurnOutcome, now: TsMs) {
        let mut all = Tally::default();
        for task in tasks {
            let Some(tally) = task.tally() else { continue };
            all += tally;
            // Who sends by HTTP is answered, and counts what was answered.
            if matches!(task, Task::KafkaEvents(_)) {
                self.metrics.rejected.increment(tally.too_many_kinds as u64);
            }
        }
        self.metrics.counted.increment(all.counted as u64);
        self.metrics.duplicate.increment(all.duplicate as u64);
        self.metrics.late.increment(all.late as u64);
        self.metrics.erased.increment(all.erased as u64);
        self.metrics.caps_started.increment(outcome.caps_started);
        self.metrics.caps_ended.increment(outcome.caps_ended);
        if !tasks.is_empty() {
            self.metrics.turn_events.record(tasks.iter().map(Task::weight).sum::<usize>() as f64);
        }
        for ((rule, cause), events) in &outcome.over.counts {
            metrics::over_delivered(rule, *cause, *events);
        }
        self.metrics.timers_fired.increment(fired.len() as u64);
        let lag_ms = fired.iter().map(|row| now.0.saturating_sub(row.due.0)).max().unwrap_or(0);
        self.metrics.timer_lag_seconds.set(lag_ms as f64 / 1_000.0);
        self.recheck_left.set(self.recheck.shards_left() as f64);
    }
}

fn refuse(tasks: Vec<Task>, refusal: Refusal) {
    tasks.into_iter().for_each(|task| task.refuse(refusal));
}
