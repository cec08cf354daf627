//! One turn of a writer: tasks and fired timers in, one write and the answers out.

use super::block::EventBlock;
use super::hand::Hand;
use super::reserve::{Calls, run_release, run_reserve};
use super::task::{BlockOutcome, Done, Task};
use super::tombstones::Tombstones;
use crate::engine::{Outcome, Policy, count};
use crate::model::{CapKey, DaId, TsMs};
use crate::store::{DueRow, RowKey, Store, Turn};
use hashbrown::HashSet;
use metrics::Histogram;

/// What a turn did besides writing.
#[derive(Debug, Default)]
pub(super) struct TurnOutcome {
    /// One for each task, in order.
    pub done: Vec<Done>,
    pub caps_started: u64,
    pub caps_ended: u64,
    /// Timers set, for the writer's own alarm: row key's shard byte and instant.
    pub timers_added: Vec<(u8, TsMs)>,
}

/// What a turn goes by.
pub(super) struct TurnInput<'b> {
    pub store: &'b Store,
    pub policy: &'b Policy,
    pub tombstones: &'b Tombstones,
    pub tasks: &'b [Task],
    pub fired: &'b [DueRow],
    /// Row keys of logs to judge anew.
    pub recheck: &'b [Vec<u8>],
    pub now: TsMs,
    /// How far a duplicate lies from the event that it repeats, in seconds.
    pub duplicate_age: &'b Histogram,
}

/// Runs the engine over tasks, fired timers and logs to judge anew, and puts all that changes into `turn`. Blocks on
/// disk. What cannot be read costs its own users: what is asked of them is refused, and everybody else's is done.
pub(super) fn run_turn(input: &TurnInput<'_>, turn: &mut Turn<'_>) -> TurnOutcome {
    let mut spoilt_calls = Vec::new();
    let mut calls = known_calls(input, &mut spoilt_calls);
    let room = input.tasks.iter().map(Task::keys).sum::<usize>() + input.fired.len() + input.recheck.len();
    let mut hand = Hand::new(input.policy, input.now, room);
    let slots = gather(input, &calls, &mut hand);
    hand.load(input.store, || wanted(input, &calls));
    spoilt_calls.into_iter().for_each(|row_key| hand.set_unreadable(row_key));
    let mut outcome = TurnOutcome::default();
    let mut newly_capped = Vec::new();
    let mut first = 0;
    for task in input.tasks {
        let done = match task {
            Task::Events(block, _) => {
                let slots = &slots[first..first + block.keys().len()];
                first += slots.len();
                Done::Events(count_block(input, block, slots, &mut hand))
            }
            Task::Pulled(pulled, _) => {
                let slots = &slots[first..first + pulled.events.keys().len()];
                first += slots.len();
                turn.put_pulled(&pulled.mark, pulled.next);
                let outcome = count_block(input, &pulled.events, slots, &mut hand);
                for (number, code) in outcome.left_out() {
                    if let Some(offset) = pulled.offset_of(number) {
                        turn.put_aside(&pulled.mark, offset, code);
                    }
                }
                Done::Events(outcome)
            }
            Task::Reserve(call, _) => {
                let slots = &slots[first..first + call.keys.len()];
                first += slots.len();
                if hand.is_unreadable(&call.row_key) {
                    outcome.done.push(Done::Unreadable);
                    newly_capped.push(Vec::new());
                    continue;
                }
                Done::Reserve(run_reserve(call, slots, &mut hand, &mut calls, turn))
            }
            Task::Release(call, _) if hand.is_unreadable(&call.row_key) => Done::Unreadable,
            Task::Release(call, _) => Done::Release(run_release(call, &mut hand, &calls)),
            Task::Erase(..) | Task::Look => Done::Nothing,
        };
        newly_capped.push(hand.newly_capped());
        outcome.done.push(done);
    }
    // Told as it stands after the turn: a later event may have extended the cap, or a release have ended it.
    for (done, mut capped) in outcome.done.iter_mut().zip(newly_capped) {
        if let Done::Events(block) = done {
            capped.sort_unstable();
            capped.dedup();
            let caps = capped.into_iter().filter_map(|slot| hand.cap_of(slot));
            block.capped = caps.map(|(row_key, until)| (row_key.into(), until)).collect();
        }
    }
    hand.finish(input.store, turn, &mut outcome);
    outcome
}

/// Reads what is known of the ids of calls; the row keys of those that cannot be read go into `spoilt`.
fn known_calls<'b>(input: &TurnInput<'b>, spoilt: &mut Vec<&'b [u8]>) -> Calls {
    let mut row_keys: Vec<&'b [u8]> = Vec::new();
    for task in input.tasks {
        match task {
            Task::Reserve(call, _) => row_keys.push(&call.row_key),
            Task::Release(call, _) => row_keys.push(&call.row_key),
            _ => {}
        }
    }
    if row_keys.is_empty() {
        return Calls::new();
    }
    let mut unreadable = Vec::new();
    let rows = input.store.reservations(row_keys.iter().copied(), input.now, &mut unreadable);
    spoilt.extend(unreadable.into_iter().map(|number| row_keys[number]));
    row_keys.into_iter().zip(rows).filter_map(|(key, row)| Some((key.to_vec(), row?))).collect()
}

/// The hashes of the events that come in the turn, and of those whose reservations it may make or release.
fn wanted(input: &TurnInput<'_>, calls: &Calls) -> HashSet<u64> {
    let mut wanted = HashSet::new();
    for task in input.tasks {
        match task {
            Task::Reserve(call, _) => wanted.extend(call.hashes()),
            Task::Release(call, _) => wanted.extend(call.hashes(calls)),
            _ => wanted.extend(task.block().into_iter().flat_map(EventBlock::events).map(|event| event.entry.hash)),
        }
    }
    wanted
}

/// Takes in hand whatever the turn touches. Returns the slots of the row keys of blocks and calls, one after another.
fn gather<'b>(input: &TurnInput<'b>, calls: &Calls, hand: &mut Hand<'b>) -> Vec<u32> {
    let mut slots = Vec::with_capacity(input.tasks.iter().map(Task::keys).sum());
    for task in input.tasks {
        match task {
            Task::Events(..) | Task::Pulled(..) => {
                let keys = task.block().into_iter().flat_map(|block| block.keys().iter());
                slots.extend(keys.map(|row_key| hand.take(row_key)));
            }
            Task::Reserve(call, _) => slots.extend(call.keys.iter().map(|row_key| hand.take(row_key))),
            Task::Release(call, _) => {
                // What an earlier call of this very turn reserves is in hand by that.
                let das = calls.get(&call.row_key).map_or(&[][..], |known| &known.das);
                for da in das.iter().filter_map(|da| DaId::new(da.as_str()).ok()) {
                    hand.take(RowKey::new(&call.user, &CapKey::of_da(&da)).as_bytes().to_vec());
                }
            }
            Task::Erase(..) | Task::Look => {}
        }
    }
    input.fired.iter().for_each(|row| hand.take_fired(&row.row_key));
    input.recheck.iter().for_each(|row_key| hand.take_recheck(row_key));
    slots
}

/// Counts the events of a block.
fn count_block(input: &TurnInput<'_>, block: &EventBlock, slots: &[u32], hand: &mut Hand<'_>) -> BlockOutcome {
    let mut outcome = BlockOutcome::default();
    for event in block.events() {
        let keys = block.keys_of(event);
        let row_key = block.keys().get(keys.start);
        let erased = input.tombstones.until(input.store, row_key, input.policy, input.now);
        let (Ok(erased), false) = (erased, hand.is_unreadable(row_key)) else {
            outcome.unreadable.push(event.index);
            continue;
        };
        match count(input.policy, hand, &slots[keys], (event.kind, event.entry), erased, input.now) {
            Outcome::Counted => outcome.counted += 1,
            Outcome::Duplicate { age_ms } => {
                outcome.duplicate += 1;
                input.duplicate_age.record(age_ms as f64 / 1_000.0);
            }
            Outcome::Late => outcome.late += 1,
            Outcome::Erased => outcome.erased += 1,
            Outcome::TooManyKinds => outcome.too_many_kinds.push(event.index),
        }
    }
    outcome
}
