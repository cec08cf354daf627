//! Collects the records of a partition into a chunk for the writers.

use super::dead_letters::Letter;
use super::left_out::detail;
use crate::engine::TsInFuture;
use crate::input::{EventReader, Reject};
use crate::model::{EventId, ShardId, TsMs};
use crate::shard::EventBatchBuilder;
use crate::store::{Frontier, RecordCheck, Taken};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Identifies a record, to tell whether a topic was made anew.
pub(super) fn check_of(message: &BorrowedMessage<'_>) -> RecordCheck {
    let seed = xxh3_64(message.key().unwrap_or_default());
    RecordCheck {
        offset: message.offset() as u64,
        ts: message.timestamp().to_millis().unwrap_or(-1),
        hash: xxh3_64_with_seed(message.payload().unwrap_or_default(), seed),
    }
}

/// The code of a record that lies ahead of the clock: it may be counted later.
pub(super) const EARLY: &str = "ts_in_future";

/// Parses the records of one partition.
pub(super) struct Reading {
    pub partition: u32,
    name: String,
    /// Prefix of the ids that are given to events without an id.
    prefix: String,
    id: String,
}

/// Records that were read and not yet handed to the writers.
pub(super) struct Chunk {
    pub events: EventBatchBuilder,
    /// The offsets of its records, in order.
    pub offsets: Vec<u64>,
    /// The frontier after its last record.
    pub end: Frontier,
    /// Dead letters that it waits for.
    pub letters: usize,
    pub records: u64,
    pub skipped: u64,
    /// Records without a value: deletions in a compacted topic. They count nothing.
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

    /// Offsets of a topic made anew are other events, so their ids need another prefix.
    pub(super) fn begin(&mut self, resets: u64) {
        let Self { name, partition, .. } = self;
        self.prefix = match resets {
            0 => format!("{name}-{partition}-"),
            resets => format!("{name}-{partition}-{resets}-"),
        };
    }

    /// Adds a record to a chunk, unless the writer of its user's shard has it already. Returns a letter, for which
    /// chunk `number` waits, if the record cannot be used.
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
        let added = reader.record(value).and_then(|mut event| {
            if event.ts.is_none() {
                // Never the current time: read again, the record would be another event.
                event.ts = Some(TsMs::from_millis(check.ts.into()).map_err(|_| no_time(check.ts))?);
            }
            if offset < taken[ShardId::of_user(event.user.as_str().as_bytes()).index()] {
                // The mark covers it, though no writer counted it, and its letter may not have arrived.
                if early.contains(&offset) {
                    let detail = "ts lay ahead of this server's clock when the record was read".to_owned();
                    return Err(Reject { code: EARLY, detail });
                }
                if let Some(&code) = left_out.get(&offset) {
                    return Err(Reject { code, detail: detail(code) });
                }
                chunk.events.admits(&event).map_err(early_reject)?;
                chunk.skipped += 1;
                return Ok(());
            }
            if event.id.is_none() {
                self.id.clear();
                // Writing to a string cannot fail.
                let _ = write!(self.id, "{}{offset}", self.prefix);
                event.id = EventId::new(self.id.as_str()).ok();
            }
            // The index in the chunk is the index of its offset.
            chunk.events.push(chunk.records as usize - 1, &event).map_err(early_reject)
        });
        let Reject { code, detail } = added.err()?;
        Some(Letter::of(message, number, code, detail))
    }
}

#[cold]
fn early_reject(why: TsInFuture) -> Reject {
    Reject { code: EARLY, detail: why.to_string() }
}

#[cold]
fn no_time(ts: i64) -> Reject {
    let detail = match ts {
        -1 => "the event has no ts, and the record no time".to_owned(),
        ts => format!("the event has no ts, and the record's time is no ms since 1970: {ts}"),
    };
    Reject { code: "ts_not_milliseconds", detail }
}
