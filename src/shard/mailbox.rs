//! The way into a writer: bounded by events, not by messages, for a message may hold one or ten thousand.

use super::command::{Awaited, Reply, Task};
use super::health::Refusal;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sending side, one a writer.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Task>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
    /// Whatever the number of events: keys and ids can be long.
    limit_bytes: usize,
}

/// The writer's side.
pub(super) struct Inbox {
    pub receiver: Receiver<Task>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

/// A mailbox for at most `limit` events, which have at most `limit_bytes`.
pub(super) fn mailbox(limit: usize, limit_bytes: usize) -> (Mailbox, Inbox) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let queued = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    (
        Mailbox { sender, queued: queued.clone(), bytes: bytes.clone(), limit, limit_bytes },
        Inbox { receiver, queued, bytes },
    )
}

impl Mailbox {
    /// Puts a task in, or gives it up at once where there is no room; what comes of it is told by the receiver.
    pub(super) fn send<T>(&self, task: impl FnOnce(Reply<T>) -> Task) -> Result<Awaited<T>, Refusal> {
        let (reply, answer) = Reply::channel();
        self.put(task(reply))?;
        Ok(answer)
    }

    /// Has the writer look around.
    pub(super) fn wake(&self) {
        // It can only be gone where the service stops.
        let _ = self.put(Task::Wake);
    }

    fn put(&self, task: Task) -> Result<(), Refusal> {
        let (events, bytes) = (task.weight(), task.bytes());
        // What is larger than the mailbox goes in alone.
        let room = |add: usize, most: usize| move |held: usize| (held == 0 || held + add <= most).then_some(held + add);
        if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(bytes, self.limit_bytes)).is_err() {
            return Err(Refusal::Busy);
        }
        if self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(events, self.limit)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(Refusal::Busy);
        }
        self.sender.send(task).map_err(|_| Refusal::Stopping)
    }

    /// Bytes of what is in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn depth(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Says that a task was taken out.
    pub(super) fn taken(&self, task: &Task) {
        self.queued.fetch_sub(task.weight(), Ordering::AcqRel);
        self.bytes.fetch_sub(task.bytes(), Ordering::AcqRel);
    }
}
