//! What a writer can be asked to do, and what it answers.

use super::event_batch::EventBatch;
use super::health::{ROW_UNREADABLE, Refusal};
use super::partition_sender::KafkaBatch;
use super::reserve::{ReleaseCall, ReserveCall, ReserveOutcome};
use crate::model::TsMs;
use crate::store::Erasure;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The code of an event that is rejected for its kind: one of its logs has as many as a log may.
pub const TOO_MANY_KINDS: &str = "too_many_kinds";

/// A number of an event that was pulled and not counted, and the code that says why.
pub(super) type LeftOut = (u32, &'static str);

/// What a writer made of a block.
#[derive(Debug, Default)]
pub(super) struct BatchOutcome {
    pub counted: usize,
    pub duplicate: usize,
    pub late: usize,
    pub erased: usize,
    /// The indices of those that were rejected for their kind.
    pub too_many_kinds: Vec<u32>,
    /// Row keys that went from not capped to capped, and until when.
    pub capped: Vec<(Box<[u8]>, TsMs)>,
    /// The numbers of the events that were refused, for something of their users cannot be read.
    pub unreadable: Vec<u32>,
}

impl BatchOutcome {
    /// What was not counted and never will be.
    pub(super) fn left_out(&self) -> impl Iterator<Item = LeftOut> {
        let kinds = self.too_many_kinds.iter().map(|&number| (number, TOO_MANY_KINDS));
        kinds.chain(self.unreadable.iter().map(|&number| (number, ROW_UNREADABLE)))
    }
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;
/// Where it comes from.
pub(super) type Awaited<T> = oneshot::Receiver<Result<T, Refusal>>;

/// Something to do for one user or, in a block, for several.
pub(super) enum Task {
    Events(EventBatch, Reply<BatchOutcome>),
    /// Shared, for whoever sent it sends it again where it is refused.
    KafkaEvents(Arc<KafkaBatch>, Reply<Vec<LeftOut>>),
    Reserve(Box<ReserveCall>, Reply<ReserveOutcome>),
    Release(Box<ReleaseCall>, Reply<usize>),
    /// A turn of its own: what it removes is not known before.
    Erase(Box<str>, Reply<Erasure>),
    /// Nobody waits, but something changed: the rules.
    Wake,
}

impl Task {
    /// The events that it brings, if it is of that sort.
    pub(super) fn batch(&self) -> Option<&EventBatch> {
        match self {
            Self::Events(batch, _) => Some(batch),
            Self::KafkaEvents(pulled, _) => Some(&pulled.events),
            _ => None,
        }
    }

    /// How many events it is worth in a mailbox.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Events(batch, _) => batch.len(),
            Self::KafkaEvents(pulled, _) => pulled.events.len(),
            Self::Reserve(call, _) => 1 + call.candidates.len(),
            Self::Release(..) | Self::Erase(..) => 1,
            Self::Wake => 0,
        }
    }

    /// How many rows it reads at least.
    pub(super) fn keys(&self) -> usize {
        match self {
            Self::Events(batch, _) => batch.keys().len(),
            Self::KafkaEvents(pulled, _) => pulled.events.keys().len(),
            Self::Reserve(call, _) => call.keys.len(),
            _ => 1,
        }
    }

    /// Bytes that it holds, mostly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Events(batch, _) => batch.bytes(),
            Self::KafkaEvents(pulled, _) => pulled.events.bytes(),
            Self::Reserve(call, _) => 2 * call.keys.bytes(),
            Self::Release(..) | Self::Erase(..) | Self::Wake => 0,
        }
    }

    /// Whether it takes a turn of its own.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Erase(..))
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Events(_, reply) => refuse(reply, refusal),
            Self::KafkaEvents(_, reply) => refuse(reply, refusal),
            Self::Reserve(_, reply) => refuse(reply, refusal),
            Self::Release(_, reply) => refuse(reply, refusal),
            Self::Erase(_, reply) => refuse(reply, refusal),
            Self::Wake => {}
        }
    }

    /// The answer of a task that was done.
    pub(super) fn answer(self, done: Done) -> Option<Answer> {
        match (self, done) {
            (Self::Events(_, reply), Done::Events(outcome)) => Some(Answer::Events(reply, outcome)),
            (Self::KafkaEvents(_, reply), Done::Events(outcome)) => {
                Some(Answer::KafkaEvents(reply, outcome.left_out().collect()))
            }
            (Self::Reserve(_, reply), Done::Reserve(outcome)) => Some(Answer::Reserve(reply, outcome)),
            (Self::Release(_, reply), Done::Release(outcome)) => Some(Answer::Release(reply, outcome)),
            (Self::Erase(_, reply), Done::Erase(outcome)) => Some(Answer::Erase(reply, outcome)),
            (task, Done::Unreadable) => {
                task.refuse(Refusal::RowUnreadable);
                None
            }
            _ => None,
        }
    }
}

/// What came of a task.
#[derive(Debug)]
pub(super) enum Done {
    Events(BatchOutcome),
    Reserve(ReserveOutcome),
    Release(usize),
    Erase(Erasure),
    /// Something of its user cannot be read.
    Unreadable,
    Nothing,
}

/// An answer that waits for the disk.
pub(super) enum Answer {
    Events(Reply<BatchOutcome>, BatchOutcome),
    /// With the events that were left out.
    KafkaEvents(Reply<Vec<LeftOut>>, Vec<LeftOut>),
    Reserve(Reply<ReserveOutcome>, ReserveOutcome),
    Release(Reply<usize>, usize),
    Erase(Reply<Erasure>, Erasure),
}

impl Answer {
    /// Who asked may be gone: what was done is done all the same.
    pub(super) fn send(self) {
        match self {
            Self::Events(reply, outcome) => drop(reply.send(Ok(outcome))),
            Self::KafkaEvents(reply, left_out) => drop(reply.send(Ok(left_out))),
            Self::Reserve(reply, outcome) => drop(reply.send(Ok(outcome))),
            Self::Release(reply, outcome) => drop(reply.send(Ok(outcome))),
            Self::Erase(reply, outcome) => drop(reply.send(Ok(outcome))),
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Events(reply, _) => refuse(reply, refusal),
            Self::KafkaEvents(reply, _) => refuse(reply, refusal),
            Self::Reserve(reply, _) => refuse(reply, refusal),
            Self::Release(reply, _) => refuse(reply, refusal),
            Self::Erase(reply, _) => refuse(reply, refusal),
        }
    }
}

fn refuse<T>(reply: Reply<T>, refusal: Refusal) {
    let _ = reply.send(Err(refusal));
}
