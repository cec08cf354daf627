//! The way into a writer: bounded by events, not by messages, for a message may hold one or ten thousand.

use super::health::Refusal;
use super::task::{Awaited, Reply, Task};
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// A mailbox holds at most so many bytes of events, whatever their number: keys and ids can be long.
const MAILBOX_BYTES: usize = 64 << 20;

/// The sending side, one a writer.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Task>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The writer's side.
pub(super) struct Inbox {
    pub receiver: Receiver<Task>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

/// A mailbox for at most `limit` events.
pub(super) fn mailbox(limit: usize) -> (Mailbox, Inbox) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let queued = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    (Mailbox { sender, queued: queued.clone(), bytes: bytes.clone(), limit }, Inbox { receiver, queued, bytes })
}

impl Mailbox {
    /// Puts a task in, or gives it up at once where there is no room; what comes of it is told by the receiver.
    pub(super) fn send<T>(&self, task: impl FnOnce(Reply<T>) -> Task) -> Result<Awaited<T>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.put(task(reply))?;
        Ok(answer)
    }

    /// Has the writer look around.
    pub(super) fn wake(&self) {
        // It can only be gone where the service stops.
        let _ = self.put(Task::Look);
    }

    fn put(&self, task: Task) -> Result<(), Refusal> {
        let (events, bytes) = (task.weight(), task.bytes());
        // What is larger than the mailbox goes in alone.
        let room = |add: usize, most: usize| move |held: usize| (held == 0 || held + add <= most).then_some(held + add);
        if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(bytes, MAILBOX_BYTES)).is_err() {
            return Err(Refusal::Busy);
        }
        if self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(events, self.limit)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(Refusal::Busy);
        }
        self.sender.send(task).map_err(|_| Refusal::Stopping)
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
