//! One turn of a writer: jobs and fired timers in, one write and the answers out.

use super::block::EventBlock;
use super::mailbox::BlockOutcome;
use crate::engine::{Outcome, Policy, capped_until, classify, plan_cap};
use crate::model::{Entry, Log, TsMs};
use crate::store::{DueRow, LogRow, RowKey, Store, StoreError, Turn};
use hashbrown::HashMap;

/// A log in hand, as it will be written.
struct Slot<'a> {
    row_key: &'a [u8],
    log: Log,
    /// Until when the key is capped by `log`.
    until: Option<TsMs>,
    may_cap: bool,
    dirty: bool,
    fired: bool,
    /// Judged anew without an event.
    recheck: bool,
}

/// What a turn did besides writing.
#[derive(Debug, Default)]
pub(super) struct TurnOutcome {
    /// One for each block, in order.
    pub blocks: Vec<BlockOutcome>,
    pub caps_started: u64,
    pub caps_ended: u64,
    /// Timers set, for the writer's own alarm: row key's shard byte and instant.
    pub timers_added: Vec<(u8, TsMs)>,
}

/// Runs the engine over blocks, fired timers and logs to judge anew, and puts all that changes into `turn`. Blocks on
/// disk.
pub(super) fn run_turn<'b>(
    store: &Store,
    policy: &Policy,
    blocks: impl Iterator<Item = &'b EventBlock> + Clone,
    fired: &'b [DueRow],
    recheck: &'b [Vec<u8>],
    now: TsMs,
    turn: &mut Turn<'_>,
) -> Result<TurnOutcome, StoreError> {
    let mut hand = Hand::gather(blocks.clone(), fired, recheck);
    hand.load(store, policy, now)?;
    let mut outcome = TurnOutcome::default();
    let mut newly_capped = Vec::new();
    let mut first_key = 0;
    for block in blocks {
        let slots = &hand.slot_of_key[first_key..first_key + block.key_count()];
        let (counts, capped) = count_block(policy, block, slots, &mut hand.slots, &mut hand.key, now);
        outcome.blocks.push(counts);
        newly_capped.push(capped);
        first_key += block.key_count();
    }
    // Told as it stands after the turn: a later event may have extended the cap.
    for (block, capped) in outcome.blocks.iter_mut().zip(newly_capped) {
        let slots = capped.iter().map(|&number| &hand.slots[number as usize]);
        block.capped = slots.map(|slot| (slot.row_key.into(), slot.until.unwrap_or_default())).collect();
    }
    hand.finish(store, now, turn, &mut outcome)?;
    Ok(outcome)
}

/// The logs that a turn touches, each once.
struct Hand<'a> {
    slots: Vec<Slot<'a>>,
    /// The slot of each row key of each block, one after another.
    slot_of_key: Vec<u32>,
    key: String,
}

impl<'a> Hand<'a> {
    fn gather(
        blocks: impl Iterator<Item = &'a EventBlock> + Clone,
        fired: &'a [DueRow],
        recheck: &'a [Vec<u8>],
    ) -> Self {
        let keys = blocks.clone().map(EventBlock::key_count).sum::<usize>();
        let all = keys + fired.len() + recheck.len();
        let mut slots: Vec<Slot<'a>> = Vec::with_capacity(all);
        let mut index: HashMap<&[u8], u32> = HashMap::with_capacity(all);
        let mut slot_of = |row_key: &'a [u8], slots: &mut Vec<Slot<'a>>| {
            *index.entry(row_key).or_insert_with(|| {
                slots.push(Slot {
                    row_key,
                    log: Log::default(),
                    until: None,
                    may_cap: false,
                    dirty: false,
                    fired: false,
                    recheck: false,
                });
                slots.len() as u32 - 1
            })
        };
        let mut slot_of_key = Vec::with_capacity(keys);
        for block in blocks {
            slot_of_key.extend((0..block.key_count()).map(|number| slot_of(block.row_key(number), &mut slots)));
        }
        for row in fired {
            let slot = slot_of(&row.row_key, &mut slots);
            slots[slot as usize].fired = true;
        }
        for row_key in recheck {
            let slot = slot_of(row_key, &mut slots);
            slots[slot as usize].recheck = true;
        }
        Self { slots, slot_of_key, key: String::new() }
    }

    fn load(&mut self, store: &Store, policy: &Policy, now: TsMs) -> Result<(), StoreError> {
        let rows = store.logs(self.slots.iter().map(|slot| slot.row_key))?;
        for (slot, row) in self.slots.iter_mut().zip(rows) {
            let Some(LogRow { log, may_cap }) = row else { continue };
            slot.may_cap = may_cap;
            key_text(slot.row_key, &mut self.key);
            if !policy.is_void(&self.key, &log, now) {
                slot.until = capped_until(policy, &self.key, &log, now);
                slot.log = log;
            }
        }
        Ok(())
    }

    fn finish(
        self,
        store: &Store,
        now: TsMs,
        turn: &mut Turn<'_>,
        outcome: &mut TurnOutcome,
    ) -> Result<(), StoreError> {
        let mut touched: Vec<_> = self.slots.iter().filter(|slot| slot.dirty || slot.fired || slot.recheck).collect();
        // In the order of their keys: the write buffer finds the place of the next beside that of the last, which is
        // worth 14 % of the rate of large batches.
        touched.sort_unstable_by_key(|slot| slot.row_key);
        let may_hold = |slot: &&Slot<'_>| slot.may_cap || slot.fired;
        let mut held = store.cap_rows(touched.iter().copied().filter(may_hold).map(|slot| slot.row_key))?.into_iter();
        for slot in touched {
            let held = if may_hold(&slot) { held.next().flatten() } else { None };
            if held.is_none() && slot.until.is_none() && !slot.dirty {
                continue;
            }
            let plan = plan_cap(held, slot.until, slot.fired);
            // A log that was not capped before must say that `caps` may have its key.
            if slot.dirty || (plan.row.is_some() && !slot.may_cap) {
                turn.put_log(slot.row_key, &slot.log, plan.row.is_some());
            }
            turn.put_cap(slot.row_key, &plan, now);
            outcome.caps_started += u64::from(held.is_none() && plan.row.is_some());
            outcome.caps_ended += u64::from(held.is_some() && plan.row.is_none());
            outcome.timers_added.extend(plan.timer_add.map(|due| (slot.row_key[0], due)));
        }
        Ok(())
    }
}

fn key_text(row_key: &[u8], out: &mut String) {
    // Row keys are made of checked users and keys only.
    if RowKey::key_into(row_key, out).is_none() {
        out.clear();
    }
}

/// Counts the events of a block, and tells which slots became capped by them.
fn count_block(
    policy: &Policy,
    block: &EventBlock,
    slot_of_key: &[u32],
    slots: &mut [Slot<'_>],
    key: &mut String,
    now: TsMs,
) -> (BlockOutcome, Vec<u32>) {
    let mut outcome = BlockOutcome::default();
    let mut newly_capped = Vec::new();
    for event in block.events() {
        let keys = &slot_of_key[block.keys_of(event)];
        let da_log = &slots[keys[0] as usize].log;
        match classify(policy, da_log, event.kind, event.ts, event.hash, now) {
            Outcome::Duplicate => outcome.duplicate += 1,
            Outcome::Late => outcome.late += 1,
            Outcome::Counted => {
                outcome.counted += 1;
                for &number in keys {
                    let slot = &mut slots[number as usize];
                    let entry = Entry { ts: event.ts, hash: event.hash };
                    slot.log.insert(event.kind, entry, policy.history_limit());
                    slot.dirty = true;
                    key_text(slot.row_key, key);
                    let until = capped_until(policy, key, &slot.log, now);
                    if slot.until.is_none() && until.is_some() {
                        newly_capped.push(number);
                    }
                    slot.until = until;
                }
            }
        }
    }
    (outcome, newly_capped)
}
