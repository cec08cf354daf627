//! The commands of a writer. Each is a struct that knows its weight, the rows it touches, how it runs and where its
//! answer goes.

use super::over::OverKey;
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

/// The receiver of a command's answer, and the answer, which is sent once the command is durable.
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

    /// Refuses this command. The rest of its turn goes on.
    pub(super) fn set_refused(&self, refusal: Refusal) {
        self.output.set(Some(Err(refusal)));
    }

    /// Reads an output that was set.
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

    /// The receiver may be gone. What was done stays done.
    pub(super) fn send(self) {
        if let Some(output) = self.output.into_inner() {
            let _ = self.sender.send(output);
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        let _ = self.sender.send(Err(refusal));
    }
}

/// The known calls of a turn, by their rows in `reservations`.
pub(super) type Calls = HashMap<Vec<u8>, ReservationRow>;

/// The inputs of a turn.
#[derive(Clone, Copy)]
pub(super) struct TurnContext<'b> {
    pub store: &'b Store,
    pub policy: &'b Policy,
    pub tombstones: &'b Tombstones,
    pub now: TsMs,
    /// Seconds between a duplicate and the event that it repeats.
    pub duplicate_age: &'b Histogram,
}

/// The state that commands of one turn share.
pub(super) struct TurnState<'t, 'b, 's> {
    pub context: TurnContext<'b>,
    pub set: &'t mut WorkingSet<'b>,
    /// The calls of `/reserve` that are known by their ids.
    pub calls: &'t mut Calls,
    pub commit: &'t mut Commit<'s>,
    /// The number of the command in its turn.
    pub task: u32,
}

/// One command for one user or, as a batch of events, for several.
pub(super) trait Command {
    type Output;

    fn into_reply(self) -> Reply<Self::Output>;

    /// Frees what is not needed after its turn has run, while the reply waits for the disk.
    fn drop_input(&mut self) {}

    /// Its weight in events, in a mailbox and in a turn.
    fn weight(&self) -> usize {
        1
    }

    /// The minimum number of rows that it reads.
    fn row_count(&self) -> usize {
        1
    }

    /// Approximate bytes that it takes while it waits.
    fn bytes(&self) -> usize {
        0
    }

    /// Its row in `reservations`, if it has one.
    fn call_row(&self) -> Option<&[u8]> {
        None
    }

    /// Adds the logs that it touches to the working set, and their slots to `slots`.
    fn gather<'b>(&'b self, calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>);

    /// Hashes of the events whose reservations it may make, confirm or release.
    fn hashes(&self, calls: &Calls, hashes: &mut HashSet<u64>);

    /// Runs the engine; `slots` are those that [`Command::gather`] added. Sets the reply.
    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>);

    /// How many events had which result, once it has run.
    fn tally(&self) -> Option<Tally> {
        None
    }

    /// Called once the whole turn has run, with the slots that this command newly capped.
    fn settle(&self, _newly_capped: Vec<u32>, _set: &WorkingSet<'_>) {}

    /// Told of each key of its events that was capped when the event happened.
    fn tell_over(&self, _over: OverKey) {}
}
