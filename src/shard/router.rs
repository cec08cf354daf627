//! Sends batches of events to the writers that own their shards, and collects the results.

use super::command::Reply;
use super::count::{CountEvents, OVER_TOLD};
use super::erase::EraseUser;
use super::event_batch::{EventBatchBuilder, WriterMap};
use super::health::Health;
use super::mailbox::{Mailbox, TaskBytes};
use super::over::OverKey;
use super::partition_sender::PartitionSender;
use super::refusal::Refusal;
use super::reserve::{ReleaseCall, Reserve, ReserveCall, ReserveOutcome, call_row, reserve_for_nobody};
use super::task::Task;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::{DaId, EventId, ShardId, TsMs, UserId};
use crate::store::{ChangedBy, Erasure, RowKey};
use arc_swap::ArcSwap;
use metrics::Counter;
use std::sync::Arc;

/// A key that became capped by a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CappedKey {
    /// The user.
    pub user: String,
    /// The key.
    pub key: String,
    /// When the cap ends.
    pub until: TsMs,
}

/// The results of a call's events. When it is returned, the counted events are durable and visible.
#[derive(Debug, Default)]
pub struct Counted {
    /// Events that count.
    pub counted: usize,
    /// Events that were counted before.
    pub duplicate: usize,
    /// Events too old to count.
    pub late: usize,
    /// Events from before their user's erasure.
    pub erased: usize,
    /// Events of users that mean nobody: stored nowhere.
    pub ignored: usize,
    /// The indices of events that would exceed the number of kinds in one of their logs: rejected.
    pub too_many_kinds: Vec<u32>,
    /// Keys that went from not capped to capped, by user and key.
    pub capped: Vec<CappedKey>,
    /// Keys that were capped when counted events happened, by the events' indices; 100 at most.
    pub over: Vec<OverKey>,
    /// How many more there are.
    pub over_omitted: usize,
    /// Events that were not taken. Sending them again is safe if they have ids.
    pub unavailable: usize,
    /// Why events were not taken.
    pub refusal: Option<Refusal>,
}

/// Sends events to the writers. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    mailboxes: Arc<[Mailbox]>,
    writers: WriterMap,
    task_bytes: Arc<TaskBytes>,
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
    health: Health,
    ignored: Counter,
}

impl Router {
    pub(super) fn new(
        (mailboxes, writers, task_bytes): (Vec<Mailbox>, WriterMap, Arc<TaskBytes>),
        policy: Arc<ArcSwap<Policy>>,
        clock: Clock,
        health: Health,
        ignored: Counter,
    ) -> Self {
        Self { mailboxes: mailboxes.into(), writers, task_bytes, policy, clock, health, ignored }
    }

    /// The router of several units, which share rules, clock and the memory of what waits; `None` of none.
    pub(super) fn joined<'r>(units: impl Iterator<Item = &'r Router> + Clone) -> Option<Self> {
        let first = units.clone().next()?;
        let mailboxes = units.clone().flat_map(|unit| unit.mailboxes.iter().cloned());
        Some(Self {
            mailboxes: mailboxes.collect(),
            writers: WriterMap::joined(units.clone().map(|unit| &unit.writers)),
            health: Health::joined(units.map(|unit| &unit.health)),
            ..first.clone()
        })
    }

    /// A builder of batches for events received now.
    pub fn builder(&self) -> EventBatchBuilder {
        EventBatchBuilder::new(self.writers.clone(), self.policy.load_full(), &self.clock)
    }

    /// The sender of a Kafka partition. There must be only one for a partition in this process.
    pub fn sender(&self, topic: &str, partition: u32) -> PartitionSender {
        let writers = (&self.mailboxes[..], &self.writers);
        PartitionSender::new(writers, self.health.clone(), self.ignored.clone(), topic, partition)
    }

    /// Counts events. Returns once everything counted is durable and visible to every read. A batch whose writer has no
    /// room is refused at once.
    pub async fn count(&self, events: EventBatchBuilder) -> Counted {
        let mut all = Counted { ignored: events.ignored(), ..Counted::default() };
        self.ignored.increment(all.ignored as u64);
        if events.is_empty() {
            return all;
        }
        if let Some(refusal) = self.health.refusal_of_all() {
            all.refuse(events.len(), refusal);
            return all;
        }
        if events.without_time() > 0 {
            all.refuse(events.without_time(), Refusal::ClockNotBelieved);
        }
        if events.elsewhere() > 0 {
            all.refuse(events.elsewhere(), Refusal::OtherUnit);
        }
        if let Err(refusal) = self.task_bytes.take(events.bytes()) {
            all.refuse(events.len() - events.not_sent(), refusal);
            return all;
        }
        let mut answers = Vec::with_capacity(self.mailboxes.len());
        for (writer, batch) in events.into_batches() {
            let events = batch.len();
            // Another unit takes its part.
            if let Some(refusal) = self.health.refusal_of(self.writers.place_of(writer).unit) {
                self.task_bytes.give_back(batch.bytes());
                all.refuse(events, refusal);
                continue;
            }
            match self.mailboxes[writer].send_taken(|reply| Task::Events(CountEvents { batch, reply })) {
                Ok(answer) => answers.push((events, answer)),
                Err(refusal) => all.refuse(events, refusal),
            }
        }
        for (events, answer) in answers {
            match answer.await.unwrap_or(Err(Refusal::Stopping)) {
                Ok(block) => {
                    all.counted += block.counted;
                    all.duplicate += block.duplicate;
                    all.late += block.late;
                    all.erased += block.erased;
                    all.too_many_kinds.extend(block.too_many_kinds);
                    if !block.unreadable.is_empty() {
                        all.refuse(block.unreadable.len(), Refusal::RowUnreadable);
                    }
                    all.over_omitted += block.over_omitted;
                    all.over.extend(block.over);
                    all.capped.extend(block.capped.iter().filter_map(|(row, until)| capped_key(row, *until)));
                }
                Err(refusal) => all.refuse(events, refusal),
            }
        }
        all.over.sort_by_key(|over| over.index);
        all.over_omitted += all.over.len().saturating_sub(OVER_TOLD);
        all.over.truncate(OVER_TOLD);
        all.capped.sort_by(|a, b| (&a.user, &a.key).cmp(&(&b.user, &b.key)));
        all
    }

    /// Reserves the first candidates of a call that are not capped, atomically. Returns once that is durable.
    pub async fn reserve(&self, call: Reserve<'_>) -> Result<ReserveOutcome, Refusal> {
        if self.policy.load().ignores(call.user.as_str()) {
            return Ok(ReserveOutcome::Answer(reserve_for_nobody(&call, self.clock.now())));
        }
        // A reservation counts as of now, and the time of now is not known.
        if !self.clock_is_believed() {
            return Err(Refusal::ClockNotBelieved);
        }
        if !call.fits_a_row() {
            return Ok(ReserveOutcome::TooLong);
        }
        let user = call.user.clone();
        self.ask(user.as_str(), |reply| Task::Reserve(Box::new(ReserveCall::new(call, reply)))).await
    }

    /// Gives back what is reserved under an id, for one ad or for all. Returns how many candidates it released, once
    /// that is durable.
    pub async fn release(&self, user: UserId<'_>, id: EventId<'_>, da: Option<DaId<'_>>) -> Result<usize, Refusal> {
        let (user, id, da) = (user.into_owned(), id.into_owned(), da.map(DaId::into_owned));
        let row_key = call_row(&user, &id);
        let name = user.clone();
        self.ask(name.as_str(), |reply| Task::Release(Box::new(ReleaseCall { row_key, user, id, da, reply }))).await
    }

    /// Removes all data of a user. Returns once that is durable, with its line of the audit.
    pub async fn erase(&self, user: &UserId<'_>, by: ChangedBy) -> Result<Erasure, Refusal> {
        self.ask(user.as_str(), |reply| Task::Erase(EraseUser { user: user.as_str().into(), by, reply })).await
    }

    fn clock_is_believed(&self) -> bool {
        self.clock.now();
        self.clock.is_believed()
    }

    /// The clock that the shards go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn ask<T>(&self, user: &str, task: impl FnOnce(Reply<T>) -> Task) -> Result<T, Refusal> {
        let writer = self.writers.writer_of(ShardId::of_user(user.as_bytes())).ok_or(Refusal::OtherUnit)?;
        if let Some(refusal) = self.health.refusal_of(self.writers.place_of(writer).unit) {
            return Err(refusal);
        }
        let answer = self.mailboxes[writer].send(task)?;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Makes every writer check for changed rules.
    pub(super) fn wake(&self) {
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    /// Events waiting for each writer.
    pub fn mailbox_depths(&self) -> impl Iterator<Item = usize> {
        self.mailboxes.iter().map(Mailbox::depth)
    }

    /// Bytes of all tasks, waiting or in a turn.
    pub fn mailbox_bytes(&self) -> usize {
        self.task_bytes.held()
    }

    /// Whether the writers can take events.
    pub fn health(&self) -> &Health {
        &self.health
    }
}

impl Counted {
    /// Refuses all of these events.
    pub fn refused(events: &EventBatchBuilder, refusal: Refusal) -> Self {
        let mut counted = Self { ignored: events.ignored(), ..Self::default() };
        if !events.is_empty() {
            counted.refuse(events.len(), refusal);
        }
        counted
    }

    fn refuse(&mut self, events: usize, refusal: Refusal) {
        self.unavailable += events;
        self.refusal.get_or_insert(refusal);
    }
}

fn capped_key(row: &[u8], until: TsMs) -> Option<CappedKey> {
    let (user, key) = RowKey::parse(row)?;
    Some(CappedKey { user: user.to_owned(), key: key.into_owned(), until })
}
