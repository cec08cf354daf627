//! Events of a turn that are over: found while they are counted, and explained once the caps of their keys are read.

use super::ended_caps::EndedCaps;
use crate::engine::{CapKnown, OverEvent, OverRule, Policy, Readable, cause};
use crate::model::{CapRow, Entry, Kind, OverCause, RuleId, ShardId, TsMs};
use crate::store::{Commit, Mirrored, OverRow, RowKey, Store};
use hashbrown::HashMap;

/// Rows that are written for one key in one turn. From then on events are added to the last of their cause.
const ROWS_OF_KEY: usize = 16;
/// Keys that are told of one event.
const KEYS_TOLD: usize = 17;

/// An event that is over.
pub(super) struct OverFound {
    /// The number of its task, and its index for its sender.
    pub task: u32,
    pub index: u32,
    pub from_kafka: bool,
    pub kind: Kind,
    pub entry: Entry,
    /// The slots of the keys that were capped, and by which rule. The first was capped for longest: it is counted under that.
    pub keys: Vec<(u32, OverRule)>,
}

/// What is told of a key that was capped when an event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverKey {
    /// The index of the event for its sender.
    pub index: u32,
    /// The key.
    pub key: String,
    /// The rule that had capped it.
    pub rule: RuleId,
    /// Why it was served nevertheless.
    pub cause: OverCause,
    /// What the rule counted before.
    pub count: u64,
    /// Its limit.
    pub limit: u64,
    /// From when it happened to when it was counted, in ms.
    pub delay_ms: u64,
}

/// What a turn tells of the events that are over.
#[derive(Debug, Default)]
pub(super) struct OverOutcome {
    /// By the number of the task.
    pub told: Vec<(u32, OverKey)>,
    /// Each event once.
    pub counts: HashMap<(RuleId, OverCause), u64>,
}

/// What is known of a slot with a key that was capped.
pub(super) struct OverSlot<'a> {
    pub row_key: &'a [u8],
    /// The row of `caps` before the turn.
    pub held: Option<CapRow>,
    /// Whether the rules capped it before the turn counted anything.
    pub was_capped: bool,
}

/// Explains the events of a turn, and writes them.
pub(super) struct OverLedger<'a> {
    pub store: &'a Store,
    pub policy: &'a Policy,
    pub ended: &'a EndedCaps,
    pub now: TsMs,
}

impl OverLedger<'_> {
    pub(super) fn settle<'s>(
        &self,
        found: &[OverFound],
        slot: impl Fn(u32) -> OverSlot<'s>,
        commit: &mut Commit<'_>,
    ) -> OverOutcome {
        let mut outcome = OverOutcome::default();
        let mut rows: Vec<OverRow> = Vec::new();
        let mut rows_of: HashMap<u32, (usize, HashMap<(RuleId, OverCause), usize>)> = HashMap::new();
        for event in found {
            for (number, (at, rule)) in event.keys.iter().take(KEYS_TOLD).enumerate() {
                let of = slot(*at);
                let Some((user, key)) = RowKey::parse(of.row_key) else { continue };
                let cause = self.cause(event, &of, user);
                let delay_ms = self.now.0.saturating_sub(event.entry.ts.0);
                let told = OverKey {
                    index: event.index,
                    key: key.clone().into_owned(),
                    rule: rule.rule.clone(),
                    cause,
                    count: rule.count,
                    limit: rule.limit,
                    delay_ms,
                };
                outcome.told.push((event.task, told));
                if number > 0 {
                    continue;
                }
                let counted = (rule.rule.clone(), cause);
                *outcome.counts.entry(counted.clone()).or_default() += 1;
                let (written, last) = rows_of.entry(*at).or_default();
                if *written >= ROWS_OF_KEY
                    && let Some(&row) = last.get(&counted)
                {
                    rows[row].events += 1;
                    rows[row].ts = rows[row].ts.max(event.entry.ts);
                    continue;
                }
                *written += 1;
                last.insert(counted, rows.len());
                rows.push(OverRow {
                    seq: 0,
                    at: self.now,
                    ts: event.entry.ts,
                    events: 1,
                    user: user.to_owned(),
                    key: key.into_owned(),
                    kind: event.kind,
                    rule: rule.rule.clone(),
                    cause,
                    count: rule.count,
                    limit: rule.limit,
                });
            }
        }
        rows.iter().for_each(|row| commit.put_over(row));
        outcome
    }

    fn cause(&self, event: &OverFound, slot: &OverSlot<'_>, user: &str) -> OverCause {
        let was_reserved = event.entry.hash != 0
            && self.store.reservations().has_reserved(user, event.kind, event.entry.hash, self.now);
        let event = OverEvent {
            ts: event.entry.ts,
            now: self.now,
            from_kafka: event.from_kafka,
            was_reserved,
            cap: self.cap(slot, event.entry.ts),
        };
        cause(self.policy, &event)
    }

    fn cap(&self, slot: &OverSlot<'_>, ts: TsMs) -> CapKnown {
        let held = match slot.held {
            None if slot.was_capped => return CapKnown::ByRules,
            // One that ended meanwhile.
            None => match self.ended.get(slot.row_key).filter(|row| ts < row.until) {
                Some(row) => row,
                None => return CapKnown::Now,
            },
            Some(row) => row,
        };
        let Some(began) = held.began else {
            // Of a row of an earlier version only that it is old is known.
            return CapKnown::Since { at: TsMs(0), by_rules: false, readable: Readable::AtOnce };
        };
        let readable = match self.store.mirrored(ShardId(slot.row_key[0]), began.seq) {
            Mirrored::Nobody | Mirrored::Since(None) => Readable::AtOnce,
            Mirrored::Since(Some(at)) => Readable::Since(at),
            Mirrored::NotYet => Readable::NotYet,
        };
        CapKnown::Since { at: began.at, by_rules: began.by_rules, readable }
    }
}
