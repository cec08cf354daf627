//! The mailbox of a writer. It is bounded by events, since a message may have one or ten thousand, and by the bytes of
//! all writers together, waiting or in a turn.

use super::command::{Awaited, Reply};
use super::refusal::Refusal;
use super::task::Task;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sending side, one for each writer.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Task>,
    queued: Arc<AtomicUsize>,
    limit: usize,
    bytes: Arc<TaskBytes>,
}

/// The bytes of the tasks of all writers, from sending until their turn has ended. One limit for all: a share for each
/// writer would be less than a large batch. Bytes, not events, since keys and ids can be long.
#[derive(Debug)]
pub(super) struct TaskBytes {
    held: AtomicUsize,
    limit: usize,
}

/// The receiving side.
pub(super) struct Inbox {
    pub receiver: Receiver<Task>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<TaskBytes>,
}

/// A mailbox for at most `limit` events.
pub(super) fn mailbox(limit: usize, bytes: &Arc<TaskBytes>) -> (Mailbox, Inbox) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let queued = Arc::new(AtomicUsize::new(0));
    (
        Mailbox { sender, queued: queued.clone(), limit, bytes: bytes.clone() },
        Inbox { receiver, queued, bytes: bytes.clone() },
    )
}

/// Adds to a counter within its limit. More than the limit is admitted alone, and zero always.
fn add(held: &AtomicUsize, more: usize, limit: usize) -> Result<(), Refusal> {
    let added = held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
        let sum = held.saturating_add(more);
        (more == 0 || held == 0 || sum <= limit).then_some(sum)
    });
    added.map(drop).map_err(|_| Refusal::Busy)
}

impl TaskBytes {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes the bytes of tasks that belong together, so that the first does not keep the others out.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Refusal> {
        add(&self.held, bytes, self.limit)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Mailbox {
    /// Puts a task in, or refuses it at once if there is no room. The receiver gets the answer.
    pub(super) fn send<T>(&self, task: impl FnOnce(Reply<T>) -> Task) -> Result<Awaited<T>, Refusal> {
        let (reply, answer) = Reply::channel();
        self.put(task(reply))?;
        Ok(answer)
    }

    /// The same for a task whose bytes are taken already. They are given back if it is refused.
    pub(super) fn send_taken<T>(&self, task: impl FnOnce(Reply<T>) -> Task) -> Result<Awaited<T>, Refusal> {
        let (reply, answer) = Reply::channel();
        self.put_taken(task(reply))?;
        Ok(answer)
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        // It takes no room, so it is refused only while the service stops.
        let _ = self.put(Task::Wake);
    }

    fn put(&self, task: Task) -> Result<(), Refusal> {
        self.bytes.take(task.bytes())?;
        self.put_taken(task)
    }

    fn put_taken(&self, task: Task) -> Result<(), Refusal> {
        let bytes = task.bytes();
        let sent = add(&self.queued, task.weight(), self.limit)
            .and_then(|()| self.sender.send(task).map_err(|_| Refusal::Stopping));
        if sent.is_err() {
            self.bytes.give_back(bytes);
        }
        sent
    }

    pub(super) fn depth(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Records that a task was taken out.
    pub(super) fn taken(&self, task: &Task) {
        self.queued.fetch_sub(task.weight(), Ordering::AcqRel);
    }

    /// Records that the turn of tasks with this many bytes has ended.
    pub(super) fn ended(&self, bytes: usize) {
        self.bytes.give_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::count::CountEvents;
    use super::super::erase::EraseUser;
    use super::super::event_batch::EventBatchBuilder;
    use super::super::event_batch::WriterMap;
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Policy;
    use crate::model::ShardSet;
    use crate::model::{DaId, Event, Kind, RuleSet, UserId};
    use crate::store::ChangedBy;

    /// A task with events of one writer, and its bytes.
    fn task(events: usize) -> (Task, usize) {
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
        let (_, batch) = builder.into_batches().next().unwrap();
        let task = Task::Events(CountEvents { batch, reply: Reply::channel().0 });
        let bytes = task.bytes();
        (task, bytes)
    }

    #[test]
    fn bytes_are_held_until_the_turn_ends_and_keep_out_nothing_that_has_none() {
        let (large, bytes) = task(1_000);
        let held = Arc::new(TaskBytes::new(bytes / 2));
        let (mailbox, inbox) = mailbox(10, &held);
        let (other, _other_inbox) = super::mailbox(10, &held);
        mailbox.put(large).unwrap();
        let erase = |reply| Task::Erase(EraseUser { user: "u".into(), by: ChangedBy::default(), reply });
        assert_eq!(mailbox.put(task(1).0), Err(Refusal::Busy));
        assert_eq!(other.put(task(1).0), Err(Refusal::Busy), "the bytes are those of all writers");
        other.send(erase).unwrap();
        mailbox.put(Task::Wake).unwrap();
        let taken = inbox.receiver.recv().unwrap();
        inbox.taken(&taken);
        drop(taken);
        assert_eq!((mailbox.put(task(1).0), held.held()), (Err(Refusal::Busy), bytes), "its turn has not ended");
        inbox.ended(bytes);
        mailbox.put(task(1).0).unwrap();
    }

    #[test]
    fn what_is_refused_for_its_events_gives_back_its_bytes() {
        let held = Arc::new(TaskBytes::new(1 << 20));
        let (mailbox, _inbox) = mailbox(3, &held);
        let (first, bytes) = task(2);
        mailbox.put(first).unwrap();
        assert_eq!((mailbox.put(task(2).0), held.held()), (Err(Refusal::Busy), bytes));
        let (second, more) = task(2);
        held.take(more).unwrap();
        assert_eq!((mailbox.put_taken(second), held.held()), (Err(Refusal::Busy), bytes));
    }
}
