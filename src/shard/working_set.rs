//! The logs that a turn touches, each once, as they will be written.

use super::ended_caps::EndedCaps;
use super::over::{OverFound, OverLedger, OverOutcome, OverSlot};
use crate::engine::{Logs, OverRule, Policy, capped_until, has_reservation, is_below_all_limits, over, plan_cap};
use crate::model::{CapBegan, CapKey, CapRow, Entry, Kind, Log, TsMs, UserId};
use crate::store::{Commit, Erasure, LogRow, RowKey, Store, is_from_before};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use std::borrow::Cow;
use std::hash::BuildHasher;

/// The effects of a turn besides its writes and answers.
#[derive(Debug, Default)]
pub(super) struct TurnOutcome {
    pub caps_started: u64,
    pub caps_ended: u64,
    /// Timers that were set, for the writer's alarm: the shard's byte of the row key, and the instant.
    pub timers_added: Vec<(u8, TsMs)>,
    /// By user, what it replaced or removed of what an unfinished erasure has left.
    pub replaced: HashMap<Box<str>, Erasure>,
    pub over: OverOutcome,
}

/// A log of the working set.
pub(super) struct Slot<'a> {
    row_key: Cow<'a, [u8]>,
    log: Log,
    /// When the cap by `log` ends.
    until: Option<TsMs>,
    /// Whether it was capped when it was read.
    was_capped: bool,
    may_cap: bool,
    dirty: bool,
    fired: bool,
    /// It is judged again without an event.
    recheck: bool,
    /// The log exists and cannot be read: `log` is meaningless.
    unreadable: bool,
    /// The log that an unfinished erasure left here: to everybody it is gone.
    erased: Option<Box<Log>>,
}

impl Slot<'_> {
    /// Whether `caps` may have a row for it.
    fn may_hold(&self) -> bool {
        self.may_cap || self.fired || self.recheck
    }

    /// Counts for the erasure that left this log what the turn takes from it: its cap, and the row if that is written.
    fn count_erased(&self, log: &Log, is_capped: bool, outcome: &mut TurnOutcome, now: TsMs) {
        let Some(user) = RowKey::user_of(&self.row_key) else { return };
        let erasure = outcome.replaced.entry(user.into()).or_default();
        erasure.caps += u64::from(is_capped);
        if self.dirty {
            erasure.add_log(&self.row_key, log, now);
        }
    }

    /// What happens to a cap whose log cannot be read: it lasts as long as was last known.
    fn keep_cap(&self, held: Option<CapRow>, commit: &mut Commit<'_>, outcome: &mut TurnOutcome, now: TsMs) {
        if !self.fired {
            return;
        }
        let until = held.map(|row| row.until).filter(|&until| until > now);
        let plan = plan_cap(held, until, true);
        commit.put_cap(&self.row_key, &plan, now);
        outcome.caps_ended += u64::from(held.is_some() && until.is_none());
        outcome.timers_added.extend(plan.timer_add.map(|due| (self.row_key[0], due)));
    }
}

/// The logs of a turn, each once.
pub(super) struct WorkingSet<'a> {
    policy: &'a Policy,
    now: TsMs,
    slots: Vec<Slot<'a>>,
    /// The slots before this one have their logs.
    loaded: usize,
    /// The slots that have their logs, in the order of their row keys.
    order: Vec<u32>,
    /// The slots by their row keys.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The slots that became capped since this was last taken.
    newly_capped: Vec<u32>,
    /// Events of keys that were capped when they happened.
    over: Vec<OverFound>,
    /// The prefixes of users with a log that cannot be read.
    unreadable: HashSet<Vec<u8>>,
    key: String,
}

impl<'a> WorkingSet<'a> {
    /// An empty set, with room for so many logs.
    pub(super) fn new(policy: &'a Policy, now: TsMs, room: usize) -> Self {
        Self {
            policy,
            now,
            slots: Vec::with_capacity(room),
            loaded: 0,
            order: Vec::new(),
            index: HashTable::with_capacity(room),
            hasher: DefaultHashBuilder::default(),
            newly_capped: Vec::new(),
            over: Vec::new(),
            unreadable: HashSet::new(),
            key: String::new(),
        }
    }

    pub(super) fn policy(&self) -> &'a Policy {
        self.policy
    }

    pub(super) fn now(&self) -> TsMs {
        self.now
    }

    /// Adds a log, once; [`WorkingSet::load`] reads it.
    pub(super) fn take(&mut self, row_key: impl Into<Cow<'a, [u8]>>) -> u32 {
        let row_key = row_key.into();
        let hash = self.hasher.hash_one(&*row_key);
        if let Some(&slot) = self.index.find(hash, |&slot| self.slots[slot as usize].row_key == row_key) {
            return slot;
        }
        let slot = self.slots.len() as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |&slot| hasher.hash_one(&*slots[slot as usize].row_key));
        self.slots.push(Slot {
            row_key,
            log: Log::default(),
            until: None,
            was_capped: false,
            may_cap: false,
            dirty: false,
            fired: false,
            recheck: false,
            unreadable: false,
            erased: None,
        });
        slot
    }

    /// Takes a log whose timer fired.
    pub(super) fn take_fired(&mut self, row_key: &'a [u8]) {
        let slot = self.take(row_key);
        self.slots[slot as usize].fired = true;
    }

    /// Takes a log to judge again.
    pub(super) fn take_recheck(&mut self, row_key: &'a [u8]) {
        let slot = self.take(row_key);
        self.slots[slot as usize].recheck = true;
    }

    /// The slot of a user's log, if it is in the set.
    pub(super) fn find(&self, user: &UserId<'_>, key: &CapKey<'_>) -> Option<u32> {
        self.find_row(RowKey::new(user, key).as_bytes())
    }

    fn find_row(&self, row_key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(row_key);
        self.index.find(hash, |&slot| &*self.slots[slot as usize].row_key == row_key).copied()
    }

    /// Reads the logs taken, and those that were reserved along with them: a command for an ad may confirm or release
    /// the ad's reservations. `wanted` are the hashes of such reservations. Blocks on disk.
    pub(super) fn load(&mut self, store: &Store, wanted: impl FnOnce() -> HashSet<u64>) {
        self.load_taken(store);
        let mut sections = self.slots.iter().flat_map(|slot| &slot.log.sections);
        if sections.all(|section| section.reservations.is_empty()) {
            return;
        }
        let wanted = wanted();
        let mut reserved: Vec<Vec<u8>> = Vec::new();
        for slot in &self.slots {
            let held = slot.log.sections.iter().flat_map(|section| &section.reservations);
            for held in held.filter(|held| wanted.contains(&held.hash)) {
                reserved.extend(held.keys.iter().map(|key| RowKey::sibling(&slot.row_key, key)));
            }
        }
        for row_key in reserved {
            self.take(row_key);
        }
        self.load_taken(store);
    }

    /// Whether a log of this user cannot be read: then the turn does nothing for the user.
    #[inline]
    pub(super) fn is_unreadable(&self, row_key: &[u8]) -> bool {
        !self.unreadable.is_empty() && self.unreadable.contains(RowKey::user_prefix(row_key))
    }

    /// Records that another row of this user cannot be read.
    pub(super) fn set_unreadable(&mut self, row_key: &[u8]) {
        self.unreadable.insert(RowKey::user_prefix(row_key).to_vec());
    }

    fn load_taken(&mut self, store: &Store) {
        // In the order of keys: neighbours are adjacent in memory and in files.
        let new = in_order(&self.slots, self.loaded);
        let mut unreadable = Vec::new();
        let rows =
            store.logs().get_in_order(new.iter().map(|&slot| &*self.slots[slot as usize].row_key), &mut unreadable);
        for slot in unreadable.into_iter().map(|number| new[number]) {
            let slot = &mut self.slots[slot as usize];
            slot.unreadable = true;
            self.unreadable.insert(RowKey::user_prefix(&slot.row_key).to_vec());
        }
        let erasing = store.erasing().users();
        for (&slot, row) in new.iter().zip(rows) {
            let Some(LogRow { log, may_cap }) = row else { continue };
            let slot = &mut self.slots[slot as usize];
            slot.may_cap = may_cap;
            if erasing.until(&slot.row_key).is_some_and(|until| is_from_before(&log, until)) {
                slot.erased = Some(Box::new(log));
                continue;
            }
            slot.log = log;
            key_text(&slot.row_key, &mut self.key);
            self.policy.refresh(&self.key, &mut slot.log, self.now);
            slot.until = capped_until(self.policy, &self.key, &slot.log, self.now);
            slot.was_capped = slot.until.is_some();
        }
        // Almost always all are new.
        self.order = if new.len() == self.slots.len() { new } else { in_order(&self.slots, 0) };
        self.loaded = self.slots.len();
    }

    /// The slots that became capped since the last call.
    pub(super) fn newly_capped(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.newly_capped)
    }

    /// The keys of an event that were capped when it happened, by the logs as they are before it is counted, and the rules that
    /// capped them; that which did for longest first.
    #[inline]
    pub(super) fn over(&mut self, slots: &[u32], kind: Kind, entry: Entry) -> Vec<(u32, OverRule)> {
        if slots.iter().all(|&at| is_below_all_limits(self.policy, &self.slots[at as usize].log, kind)) {
            return Vec::new();
        }
        self.find_over(slots, kind, entry)
    }

    fn find_over(&mut self, slots: &[u32], kind: Kind, entry: Entry) -> Vec<(u32, OverRule)> {
        let mut found = Vec::new();
        if has_reservation(&self.slots[slots[0] as usize].log, kind, entry) {
            return found;
        }
        for &at in slots {
            let slot = &self.slots[at as usize];
            key_text(&slot.row_key, &mut self.key);
            found.extend(over(self.policy, &self.key, &slot.log, kind, entry.ts).map(|rule| (at, rule)));
        }
        found.sort_by_key(|(_, rule)| std::cmp::Reverse(rule.capped_until));
        found
    }

    /// Notes an event that was counted although keys of it were capped.
    pub(super) fn note_over(&mut self, found: OverFound) {
        self.over.push(found);
    }

    /// The row key of a log, and when its cap ends, if it is capped.
    pub(super) fn cap_of(&self, slot: u32) -> Option<(&[u8], TsMs)> {
        let slot = &self.slots[slot as usize];
        Some((&slot.row_key, slot.until?))
    }

    /// Writes the changed logs, and their caps.
    pub(super) fn finish(
        self,
        store: &Store,
        ended: &mut EndedCaps,
        commit: &mut Commit<'_>,
        outcome: &mut TurnOutcome,
    ) {
        let slots = self.order.iter().map(|&number| (number, &self.slots[number as usize]));
        let touched: Vec<_> = slots.filter(|(_, slot)| slot.dirty || slot.fired || slot.recheck).collect();
        let may_hold = touched.iter().map(|(_, slot)| *slot).filter(|slot| slot.may_hold());
        let mut lost = Vec::new();
        let mut rows = store.caps().get_many(may_hold.map(|slot| &*slot.row_key), &mut lost);
        // Whatever that row says, it is written again, from the log. Its timer, if it has one, then finds that.
        lost.into_iter().for_each(|number| rows[number] = Some(CapRow { until: TsMs(0), due: TsMs(0), began: None }));
        if !self.over.is_empty() {
            outcome.over = self.settle_over(store, ended, &touched, &rows, commit);
        }
        let mut held = rows.into_iter();
        for (_, slot) in touched {
            let held = if slot.may_hold() { held.next().flatten() } else { None };
            if let Some(log) = &slot.erased {
                slot.count_erased(log, held.is_some(), outcome, self.now);
            }
            if slot.unreadable {
                slot.keep_cap(held, commit, outcome, self.now);
                continue;
            }
            if held.is_none() && slot.until.is_none() && !slot.dirty {
                continue;
            }
            let mut plan = plan_cap(held, slot.until, slot.fired);
            if held.is_none()
                && let Some(row) = &mut plan.row
            {
                row.began = Some(CapBegan { at: self.now, seq: 0, by_rules: slot.was_capped });
            }
            if plan.row.is_none()
                && let Some(held) = held
            {
                ended.add(&slot.row_key, held);
            }
            // The row of a log that was not capped before must say that `caps` may have its key.
            if slot.dirty || (plan.row.is_some() && !slot.may_cap) {
                commit.put_log(&slot.row_key, &slot.log, plan.row.is_some());
            }
            commit.put_cap(&slot.row_key, &plan, self.now);
            outcome.caps_started += u64::from(held.is_none() && plan.row.is_some());
            outcome.caps_ended += u64::from(held.is_some() && plan.row.is_none());
            outcome.timers_added.extend(plan.timer_add.map(|due| (slot.row_key[0], due)));
        }
    }
}

impl WorkingSet<'_> {
    /// Explains the events that are over, by the rows of `caps` as they are before this turn.
    fn settle_over(
        &self,
        store: &Store,
        ended: &EndedCaps,
        touched: &[(u32, &Slot<'_>)],
        rows: &[Option<CapRow>],
        commit: &mut Commit<'_>,
    ) -> OverOutcome {
        let mut wanted: HashMap<u32, Option<CapRow>> = HashMap::new();
        wanted.extend(self.over.iter().flat_map(|found| &found.keys).map(|(slot, _)| (*slot, None)));
        let mut rows = rows.iter();
        for (number, slot) in touched {
            let row = if slot.may_hold() { rows.next().copied().flatten() } else { None };
            if let Some(wanted) = wanted.get_mut(number) {
                *wanted = row;
            }
        }
        let ledger = OverLedger { store, policy: self.policy, ended, now: self.now };
        let slot = |number: u32| {
            let Slot { row_key, was_capped, .. } = &self.slots[number as usize];
            OverSlot { row_key, held: wanted.get(&number).copied().flatten(), was_capped: *was_capped }
        };
        ledger.settle(&self.over, slot, commit)
    }
}

impl Logs for WorkingSet<'_> {
    type At = u32;

    fn log(&self, at: u32) -> &Log {
        &self.slots[at as usize].log
    }

    #[inline]
    fn change(&mut self, at: u32, change: impl FnOnce(&mut Log)) {
        let slot = &mut self.slots[at as usize];
        change(&mut slot.log);
        slot.dirty = true;
        key_text(&slot.row_key, &mut self.key);
        let until = capped_until(self.policy, &self.key, &slot.log, self.now);
        if slot.until.is_none() && until.is_some() {
            self.newly_capped.push(at);
        }
        slot.until = until;
    }

    fn capped_until(&self, at: u32) -> Option<TsMs> {
        self.slots[at as usize].until
    }

    fn sibling(&self, at: u32, key: &str) -> Option<u32> {
        self.find_row(&RowKey::sibling(&self.slots[at as usize].row_key, key))
    }
}

/// The slots from one on, in the order of their row keys.
fn in_order(slots: &[Slot<'_>], from: usize) -> Vec<u32> {
    let mut order = Vec::with_capacity(slots.len() - from);
    for (slot, taken) in slots.iter().enumerate().skip(from) {
        order.push((RowKey::leading(&taken.row_key), slot as u32));
    }
    order.sort_unstable_by(|a, b| {
        // The leading bytes decide most comparisons, without a look at the slots.
        a.0.cmp(&b.0).then_with(|| slots[a.1 as usize].row_key.cmp(&slots[b.1 as usize].row_key))
    });
    order.into_iter().map(|(_, slot)| slot).collect()
}

fn key_text(row_key: &[u8], out: &mut String) {
    // Row keys are made only of checked users and keys.
    if RowKey::key_into(row_key, out).is_none() {
        out.clear();
    }
}
