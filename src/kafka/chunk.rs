//! Records as they are read, until there are enough of them for the writers.

use super::dead_letters::Letter;
use super::left_out::detail;
use crate::input::{EventReader, Reject};
use crate::model::{EventId, ShardId, TsMs};
use crate::shard::EventBatchBuilder;
use crate::store::{Frontier, RecordCheck, Taken};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a record is known by.
pub(super) fn check_of(message: &BorrowedMessage<'_>) -> RecordCheck {
    let seed = xxh3_64(message.key().unwrap_or_default());
    RecordCheck {
        offset: message.offset() as u64,
        ts: message.timestamp().to_millis().unwrap_or(-1),
        hash: xxh3_64_with_seed(message.payload().unwrap_or_default(), seed),
    }
}

/// Why a record is not taken that may be, later.
pub(super) const EARLY: &str = "ts_in_future";

/// How the records of a partition are read.
pub(super) struct Reading {
    pub partition: u32,
    name: String,
    /// What the ids of events begin with that have none of their own.
    prefix: String,
    id: String,
}

/// Records read and not yet handed over.
pub(super) struct Chunk {
    pub events: EventBatchBuilder,
    /// Of its records, in their order.
    pub offsets: Vec<u64>,
    /// Up to the last record read.
    pub end: Frontier,
    /// Letters that must be waited for.
    pub letters: usize,
    pub records: u64,
    pub skipped: u64,
    /// Records without a value: a deletion, where a topic is compacted, and nothing that could be counted.
    pub tombstones: u64,
}

impl Reading {
    pub(super) fn new(topic: &str, partition: u32) -> Self {
        // An id has at most 256 bytes, a topic's name up to 249.
        let long = topic.len() > 200;
        let name = if long { format!("{:016x}", xxh3_64(topic.as_bytes())) } else { topic.to_owned() };
        let mut reading = Self { partition, name, prefix: String::new(), id: String::new() };
        reading.begin(0);
        reading
    }

    /// Another topic under the same name has other events at the same offsets.
    pub(super) fn begin(&mut self, resets: u64) {
        let Self { name, partition, .. } = self;
        self.prefix = match resets {
            0 => format!("{name}-{partition}-"),
            resets => format!("{name}-{partition}-{resets}-"),
        };
    }

    /// Adds a record to a chunk, unless its user's shard has it already. What cannot be used is returned, for chunk
    /// number `number` to wait for.
    pub(super) fn add(
        &mut self,
        chunk: &mut Chunk,
        message: &BorrowedMessage<'_>,
        reader: &EventReader,
        (taken, early, left_out): (&Taken, &BTreeSet<u64>, &BTreeMap<u64, &'static str>),
        number: u64,
    ) -> Option<Letter> {
        let check = check_of(message);
        let offset = check.offset;
        chunk.end = Frontier { next: offset + 1, last: Some(check) };
        chunk.records += 1;
        chunk.offsets.push(offset);
        let Some(value) = message.payload() else {
            chunk.tombstones += 1;
            return None;
        };
        let ahead = |why: crate::engine::TsInFuture| Reject { code: EARLY, detail: why.to_string() };
        let added = reader.record(value).and_then(|mut event| {
            if event.ts.is_none() {
                // Never now: read again, it would be another event.
                event.ts = Some(TsMs::from_millis(check.ts.into()).map_err(|_| no_time(check.ts))?);
            }
            if offset < taken[ShardId::of_user(event.user.as_str().as_bytes()).index()] {
                // What was not counted is no writer's: whether its letter arrived is not known.
                if early.contains(&offset) {
                    let detail = "ts lay ahead of this server's clock when the record was read".to_owned();
                    return Err(Reject { code: EARLY, detail });
                }
                if let Some(&code) = left_out.get(&offset) {
                    return Err(Reject { code, detail: detail(code) });
                }
                chunk.events.admits(&event).map_err(ahead)?;
                chunk.skipped += 1;
                return Ok(());
            }
            if event.id.is_none() {
                self.id.clear();
                // Writing to a string cannot fail.
                let _ = write!(self.id, "{}{offset}", self.prefix);
                event.id = EventId::new(self.id.as_str()).ok();
            }
            // Counted from 0, as its offset stands.
            chunk.events.push(chunk.records as usize - 1, &event).map_err(ahead)
        });
        let Reject { code, detail } = added.err()?;
        Some(Letter::of(message, number, code, detail))
    }
}

#[cold]
fn no_time(ts: i64) -> Reject {
    let detail = match ts {
        -1 => "the event has no ts, and the record no time".to_owned(),
        ts => format!("the event has no ts, and the record's time is no ms since 1970: {ts}"),
    };
    Reject { code: "ts_not_milliseconds", detail }
}
