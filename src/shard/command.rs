//! What a writer can be asked to do. Each command is a struct that knows its weight, the rows it touches, how it runs
//! and who waits for its answer.

use super::count::{CountEvents, CountKafkaEvents};
use super::erase::EraseUser;
use super::health::Refusal;
use super::reserve::{Calls, ReleaseCall, ReserveCall};
use super::turn::TurnInput;
use super::working_set::WorkingSet;
use crate::store::Commit;
use hashbrown::HashSet;
use std::cell::Cell;
use tokio::sync::oneshot;

/// Where an answer is awaited.
pub(super) type Awaited<T> = oneshot::Receiver<Result<T, Refusal>>;

/// Who waits for a command, and what it is told once the command is durable.
pub(super) struct Reply<T> {
    sender: oneshot::Sender<Result<T, Refusal>>,
    output: Cell<Option<Result<T, Refusal>>>,
}

impl<T> Reply<T> {
    pub(super) fn channel() -> (Self, Awaited<T>) {
        let (sender, awaited) = oneshot::channel();
        (Self { sender, output: Cell::new(None) }, awaited)
    }

    /// Keeps the output until the turn is durable.
    pub(super) fn set(&self, output: T) {
        self.output.set(Some(Ok(output)));
    }

    /// The command itself is refused; the rest of its turn goes on.
    pub(super) fn set_refused(&self, refusal: Refusal) {
        self.output.set(Some(Err(refusal)));
    }

    /// Looks at an output that was set.
    pub(super) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let output = self.output.take();
        let result = output.as_ref().and_then(|output| output.as_ref().ok()).map(look);
        self.output.set(output);
        result
    }

    /// Changes an output that was set.
    pub(super) fn update(&self, change: impl FnOnce(&mut T)) {
        let mut output = self.output.take();
        if let Some(Ok(output)) = &mut output {
            change(output);
        }
        self.output.set(output);
    }

    /// Who asked may be gone: what was done is done all the same.
    fn send(self) {
        if let Some(output) = self.output.into_inner() {
            let _ = self.sender.send(output);
        }
    }

    fn refuse(self, refusal: Refusal) {
        let _ = self.sender.send(Err(refusal));
    }
}

/// What commands of one turn share while they run.
pub(super) struct TurnState<'t, 'b, 's> {
    pub input: &'t TurnInput<'b>,
    pub set: &'t mut WorkingSet<'b>,
    /// The calls of `/reserve` that are known by their ids.
    pub calls: &'t mut Calls,
    pub commit: &'t mut Commit<'s>,
}

/// One thing to do for one user or, for a batch of events, for several.
pub(super) trait Command {
    type Output;

    fn into_reply(self) -> Reply<Self::Output>;

    /// Events that it counts for in a mailbox and in a turn.
    fn weight(&self) -> usize {
        1
    }

    /// Rows that it reads, at least.
    fn row_count(&self) -> usize {
        1
    }

    /// Approximate bytes that it holds while it waits.
    fn bytes(&self) -> usize {
        0
    }

    /// Its row in `reservations`, where it has one.
    fn call_row(&self) -> Option<&[u8]> {
        None
    }

    /// Adds the logs that it touches to the working set, and their slots to `slots`.
    fn gather<'b>(&'b self, calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>);

    /// Hashes of the events whose reservations it may make, confirm or release.
    fn hashes(&self, calls: &Calls, hashes: &mut HashSet<u64>);

    /// Runs the engine; `slots` are those that [`Command::gather`] added. Sets the reply.
    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>);

    /// Called once the whole turn has run, with the slots that this command newly capped.
    fn settle(&self, _newly_capped: Vec<u32>, _set: &WorkingSet<'_>) {}
}

/// A command in a mailbox.
pub(super) enum Task {
    Events(CountEvents),
    KafkaEvents(CountKafkaEvents),
    Reserve(Box<ReserveCall>),
    Release(Box<ReleaseCall>),
    /// A turn of its own: what it removes is not known before.
    Erase(EraseUser),
    /// Nobody waits, but something changed: the rules.
    Wake,
}

/// Calls a method of the command in a task; a wake-up is no command.
macro_rules! dispatch {
    ($task:expr, $command:ident => $call:expr, wake => $wake:expr) => {
        match $task {
            Task::Events($command) => $call,
            Task::KafkaEvents($command) => $call,
            Task::Reserve($command) => $call,
            Task::Release($command) => $call,
            Task::Erase($command) => $call,
            Task::Wake => $wake,
        }
    };
}

impl Task {
    pub(super) fn weight(&self) -> usize {
        dispatch!(self, command => command.weight(), wake => 0)
    }

    pub(super) fn row_count(&self) -> usize {
        dispatch!(self, command => command.row_count(), wake => 0)
    }

    pub(super) fn bytes(&self) -> usize {
        dispatch!(self, command => command.bytes(), wake => 0)
    }

    pub(super) fn call_row(&self) -> Option<&[u8]> {
        dispatch!(self, command => command.call_row(), wake => None)
    }

    /// Whether it takes a turn of its own.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Erase(_))
    }

    pub(super) fn gather<'b>(&'b self, calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>) {
        dispatch!(self, command => command.gather(calls, set, slots), wake => ());
    }

    pub(super) fn hashes(&self, calls: &Calls, hashes: &mut HashSet<u64>) {
        dispatch!(self, command => command.hashes(calls, hashes), wake => ());
    }

    pub(super) fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        dispatch!(self, command => command.run(slots, state), wake => ());
    }

    pub(super) fn settle(&self, newly_capped: Vec<u32>, set: &WorkingSet<'_>) {
        dispatch!(self, command => command.settle(newly_capped, set), wake => ());
    }

    /// Answers with the output of a turn that is durable.
    pub(super) fn acknowledge(self) {
        dispatch!(self, command => command.into_reply().send(), wake => ());
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        dispatch!(self, command => command.into_reply().refuse(refusal), wake => ());
    }
}
