//! The way into a writer: bounded by events, not by messages, for a message may hold one or ten thousand.

use super::block::EventBlock;
use super::health::Refusal;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// What a writer made of a block.
#[derive(Debug, Default)]
pub(super) struct BlockOutcome {
    pub counted: usize,
    pub duplicate: usize,
    pub late: usize,
    /// Row keys that went from not capped to capped, and until when.
    pub capped: Vec<(Box<[u8]>, crate::model::TsMs)>,
}

pub(super) type Reply = oneshot::Sender<Result<BlockOutcome, Refusal>>;

pub(super) struct Job {
    pub block: EventBlock,
    pub reply: Reply,
}

/// A mailbox holds at most so many bytes of events, whatever their number: keys and ids can be long.
const MAILBOX_BYTES: usize = 64 << 20;

/// The sending side, one a writer.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Job>,
    queued: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The writer's side.
pub(super) struct Inbox {
    pub receiver: Receiver<Job>,
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
    /// Puts a block in, or gives it up at once where there is no room.
    pub(super) fn send(&self, block: EventBlock) -> Result<oneshot::Receiver<Result<BlockOutcome, Refusal>>, Refusal> {
        let events = block.len();
        // What is larger than the mailbox goes in alone.
        let room = |add: usize, most: usize| move |held: usize| (held == 0 || held + add <= most).then_some(held + add);
        let bytes = block.bytes();
        if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(bytes, MAILBOX_BYTES)).is_err() {
            return Err(Refusal::Busy);
        }
        if self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, room(events, self.limit)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(Refusal::Busy);
        }
        let (reply, answer) = oneshot::channel();
        self.sender.send(Job { block, reply }).map_err(|_| Refusal::Stopping)?;
        Ok(answer)
    }

    pub(super) fn depth(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Says that a job was taken out.
    pub(super) fn taken(&self, job: &Job) {
        self.queued.fetch_sub(job.block.len(), Ordering::AcqRel);
        self.bytes.fetch_sub(job.block.bytes(), Ordering::AcqRel);
    }
}
