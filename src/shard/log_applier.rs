//! Applies a cluster's log to a unit: what a record does depends on the records before it, and on nothing else.
//!
//! The records of one instant are one turn and one write, which has the log's position in it, too. A turn may be cut in two
//! anywhere, and a log applied again from any position that was written: the state is the same. No clock is read, and there is one
//! thread a unit, since a partition is applied in its order.

use super::command::{Awaited, Reply, TurnContext};
use super::count::{BatchOutcome, CountEvents};
use super::event_batch::{EventBatchBuilder, WriterMap};
use super::reserve::{ReleaseCall, Reserve, ReserveCall, ReserveOutcome, call_row, reserve_for_nobody};
use super::task::Task;
use super::tombstones::Tombstones;
use super::turn::{TurnInput, run_turn};
use crate::engine::{Policy, TsInFuture};
use crate::model::{DaId, Event, EventId, ShardId, TsMs, UserId};
use crate::store::{ChangedBy, Commit, Erasure, GradualErasure, Store, StoreError};
use metrics::Histogram;
use std::sync::Arc;

/// What a record asks of a unit.
#[derive(Debug, Clone)]
pub enum LogCommand<'a> {
    /// Count an event.
    Event(Event<'a>),
    /// Reserve the first candidates that are not capped.
    Reserve(Reserve<'static>),
    /// Give back what is reserved under an id.
    Release {
        /// The user.
        user: UserId<'static>,
        /// The id of the call of `/reserve`.
        id: EventId<'static>,
        /// Only of this ad.
        da: Option<DaId<'static>>,
    },
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutcome {
    /// The event counts.
    Counted,
    /// It was counted before.
    Duplicate,
    /// It is older than what is kept.
    Late,
    /// Its user was erased after it.
    Erased,
    /// Its user means nobody.
    Ignored,
    /// It lies too far ahead of its record.
    InFuture,
    /// One of its logs has the maximum number of kinds.
    TooManyKinds,
    /// Its user belongs to another partition.
    Elsewhere,
    /// A call of `/reserve`.
    Reserve(ReserveOutcome),
    /// How many candidates a call of `/release` gave back.
    Released(usize),
}

/// Why the log cannot be applied any further. The unit must stop: it would come to another state than others.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// A row is damaged: what the records do to it cannot be told.
    #[error("a row of a user cannot be read, so the log cannot be applied; restore the unit from a snapshot")]
    Unreadable,
}

/// A unit that a log is applied to.
pub struct LogApplier {
    store: Arc<Store>,
    tombstones: Tombstones,
    writers: WriterMap,
    duplicate_age: Histogram,
}

/// Where an outcome comes from.
enum Answer {
    Known(LogOutcome),
    Event(Awaited<BatchOutcome>),
    Reserve(Awaited<ReserveOutcome>),
    Release(Awaited<usize>),
}

impl LogApplier {
    /// Goes on where the store stands: erasures that were under way are finished. Blocks on disk.
    pub fn open(store: Arc<Store>) -> Result<Self, StoreError> {
        let shards = store.shards();
        for shard in shards.iter() {
            for unfinished in store.erasing().unfinished(shard)? {
                let mut erasure = GradualErasure::resume(unfinished);
                // It has begun: the time of its tombstone is set.
                while !erasure.is_done() {
                    erasure.step(&store, TsMs(0))?;
                }
            }
        }
        let tombstones = Tombstones::load(&store, shards)?;
        let writers = WriterMap::new(shards, 1);
        let duplicate_age = metrics::histogram!("freqcap_duplicate_age_seconds");
        Ok(Self { store, tombstones, writers, duplicate_age })
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Applies commands of one instant in their order, and writes with them what `note` adds: the position. Nothing is
    /// written if it fails. Blocks on disk.
    pub fn apply(
        &mut self,
        policy: &Arc<Policy>,
        now: TsMs,
        commands: Vec<LogCommand<'_>>,
        note: impl FnOnce(&mut Commit<'_>),
    ) -> Result<Vec<LogOutcome>, ApplyError> {
        let (mut tasks, mut answers) = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        for command in commands {
            answers.push(self.prepare(policy, now, command, &mut tasks));
        }
        let mut commit = self.store.begin_commit();
        let context = TurnContext {
            store: &self.store,
            policy,
            tombstones: &self.tombstones,
            now,
            duplicate_age: &self.duplicate_age,
        };
        run_turn(&TurnInput { context, tasks: &tasks, fired: &[], recheck: &[] }, &mut commit);
        tasks.into_iter().for_each(Task::acknowledge);
        let outcomes = answers.into_iter().map(outcome).collect::<Result<_, _>>()?;
        note(&mut commit);
        commit.write()?;
        Ok(outcomes)
    }

    /// Removes all data of a user, and then writes what `note` adds. If it is interrupted, the next run applies it again, with
    /// the same end. Blocks on disk, as long as the user's rows take.
    pub fn erase(
        &mut self,
        now: TsMs,
        user: &UserId<'_>,
        by: ChangedBy,
        note: impl FnOnce(&mut Commit<'_>),
    ) -> Result<Erasure, ApplyError> {
        let mut erasure = GradualErasure::new(user.as_str(), by);
        while !erasure.is_done() {
            erasure.step(&self.store, now)?;
        }
        self.tombstones.add(self.store.erased().mark(user.as_str()));
        self.note(note)?;
        Ok(*erasure.erasure())
    }

    /// Writes what `note` adds alone.
    pub fn note(&mut self, note: impl FnOnce(&mut Commit<'_>)) -> Result<(), ApplyError> {
        let mut commit = self.store.begin_commit();
        note(&mut commit);
        commit.write()?;
        Ok(())
    }

    fn prepare(&self, policy: &Arc<Policy>, now: TsMs, command: LogCommand<'_>, tasks: &mut Vec<Task>) -> Answer {
        match command {
            LogCommand::Event(event) => self.prepare_event(policy, now, &event, tasks),
            LogCommand::Reserve(call) => {
                if self.is_elsewhere(&call.user) {
                    return Answer::Known(LogOutcome::Elsewhere);
                }
                if policy.ignores(call.user.as_str()) {
                    let answer = ReserveOutcome::Answer(reserve_for_nobody(&call, now));
                    return Answer::Known(LogOutcome::Reserve(answer));
                }
                if !call.fits_a_row() {
                    return Answer::Known(LogOutcome::Reserve(ReserveOutcome::TooLong));
                }
                let (reply, awaited) = Reply::channel();
                tasks.push(Task::Reserve(Box::new(ReserveCall::new(call, reply))));
                Answer::Reserve(awaited)
            }
            LogCommand::Release { user, id, da } => {
                if self.is_elsewhere(&user) {
                    return Answer::Known(LogOutcome::Elsewhere);
                }
                let (reply, awaited) = Reply::channel();
                let row_key = call_row(&user, &id);
                tasks.push(Task::Release(Box::new(ReleaseCall { row_key, user, id, da, reply })));
                Answer::Release(awaited)
            }
        }
    }

    fn prepare_event(&self, policy: &Arc<Policy>, now: TsMs, event: &Event<'_>, tasks: &mut Vec<Task>) -> Answer {
        let mut builder = EventBatchBuilder::at(self.writers.clone(), policy.clone(), now);
        if let Err(TsInFuture { .. }) = builder.push(0, event) {
            return Answer::Known(LogOutcome::InFuture);
        }
        if builder.ignored() > 0 {
            return Answer::Known(LogOutcome::Ignored);
        }
        let Some((_, batch)) = builder.into_batches().next() else { return Answer::Known(LogOutcome::Elsewhere) };
        let (reply, awaited) = Reply::channel();
        tasks.push(Task::Events(CountEvents { batch, reply }));
        Answer::Event(awaited)
    }

    fn is_elsewhere(&self, user: &UserId<'_>) -> bool {
        self.writers.writer_of(ShardId::of_user(user.as_str().as_bytes())).is_none()
    }
}

fn outcome(answer: Answer) -> Result<LogOutcome, ApplyError> {
    Ok(match answer {
        Answer::Known(outcome) => outcome,
        Answer::Reserve(awaited) => LogOutcome::Reserve(take(awaited)?),
        Answer::Release(awaited) => LogOutcome::Released(take(awaited)?),
        Answer::Event(awaited) => match take(awaited)? {
            BatchOutcome { counted: 1, .. } => LogOutcome::Counted,
            BatchOutcome { duplicate: 1, .. } => LogOutcome::Duplicate,
            BatchOutcome { late: 1, .. } => LogOutcome::Late,
            BatchOutcome { erased: 1, .. } => LogOutcome::Erased,
            BatchOutcome { unreadable, .. } if !unreadable.is_empty() => return Err(ApplyError::Unreadable),
            _ => LogOutcome::TooManyKinds,
        },
    })
}

/// The reply of a task that has run.
fn take<T>(mut awaited: Awaited<T>) -> Result<T, ApplyError> {
    match awaited.try_recv() {
        Ok(Ok(output)) => Ok(output),
        // A turn refuses a command for a damaged row alone.
        Ok(Err(_)) | Err(_) => Err(ApplyError::Unreadable),
    }
}
