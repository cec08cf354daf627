//! The commands that a mailbox can hold.

use super::command::{Calls, Command, TurnState};
use super::count::{CountEvents, CountKafkaEvents};
use super::erase::EraseUser;
use super::over::OverKey;
use super::refusal::Refusal;
use super::reserve::{ReleaseCall, ReserveCall};
use super::tally::Tally;
use super::working_set::WorkingSet;
use hashbrown::HashSet;

/// A command in a mailbox.
pub(super) enum Task {
    Events(CountEvents),
    KafkaEvents(CountKafkaEvents),
    Reserve(Box<ReserveCall>),
    Release(Box<ReleaseCall>),
    /// Runs in a turn of its own: what it removes is not known beforehand.
    Erase(EraseUser),
    /// A wake-up without an answer: the rules have changed.
    Wake,
}

/// Calls a method of a task's command; a wake-up has none.
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
    pub(super) fn drop_input(&mut self) {
        dispatch!(self, command => command.drop_input(), wake => ());
    }

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

    /// Whether it needs a turn of its own.
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

    pub(super) fn tally(&self) -> Option<Tally> {
        dispatch!(self, command => command.tally(), wake => None)
    }

    pub(super) fn settle(&self, newly_capped: Vec<u32>, set: &WorkingSet<'_>) {
        dispatch!(self, command => command.settle(newly_capped, set), wake => ());
    }

    pub(super) fn tell_over(&self, over: OverKey) {
        dispatch!(self, command => command.tell_over(over), wake => ());
    }

    /// Sends the answer; the turn is durable.
    pub(super) fn acknowledge(self) {
        dispatch!(self, command => command.into_reply().send(), wake => ());
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        dispatch!(self, command => command.into_reply().refuse(refusal), wake => ());
    }
}
