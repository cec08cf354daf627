//! What a writer can be asked to do. Each command is a struct that knows its weight, the rows it touches, how it runs
//! and who waits for its answer.

use super::refusal::Refusal;
use super::tally::Tally;
use super::tombstones::Tombstones;
use super::working_set::WorkingSet;
use crate::engine::Policy;
use crate::model::TsMs;
use crate::store::{Commit, ReservationRow, Store};
use hashbrown::{HashMap, HashSet};
use metrics::Histogram;
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
    pub(super) fn send(self) {
        if let Some(output) = self.output.into_inner() {
            let _ = self.sender.send(output);
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        let _ = self.sender.send(Err(refusal));
    }
}

/// The calls of a turn that are known, by their rows in `reservations`.
pub(super) type Calls = HashMap<Vec<u8>, ReservationRow>;

/// What a turn goes by.
#[derive(Clone, Copy)]
pub(super) struct TurnContext<'b> {
    pub store: &'b Store,
    pub policy: &'b Policy,
    pub tombstones: &'b Tombstones,
    pub now: TsMs,
    /// Seconds between a duplicate and the event that it repeats.
    pub duplicate_age: &'b Histogram,
}

/// What commands of one turn share while they run.
pub(super) struct TurnState<'t, 'b, 's> {
    pub context: TurnContext<'b>,
    pub set: &'t mut WorkingSet<'b>,
    /// The calls of `/reserve` that are known by their ids.
    pub calls: &'t mut Calls,
    pub commit: &'t mut Commit<'s>,
}

/// One thing to do for one user or, for a batch of events, for several.
pub(super) trait Command {
    type Output;

    fn into_reply(self) -> Reply<Self::Output>;

    /// Frees what it no longer needs once its turn has run; the reply may wait for the disk.
    fn drop_input(&mut self) {}

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

    /// How many events became what, once it has run.
    fn tally(&self) -> Option<Tally> {
        None
    }

    /// Called once the whole turn has run, with the slots that this command newly capped.
    fn settle(&self, _newly_capped: Vec<u32>, _set: &WorkingSet<'_>) {}
}
