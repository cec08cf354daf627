//! The command that erases a user. It takes a turn of its own, for what it removes is not known before.

use super::command::{Calls, Command, Reply, TurnState};
use super::working_set::WorkingSet;
use crate::store::{ChangedBy, Erasure};
use hashbrown::HashSet;

/// Removes everything that is held of a user.
pub(super) struct EraseUser {
    pub user: Box<str>,
    /// For the audit.
    pub by: ChangedBy,
    pub reply: Reply<Erasure>,
}

impl Command for EraseUser {
    type Output = Erasure;

    fn into_reply(self) -> Reply<Erasure> {
        self.reply
    }

    fn gather<'b>(&'b self, _calls: &Calls, _set: &mut WorkingSet<'b>, _slots: &mut Vec<u32>) {}

    fn hashes(&self, _calls: &Calls, _hashes: &mut HashSet<u64>) {}

    /// The writer erases in a turn of its own, without a working set.
    fn run(&self, _slots: &[u32], _state: &mut TurnState<'_, '_, '_>) {}
}
