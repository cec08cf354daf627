//! Commands that count events: those of a request, and those pulled from a Kafka partition.

use super::command::{Calls, Command, Reply, TurnContext, TurnState};
use super::event_batch::{BatchEvent, EventBatch};
use super::kafka_batch::KafkaBatch;
use super::over::{OverFound, OverKey};
use super::refusal::ROW_UNREADABLE;
use super::tally::Tally;
use super::working_set::WorkingSet;
use crate::engine::{Outcome, count};
use crate::model::TsMs;
use hashbrown::HashSet;
use std::sync::Arc;

/// The code of an event that is rejected for its kind: one of its logs has the maximum number of kinds.
pub const TOO_MANY_KINDS: &str = "too_many_kinds";

/// The result of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchOutcome {
    pub counted: usize,
    pub duplicate: usize,
    pub late: usize,
    pub erased: usize,
    /// The indices of events that were rejected for their kind.
    pub too_many_kinds: Vec<u32>,
    /// Row keys that went from not capped to capped, and until when.
    pub capped: Vec<(Box<[u8]>, TsMs)>,
    /// The numbers of events that were refused, since a row of their user cannot be read.
    pub unreadable: Vec<u32>,
    /// The first keys that were capped when events of the batch happened, and how many more there are.
    pub over: Vec<OverKey>,
    pub over_omitted: usize,
}

/// Keys that are told of a batch.
pub(super) const OVER_TOLD: usize = 100;

/// The number of a record's event that was not counted, and the code that says why.
pub(super) type LeftOut = (u32, &'static str);

impl BatchOutcome {
    fn tally(&self) -> Tally {
        let Self { counted, duplicate, late, erased, ref too_many_kinds, .. } = *self;
        Tally { counted, duplicate, late, erased, too_many_kinds: too_many_kinds.len() }
    }

    /// The events that were not counted and never will be.
    pub(super) fn left_out(&self) -> impl Iterator<Item = LeftOut> {
        let kinds = self.too_many_kinds.iter().map(|&number| (number, TOO_MANY_KINDS));
        kinds.chain(self.unreadable.iter().map(|&number| (number, ROW_UNREADABLE)))
    }
}

/// Counts the events of a request.
pub(super) struct CountEvents {
    pub batch: EventBatch,
    pub reply: Reply<BatchOutcome>,
}

/// Counts the events of a chunk of a Kafka partition, and records how far the partition is taken.
pub(super) struct CountKafkaEvents {
    /// Shared with the sender, which sends it again if it is refused.
    pub batch: Arc<KafkaBatch>,
    pub reply: Reply<BatchOutcome>,
}

impl Command for CountEvents {
    type Output = BatchOutcome;

    fn into_reply(self) -> Reply<BatchOutcome> {
        self.reply
    }

    fn drop_input(&mut self) {
        self.batch = EventBatch::default();
    }

    fn weight(&self) -> usize {
        self.batch.len()
    }

    fn row_count(&self) -> usize {
        self.batch.keys().len()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn gather<'b>(&'b self, _calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>) {
        slots.extend(self.batch.keys().iter().map(|row_key| set.take(row_key)));
    }

    fn hashes(&self, _calls: &Calls, hashes: &mut HashSet<u64>) {
        hashes.extend(self.batch.events().iter().map(|event| event.entry.hash));
    }

    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        self.reply.set(count_batch(state.context, &self.batch, slots, state.set, (state.task, false)));
    }

    fn tally(&self) -> Option<Tally> {
        self.reply.read(BatchOutcome::tally)
    }

    fn settle(&self, newly_capped: Vec<u32>, set: &WorkingSet<'_>) {
        self.reply.update(|outcome| outcome.capped = caps_of(newly_capped, set));
    }

    fn tell_over(&self, over: OverKey) {
        self.reply.update(|outcome| {
            if outcome.over.len() < OVER_TOLD {
                outcome.over.push(over);
            } else {
                outcome.over_omitted += 1;
            }
        });
    }
}

impl Command for CountKafkaEvents {
    type Output = BatchOutcome;

    fn into_reply(self) -> Reply<BatchOutcome> {
        self.reply
    }

    fn weight(&self) -> usize {
        self.batch.events.len()
    }

    fn row_count(&self) -> usize {
        self.batch.events.keys().len()
    }

    fn bytes(&self) -> usize {
        self.batch.events.bytes()
    }

    fn gather<'b>(&'b self, _calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>) {
        slots.extend(self.batch.events.keys().iter().map(|row_key| set.take(row_key)));
    }

    fn hashes(&self, _calls: &Calls, hashes: &mut HashSet<u64>) {
        hashes.extend(self.batch.events.events().iter().map(|event| event.entry.hash));
    }

    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        state.commit.put_kafka_mark(&self.batch.mark, self.batch.next);
        let outcome = count_batch(state.context, &self.batch.events, slots, state.set, (state.task, true));
        for (number, code) in outcome.left_out() {
            if let Some(offset) = self.batch.offset_of(number) {
                state.commit.put_kafka_aside(&self.batch.mark, offset, code);
            }
        }
        self.reply.set(outcome);
    }

    fn tally(&self) -> Option<Tally> {
        self.reply.read(BatchOutcome::tally)
    }
}

fn count_batch(
    context: TurnContext<'_>,
    batch: &EventBatch,
    slots: &[u32],
    set: &mut WorkingSet<'_>,
    (task, from_kafka): (u32, bool),
) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    for event in batch.events() {
        let keys = batch.keys_of(event);
        let row_key = batch.keys().get(keys.start);
        let erased = context.tombstones.until(context.store, row_key, context.policy, context.now);
        let (Ok(erased), false) = (erased, set.is_unreadable(row_key)) else {
            outcome.unreadable.push(event.index);
            continue;
        };
        let slots = &slots[keys];
        // By the logs as they are before it.
        let over = set.over(slots, event.kind, event.entry);
        match count(context.policy, set, slots, (event.kind, event.entry), erased, context.now) {
            Outcome::Counted => {
                outcome.counted += 1;
                if !over.is_empty() {
                    let BatchEvent { index, kind, entry, .. } = *event;
                    set.note_over(OverFound { task, index, from_kafka, kind, entry, keys: over });
                }
            }
            Outcome::Duplicate { age_ms } => {
                outcome.duplicate += 1;
                context.duplicate_age.record(age_ms as f64 / 1_000.0);
            }
            Outcome::Late => outcome.late += 1,
            Outcome::Erased => outcome.erased += 1,
            Outcome::TooManyKinds => outcome.too_many_kinds.push(event.index),
        }
    }
    outcome
}

/// Row keys and ends of caps after the turn: a later event may have extended one, or a release ended it.
fn caps_of(mut newly_capped: Vec<u32>, set: &WorkingSet<'_>) -> Vec<(Box<[u8]>, TsMs)> {
    newly_capped.sort_unstable();
    newly_capped.dedup();
    let caps = newly_capped.into_iter().filter_map(|slot| set.cap_of(slot));
    caps.map(|(row_key, until)| (row_key.into(), until)).collect()
}
