//! Takes events from a log that can be read again, each exactly once: with the events a writer stores its position, in
//! one write.
//!
//! A partition has a [`PartitionSender`] with a queue for each writer. Batches stay in it, in order, until they are
//! durable. A writer accepts only the next batch of the queue. Batches that follow a failed one are refused, and sent
//! again after it. So a writer's mark covers everything below it.

use super::command::Awaited;
use super::count::{BatchOutcome, CountKafkaEvents};
use super::event_batch::{EventBatchBuilder, WriterMap};
use super::health::Health;
use super::kafka_batch::KafkaBatch;
use super::mailbox::Mailbox;
use super::refusal::Refusal;
use super::task::Task;
use crate::store::MarkKey;
use metrics::Counter;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot::error::TryRecvError;

/// By queue, the batch that a writer accepts next.
#[derive(Default)]
pub(super) struct SequenceGuard {
    next: HashMap<Arc<MarkKey>, u64>,
}

impl SequenceGuard {
    /// Keeps the tasks of a turn that are in order, and refuses the others.
    pub(super) fn keep(&self, tasks: Vec<Task>) -> Vec<Task> {
        if !tasks.iter().any(|task| matches!(task, Task::KafkaEvents(_))) {
            return tasks;
        }
        let mut ahead: HashMap<Arc<MarkKey>, u64> = HashMap::new();
        let mut kept = Vec::with_capacity(tasks.len());
        for task in tasks {
            if let Task::KafkaEvents(CountKafkaEvents { batch, .. }) = &task {
                let known = self.next.get(&batch.mark).copied().unwrap_or(0);
                let next = ahead.entry(batch.mark.clone()).or_insert(known);
                if *next != batch.nth {
                    task.refuse(Refusal::ReadFailed);
                    continue;
                }
                *next += 1;
            }
            kept.push(task);
        }
        kept
    }

    /// Records that tasks were written.
    pub(super) fn took(&mut self, tasks: &[Task]) {
        for task in tasks {
            if let Task::KafkaEvents(CountKafkaEvents { batch, .. }) = task {
                self.next.insert(batch.mark.clone(), batch.nth + 1);
            }
        }
    }
}

/// Sends the events of one partition to the writers.
pub struct PartitionSender {
    queues: Vec<WriterQueue>,
    health: Health,
    ignored: Counter,
    events: usize,
}

struct WriterQueue {
    /// The number of the writer's unit.
    unit: usize,
    mailbox: Mailbox,
    mark: Arc<MarkKey>,
    nth: u64,
    /// In order; those that were sent come first.
    batches: VecDeque<InFlight>,
    /// A batch was refused: nothing is sent until all outstanding answers are there.
    refused: bool,
}

/// A batch that is not durable yet.
struct InFlight {
    chunk: u64,
    batch: Arc<KafkaBatch>,
    answer: Option<Awaited<BatchOutcome>>,
}

impl PartitionSender {
    pub(super) fn new(
        (mailboxes, map): (&[Mailbox], &WriterMap),
        health: Health,
        ignored: Counter,
        topic: &str,
        partition: u32,
    ) -> Self {
        let queues = mailboxes.iter().enumerate().map(|(number, mailbox)| {
            let place = map.place_of(number);
            WriterQueue {
                unit: place.unit,
                mailbox: mailbox.clone(),
                mark: Arc::new(MarkKey::new(topic, partition, place.writers, place.writer)),
                nth: 0,
                batches: VecDeque::new(),
                refused: false,
            }
        });
        Self { queues: queues.collect(), health, ignored, events: 0 }
    }

    /// Takes a chunk's events, whose records are at `offsets` and end before offset `next`. Returns the number of
    /// parts; [`PartitionSender::drive`] reports each.
    pub fn put(&mut self, chunk: u64, events: EventBatchBuilder, offsets: Vec<u64>, next: u64) -> usize {
        let (mut parts, offsets) = (0, Arc::from(offsets));
        self.ignored.increment(events.ignored() as u64);
        for (writer, events) in events.into_batches() {
            let queue = &mut self.queues[writer];
            self.events += events.len();
            let batch = Arc::new(KafkaBatch {
                events,
                offsets: Arc::clone(&offsets),
                mark: queue.mark.clone(),
                nth: queue.nth,
                next,
            });
            queue.nth += 1;
            queue.batches.push_back(InFlight { chunk, batch, answer: None });
            parts += 1;
        }
        parts
    }

    /// Events that are not durable yet.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Sends what there is room for, without waiting. Calls `done` for every part that became durable, with its chunk
    /// and the offsets of records that were left out, each with its code. What is refused stays and is sent again by a
    /// later call; the first refusal is returned.
    pub fn drive(&mut self, mut done: impl FnMut(u64, Vec<(u64, &'static str)>)) -> Option<Refusal> {
        let mut refusal = None;
        for queue in &mut self.queues {
            if let Some(why) = queue.answers(&mut self.events, &mut done) {
                refusal.get_or_insert(why);
                // Not again at once: the writer is in trouble.
                continue;
            }
            if queue.refused || queue.batches.is_empty() {
                continue;
            }
            if let Some(why) = self.health.refusal_of(queue.unit).or_else(|| queue.send()) {
                refusal.get_or_insert(why);
            }
        }
        refusal
    }
}

impl WriterQueue {
    fn answers(&mut self, events: &mut usize, done: &mut impl FnMut(u64, Vec<(u64, &'static str)>)) -> Option<Refusal> {
        let mut refusal = None;
        while !self.refused {
            let answer = self.batches.front_mut().and_then(|front| front.answer.as_mut())?;
            match answer.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Ok(Ok(outcome)) => {
                    if let Some(front) = self.batches.pop_front() {
                        *events -= front.batch.events.len();
                        let left_out = outcome.left_out();
                        let mut left_out: Vec<_> = left_out
                            .filter_map(|(number, code)| Some((front.batch.offset_of(number)?, code)))
                            .collect();
                        // They are read again, in this order.
                        left_out.sort_unstable();
                        done(front.chunk, left_out);
                    }
                }
                Ok(Err(why)) => refusal = Some(why),
                Err(TryRecvError::Closed) => refusal = Some(Refusal::Stopping),
            }
            if refusal.is_some() {
                self.refused = true;
            }
        }
        // Whatever was sent after it is out of order, so it is refused, too.
        for batch in &mut self.batches {
            match batch.answer.as_mut().map(Awaited::try_recv) {
                Some(Err(TryRecvError::Empty)) => return refusal,
                _ => batch.answer = None,
            }
        }
        self.refused = false;
        refusal
    }

    fn send(&mut self) -> Option<Refusal> {
        for batch in self.batches.iter_mut().filter(|batch| batch.answer.is_none()) {
            let sent = batch.batch.clone();
            match self.mailbox.send(|reply| Task::KafkaEvents(CountKafkaEvents { batch: sent, reply })) {
                Ok(answer) => batch.answer = Some(answer),
                Err(why) => return Some(why),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::{Inbox, TaskBytes, mailbox};
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Policy;
    use crate::model::ShardSet;
    use crate::model::{DaId, Event, Kind, RuleSet, UserId};
    use crate::store::{Store, StoreOptions};

    const ROOM: usize = 4;

    struct World {
        sender: PartitionSender,
        inbox: Inbox,
        order: SequenceGuard,
        done: Vec<u64>,
        refusal: Option<Refusal>,
        _dir: tempfile::TempDir,
    }

    impl World {
        /// One writer with room for [`ROOM`] events.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() };
            let (mailbox, inbox) = mailbox(ROOM, &Arc::new(TaskBytes::new(1 << 20)));
            let health = Health::new(Arc::new(Store::open(&options).unwrap()));
            let map = WriterMap::new(ShardSet::ALL, 1);
            let sender = PartitionSender::new((&[mailbox], &map), health, Counter::noop(), "t", 0);
            Self { sender, inbox, order: SequenceGuard::default(), done: Vec::new(), refusal: None, _dir: dir }
        }

        fn put(&mut self, chunk: u64, events: usize) {
            let policy = Policy::new(RuleSet::new([]), 256, 1_000, 1_000, 0);
            let mut builder = EventBatchBuilder::new(
                WriterMap::new(ShardSet::ALL, 1),
                Arc::new(policy),
                &Clock::system(),
                Default::default(),
            );
            let (user, da) = (UserId::new("u").unwrap(), DaId::new("1").unwrap());
            let event = Event { user, da, ts: None, id: None, kind: Kind::IMPRESSION, keys: Default::default() };
            (0..events).for_each(|_| builder.push(0, &event).unwrap());
            assert_eq!(self.sender.put(chunk, builder, vec![chunk; events], chunk + 1), 1);
        }

        fn drive(&mut self) {
            self.refusal = self.sender.drive(|chunk, _| self.done.push(chunk));
        }

        /// The writer takes a turn of all that waits, which fails or not. Returns the batches in it.
        fn turn(&mut self, fails: bool) -> Vec<u64> {
            let tasks: Vec<Task> = self.inbox.receiver.try_iter().inspect(|task| self.inbox.taken(task)).collect();
            self.inbox.ended(tasks.iter().map(Task::bytes).sum());
            let tasks = self.order.keep(tasks);
            let number =
                |task: &Task| if let Task::KafkaEvents(CountKafkaEvents { batch, .. }) = task { batch.nth } else { 99 };
            let numbers = tasks.iter().map(number).collect();
            if !fails {
                self.order.took(&tasks);
            }
            for task in tasks {
                if fails {
                    task.refuse(Refusal::ReadFailed);
                    continue;
                }
                if let Task::KafkaEvents(command) = &task {
                    command.reply.set(BatchOutcome::default());
                }
                task.acknowledge();
            }
            numbers
        }
    }

    #[test]
    fn what_finds_no_room_goes_before_what_comes_later() {
        let mut world = World::new();
        for chunk in 0..4 {
            world.put(chunk, 2);
        }
        world.drive();
        assert_eq!((world.refusal, world.sender.events()), (Some(Refusal::Busy), 8));
        assert_eq!(world.turn(false), [0, 1]);
        world.drive();
        assert_eq!((world.turn(false), world.done.as_slice()), (vec![2, 3], &[0, 1][..]));
        world.drive();
        assert_eq!((world.done.as_slice(), world.sender.events(), world.refusal), (&[0, 1, 2, 3][..], 0, None));
    }

    #[test]
    fn what_follows_a_failed_block_waits_for_it() {
        let mut world = World::new();
        world.put(0, 1);
        world.drive();
        // The first turn fails. A batch that was sent meanwhile comes into the next one.
        assert_eq!(world.turn(true), [0]);
        let later = world.sender.queues[0].mailbox.clone();
        world.put(1, 1);
        let batch = world.sender.queues[0].batches[1].batch.clone();
        world.sender.queues[0].batches[1].answer =
            Some(later.send(|reply| Task::KafkaEvents(CountKafkaEvents { batch, reply })).unwrap());
        assert_eq!(world.turn(false), [] as [u64; 0]);
        world.drive();
        assert_eq!((world.refusal, world.done.len()), (Some(Refusal::ReadFailed), 0));
        world.drive();
        assert_eq!(world.turn(false), [0, 1]);
        world.drive();
        assert_eq!(world.done, [0, 1]);
    }

    #[test]
    fn blocks_of_one_turn_are_in_order_among_themselves() {
        let mut world = World::new();
        (0..3).for_each(|chunk| world.put(chunk, 1));
        world.drive();
        assert_eq!(world.turn(true), [0, 1, 2]);
        world.drive();
        world.drive();
        assert_eq!(world.turn(false), [0, 1, 2]);
        world.drive();
        assert_eq!(world.done, [0, 1, 2]);
    }
}
