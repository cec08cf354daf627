//! One partition: where it is, and what of it is under way.

use super::chunk::{Chunk, EARLY, Reading, check_of};
use super::dead::DeadLetters;
use super::frontier::Underway;
use super::status::{Handle, State};
use crate::input::EventReader;
use crate::model::SHARDS;
use crate::shard::{Lanes, Refusal, Router};
use crate::store::{Frontier, PulledPartition, RecordCheck, Store, StoreError, Taken};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// What is done with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Kafka is to be asked what it has of it. Nothing is read.
    Ask,
    /// The first record that comes must be this one.
    Check(RecordCheck),
    Read,
    /// The topic is another one, as this says.
    Changed(String),
    Stopped,
}

pub(super) struct Partition {
    pub phase: Phase,
    pub underway: Underway,
    reading: Reading,
    taken: Box<Taken>,
    lanes: Lanes,
    chunk: Option<Chunk>,
    /// The next offset to take: what comes below it was taken.
    position: u64,
    /// Where it ends was reached, nothing came since, and that is not yet told.
    pub at_end: bool,
    /// The frontier last stored.
    pub stored: Option<Frontier>,
    /// How often it turned out to be another topic's.
    resets: u64,
    /// Records that lay too far ahead, whose letters are open; and whether that is stored as it is.
    early: BTreeSet<u64>,
    early_is_stored: bool,
    /// Chunks and offsets of records that were not counted, and are to be set aside.
    pub unreadable: VecDeque<(u64, u64)>,
    /// Kafka is not asked before.
    pub ask_at: Option<Instant>,
}

/// What a record needs to be taken.
pub(super) struct Taking<'t> {
    pub router: &'t Router,
    pub reader: &'t EventReader,
    pub dead: &'t mut DeadLetters,
    pub now: Instant,
}

impl Partition {
    pub(super) fn new(router: &Router, topic: &str, partition: u32, known: PulledPartition) -> Self {
        let frontier = known.frontier.unwrap_or_default();
        let mut reading = Reading::new(topic, partition);
        reading.begin(known.resets);
        Self {
            phase: Phase::Ask,
            underway: Underway::new(frontier),
            reading,
            taken: known.taken,
            lanes: router.lanes(topic, partition),
            chunk: None,
            position: frontier.next,
            at_end: false,
            stored: None,
            resets: known.resets,
            early: known.early,
            early_is_stored: true,
            unreadable: VecDeque::new(),
            ask_at: None,
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.reading.partition
    }

    /// Begins to read anew, with nothing under way: at `frontier`, and what is above it was never taken.
    pub(super) fn begin(&mut self, frontier: Frontier, phase: Phase) {
        self.underway = Underway::new(frontier);
        self.position = frontier.next;
        self.at_end = false;
        self.phase = phase;
    }

    /// Forgets what was taken: it was another topic's. Says how often that was so by now.
    pub(super) fn forget(&mut self) -> u64 {
        *self.taken = [0; SHARDS];
        self.early.clear();
        self.resets += 1;
        self.reading.begin(self.resets);
        self.resets
    }

    /// Takes a record.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>, with: &mut Taking<'_>) {
        match &self.phase {
            Phase::Read => {}
            Phase::Check(expected) => {
                let found = check_of(message);
                if found.offset == expected.offset && found != *expected {
                    let why = format!("the record at offset {} is not the one that was read there", found.offset);
                    self.phase = Phase::Changed(why);
                    return;
                }
                if found.offset != expected.offset {
                    let offset = expected.offset;
                    tracing::info!(partition = self.number(), offset, "the record to compare with is gone (compacted)");
                }
                self.phase = Phase::Read;
            }
            Phase::Ask | Phase::Changed(_) | Phase::Stopped => return,
        }
        if (message.offset() as u64) < self.position {
            return;
        }
        self.at_end = false;
        let (number, end) = (self.underway.next_chunk(), self.underway.frontier());
        let chunk = self.chunk.get_or_insert_with(|| Chunk {
            events: with.router.builder(),
            offsets: Vec::new(),
            end,
            letters: 0,
            records: 0,
            skipped: 0,
        });
        let letter = self.reading.add(chunk, message, with.reader, (&self.taken, &self.early), number);
        self.position = chunk.end.next;
        if let Some(letter) = letter {
            let (offset, is_early) = (letter.offset, letter.code == EARLY);
            if with.dead.bury(letter, with.now) {
                chunk.letters += 1;
                if is_early {
                    self.early.insert(offset);
                    self.early_is_stored = false;
                }
            }
        }
    }

    /// Says that a letter has arrived.
    pub(super) fn buried(&mut self, chunk: u64, offset: u64) {
        self.underway.done(chunk);
        self.early_is_stored &= !self.early.remove(&offset);
    }

    /// Stores which letters are open of records that lay too far ahead.
    pub(super) fn keep_early(&mut self, store: &Store, topic: &str) -> Result<(), StoreError> {
        if !self.early_is_stored {
            store.put_early(topic, self.number(), &self.early)?;
            self.early_is_stored = true;
        }
        Ok(())
    }

    /// Hands over what was read since the last time.
    pub(super) fn cut(&mut self, status: &Handle) {
        let Some(chunk) = self.chunk.take() else { return };
        let counters = status.counters();
        counters.records.increment(chunk.records);
        counters.skipped.increment(chunk.skipped);
        counters.events.increment(chunk.events.len() as u64);
        let parts = self.lanes.put(self.underway.next_chunk(), chunk.events, chunk.offsets, chunk.end.next);
        self.underway.add(chunk.end, parts + chunk.letters);
    }

    /// Sends on, and takes note of what is durable.
    pub(super) fn drive(&mut self) -> Option<Refusal> {
        let (underway, unreadable) = (&mut self.underway, &mut self.unreadable);
        self.lanes.drive(|chunk, offsets| {
            underway.more(chunk, offsets.len());
            unreadable.extend(offsets.into_iter().map(|offset| (chunk, offset)));
            underway.done(chunk);
        })
    }

    /// Events that are not durable yet.
    pub(super) fn events(&self) -> usize {
        self.lanes.events()
    }

    pub(super) fn tell(&mut self, status: &Handle) {
        let number = self.number();
        status.frontier(number, self.underway.frontier());
        status.state(
            number,
            match self.phase {
                Phase::Read => State::Reading,
                Phase::Ask | Phase::Check(_) | Phase::Changed(_) => State::Starting,
                Phase::Stopped => State::Stopped,
            },
        );
        if self.at_end && self.underway.is_empty() && self.phase == Phase::Read {
            self.at_end = false;
            status.at_end(number);
        }
    }
}
