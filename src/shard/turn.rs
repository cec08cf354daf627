//! One turn of a writer: tasks and fired timers in, one write and the answers out.

use super::event_batch::EventBatch;
use super::reserve::{Calls, run_release, run_reserve};
use super::task::{BatchOutcome, Done, Task};
use super::tombstones::Tombstones;
use super::working_set::WorkingSet;
use crate::engine::{Outcome, Policy, count};
use crate::model::{CapKey, DaId, TsMs};
use crate::store::{Commit, DueRow, RowKey, Store};
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
pub(super) fn run_turn(input: &TurnInput<'_>, commit: &mut Commit<'_>) -> TurnOutcome {
    let mut spoilt_calls = Vec::new();
    let mut calls = known_calls(input, &mut spoilt_calls);
    let room = input.tasks.iter().map(Task::keys).sum::<usize>() + input.fired.len() + input.recheck.len();
    let mut set = WorkingSet::new(input.policy, input.now, room);
    let slots = gather(input, &calls, &mut set);
    set.load(input.store, || wanted(input, &calls));
    spoilt_calls.into_iter().for_each(|row_key| set.set_unreadable(row_key));
    let mut outcome = TurnOutcome::default();
    let mut newly_capped = Vec::new();
    let mut first = 0;
    for task in input.tasks {
        let done = match task {
            Task::Events(batch, _) => {
                let slots = &slots[first..first + batch.keys().len()];
                first += slots.len();
                Done::Events(count_batch(input, batch, slots, &mut set))
            }
            Task::KafkaEvents(pulled, _) => {
                let slots = &slots[first..first + pulled.events.keys().len()];
                first += slots.len();
                commit.put_kafka_mark(&pulled.mark, pulled.next);
                let outcome = count_batch(input, &pulled.events, slots, &mut set);
                for (number, code) in outcome.left_out() {
                    if let Some(offset) = pulled.offset_of(number) {
                        commit.put_kafka_aside(&pulled.mark, offset, code);
                    }
                }
                Done::Events(outcome)
            }
            Task::Reserve(call, _) => {
                let slots = &slots[first..first + call.keys.len()];
                first += slots.len();
                if set.is_unreadable(&call.row_key) {
                    outcome.done.push(Done::Unreadable);
                    newly_capped.push(Vec::new());
                    continue;
                }
                Done::Reserve(run_reserve(call, slots, &mut set, &mut calls, commit))
            }
            Task::Release(call, _) if set.is_unreadable(&call.row_key) => Done::Unreadable,
            Task::Release(call, _) => Done::Release(run_release(call, &mut set, &calls)),
            Task::Erase(..) | Task::Wake => Done::Nothing,
        };
        newly_capped.push(set.newly_capped());
        outcome.done.push(done);
    }
    // Told as it stands after the turn: a later event may have extended the cap, or a release have ended it.
    for (done, mut capped) in outcome.done.iter_mut().zip(newly_capped) {
        if let Done::Events(batch) = done {
            capped.sort_unstable();
            capped.dedup();
            let caps = capped.into_iter().filter_map(|slot| set.cap_of(slot));
            batch.capped = caps.map(|(row_key, until)| (row_key.into(), until)).collect();
        }
    }
    set.finish(input.store, commit, &mut outcome);
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
    let rows = input.store.reservations().get_many(row_keys.iter().copied(), input.now, &mut unreadable);
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
            _ => wanted.extend(task.batch().into_iter().flat_map(EventBatch::events).map(|event| event.entry.hash)),
        }
    }
    wanted
}

/// Takes in hand whatever the turn touches. Returns the slots of the row keys of blocks and calls, one after another.
fn gather<'b>(input: &TurnInput<'b>, calls: &Calls, set: &mut WorkingSet<'b>) -> Vec<u32> {
    let mut slots = Vec::with_capacity(input.tasks.iter().map(Task::keys).sum());
    for task in input.tasks {
        match task {
            Task::Events(..) | Task::KafkaEvents(..) => {
                let keys = task.batch().into_iter().flat_map(|batch| batch.keys().iter());
                slots.extend(keys.map(|row_key| set.take(row_key)));
            }
            Task::Reserve(call, _) => slots.extend(call.keys.iter().map(|row_key| set.take(row_key))),
            Task::Release(call, _) => {
                // What an earlier call of this very turn reserves is in hand by that.
                let das = calls.get(&call.row_key).map_or(&[][..], |known| &known.das);
                for da in das.iter().filter_map(|da| DaId::new(da.as_str()).ok()) {
                    set.take(RowKey::new(&call.user, &CapKey::of_da(&da)).as_bytes().to_vec());
                }
            }
            Task::Erase(..) | Task::Wake => {}
        }
    }
    input.fired.iter().for_each(|row| set.take_fired(&row.row_key));
    input.recheck.iter().for_each(|row_key| set.take_recheck(row_key));
    slots
}

/// Counts the events of a block.
fn count_batch(input: &TurnInput<'_>, batch: &EventBatch, slots: &[u32], set: &mut WorkingSet<'_>) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    for event in batch.events() {
        let keys = batch.keys_of(event);
        let row_key = batch.keys().get(keys.start);
        let erased = input.tombstones.until(input.store, row_key, input.policy, input.now);
        let (Ok(erased), false) = (erased, set.is_unreadable(row_key)) else {
            outcome.unreadable.push(event.index);
            continue;
        };
        match count(input.policy, set, &slots[keys], (event.kind, event.entry), erased, input.now) {
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
