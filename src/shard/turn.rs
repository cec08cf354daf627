//! One turn of a writer: commands and fired timers in, one write and the answers out.

use super::command::{Calls, TurnContext, TurnState};
use super::ended_caps::EndedCaps;
use super::task::Task;
use super::working_set::{TurnOutcome, WorkingSet};
use crate::store::{Commit, DueRow};
use hashbrown::HashSet;
use std::ops::Range;

/// The input of a turn.
pub(super) struct TurnInput<'b> {
    pub context: TurnContext<'b>,
    pub tasks: &'b [Task],
    pub fired: &'b [DueRow],
    /// Row keys of logs to judge again.
    pub recheck: &'b [Vec<u8>],
}

/// Runs commands, fired timers and logs to judge again through the engine, and puts all changes into `commit`. A row
/// that cannot be read affects its own user: commands for that user are refused, all others run. Blocks on disk.
pub(super) fn run_turn(input: &TurnInput<'_>, ended: &mut EndedCaps, commit: &mut Commit<'_>) -> TurnOutcome {
    let context = input.context;
    let (mut calls, unreadable_calls) = known_calls(input);
    let room = input.tasks.iter().map(Task::row_count).sum::<usize>() + input.fired.len() + input.recheck.len();
    let mut set = WorkingSet::new(context.policy, context.now, room);
    let (slots, slots_of) = gather(input, &calls, &mut set);
    set.load(context.store, || hashes(input, &calls));
    for row_key in unreadable_calls {
        set.set_unreadable(row_key);
    }
    let mut newly_capped = Vec::with_capacity(input.tasks.len());
    for (number, (task, range)) in input.tasks.iter().zip(slots_of).enumerate() {
        let mut state = TurnState { context, set: &mut set, calls: &mut calls, commit, task: number as u32 };
        task.run(&slots[range], &mut state);
        newly_capped.push(set.newly_capped());
    }
    for (task, newly_capped) in input.tasks.iter().zip(newly_capped) {
        task.settle(newly_capped, &set);
    }
    let mut outcome = TurnOutcome::default();
    set.finish(context.store, ended, commit, &mut outcome);
    for (task, over) in std::mem::take(&mut outcome.over.told) {
        input.tasks[task as usize].tell_over(over);
    }
    outcome
}

/// Reads the known calls by their ids. Returns them with the row keys of calls that cannot be read.
fn known_calls<'b>(input: &TurnInput<'b>) -> (Calls, Vec<&'b [u8]>) {
    let row_keys: Vec<&'b [u8]> = input.tasks.iter().filter_map(Task::call_row).collect();
    if row_keys.is_empty() {
        return (Calls::new(), Vec::new());
    }
    let mut unreadable = Vec::new();
    let rows =
        input.context.store.reservations().get_many(row_keys.iter().copied(), input.context.now, &mut unreadable);
    let unreadable = unreadable.into_iter().map(|number| row_keys[number]).collect();
    let calls = row_keys.into_iter().zip(rows).filter_map(|(key, row)| Some((key.to_vec(), row?))).collect();
    (calls, unreadable)
}

/// Hashes of the events of the turn, and of those whose reservations it may make or release.
fn hashes(input: &TurnInput<'_>, calls: &Calls) -> HashSet<u64> {
    let mut hashes = HashSet::new();
    for task in input.tasks {
        task.hashes(calls, &mut hashes);
    }
    hashes
}

/// Adds everything that the turn touches to the working set. Returns the slots of the commands, by command.
fn gather<'b>(input: &TurnInput<'b>, calls: &Calls, set: &mut WorkingSet<'b>) -> (Vec<u32>, Vec<Range<usize>>) {
    let mut slots = Vec::with_capacity(input.tasks.iter().map(Task::row_count).sum());
    let mut slots_of = Vec::with_capacity(input.tasks.len());
    for task in input.tasks {
        let first = slots.len();
        task.gather(calls, set, &mut slots);
        slots_of.push(first..slots.len());
    }
    for row in input.fired {
        set.take_fired(&row.row_key);
    }
    for row_key in input.recheck {
        set.take_recheck(row_key);
    }
    (slots, slots_of)
}
