//! One partition: its phase, its position, and its chunks under way.

use super::chunk::{Chunk, EARLY, Reading, check_of};
use super::dead_letters::DeadLetters;
use super::frontier::InFlight;
use super::landmarks::Landmarks;
use super::left_out::{LeftOut, known_code};
use super::offsets::Offsets;
use super::status::{Handle, State};
use super::witness::Witness;
use crate::clock::Clock;
use crate::input::EventReader;
use crate::model::SHARDS;
use crate::shard::{PartitionSender, Refusal, Router};
use crate::store::{Frontier, PulledPartition, RecordCheck, StoreError, Taken};
use rdkafka::message::{BorrowedMessage, Message};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// What happens with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its offsets must be asked for before it is read.
    Ask,
    /// The first record read must be this one.
    Check(RecordCheck),
    Read,
    /// The topic was made anew, for this reason.
    Changed(String),
    Stopped,
}

pub(super) struct Partition {
    pub phase: Phase,
    pub in_flight: InFlight,
    reading: Reading,
    taken: Box<Taken>,
    sender: PartitionSender,
    chunk: Option<Chunk>,
    /// The next offset to take; records below were taken.
    position: u64,
    /// The end was reached, and no record came since.
    pub at_end: bool,
    /// The partition is read again from the position, to see whether there is a record below this end.
    stepping_to: Option<u64>,
    /// There was no record below this offset.
    stepped_to: Option<u64>,
    /// Since when no record came.
    quiet_since: Instant,
    /// The frontier that was stored last.
    pub stored: Option<Frontier>,
    /// How often the topic was made anew.
    resets: u64,
    /// How often it was begun again.
    begun: u64,
    pub landmarks: Landmarks,
    /// Offsets of records that lay ahead and whose letters are not acknowledged; and whether the stored list is
    /// current.
    early: BTreeSet<u64>,
    early_is_stored: bool,
    /// Records that were not counted and are to be set aside.
    pub left_out: VecDeque<LeftOut>,
    /// Those of an earlier run: offset and reason.
    left_out_before: BTreeMap<u64, &'static str>,
    /// Up to which offset the store may forget records set aside, once all below is done; and the last such offset.
    forget_to: Option<u64>,
    last_left_out: u64,
    /// Offsets are not asked for before this.
    pub ask_at: Option<Instant>,
}

/// What is needed to take a record.
pub(super) struct Taking<'t> {
    pub router: &'t Router,
    pub reader: &'t EventReader,
    pub clock: &'t Clock,
    pub witness: &'t Witness,
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
            in_flight: InFlight::new(frontier),
            reading,
            taken: known.taken,
            sender: router.sender(topic, partition),
            chunk: None,
            position: frontier.next,
            at_end: false,
            stepping_to: None,
            stepped_to: None,
            quiet_since: Instant::now(),
            stored: None,
            resets: known.resets,
            begun: known.begun,
            landmarks: Landmarks::new(known.landmarks),
            early: known.early,
            early_is_stored: true,
            left_out: VecDeque::new(),
            forget_to: known.aside.keys().next_back().copied(),
            last_left_out: known.aside.keys().next_back().copied().unwrap_or(0),
            left_out_before: known.aside.iter().map(|(&offset, code)| (offset, known_code(code))).collect(),
            ask_at: None,
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.reading.partition
    }

    /// Begins to read at `frontier`, with nothing under way. What is above it was never taken.
    pub(super) fn begin(&mut self, frontier: Frontier, phase: Phase) {
        self.in_flight = InFlight::new(frontier);
        self.position = frontier.next;
        self.at_end = false;
        (self.stepping_to, self.stepped_to) = (None, None);
        self.phase = phase;
    }

    /// Where to read again from, if the end may be beyond the last record: transaction markers, aborted records and
    /// compacted records have offsets, too.
    ///
    /// Reaching the end once says only that there was no record *then*. So the partition is read from its position
    /// again, after its end was asked for. If the end is reached again and no record came, there is none in between.
    pub(super) fn step_from(&mut self, end: u64, now: Instant) -> Option<u64> {
        /// Records under way arrive by themselves within this time.
        const QUIET: Duration = Duration::from_millis(300);
        let steps = self.phase == Phase::Read
            && self.at_end
            && self.stepping_to.is_none()
            && end > self.position
            && now.duration_since(self.quiet_since) >= QUIET;
        steps.then(|| {
            self.stepping_to = Some(end);
            self.position
        })
    }

    /// Kafka had no further record.
    pub(super) fn reached_end(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Check(_)) {
            self.phase = Phase::Read;
        }
        if self.phase != Phase::Read {
            return;
        }
        self.at_end = true;
        self.quiet_since = now;
        if let Some(end) = self.stepping_to.take().filter(|end| *end > self.position) {
            // At the next cut: records read before come first.
            self.stepped_to = Some(end);
            self.position = end;
        }
    }

    /// Forgets what was taken, and begins again: after the landmark of a topic whose end was cut off, where the ids that
    /// records are given stay the same; or else at the beginning of a topic that was made anew. Returns where, and how
    /// often it was made anew and begun again.
    pub(super) fn forget(&mut self, landmark: Option<RecordCheck>) -> (Frontier, (u64, u64)) {
        *self.taken = [0; SHARDS];
        self.early.clear();
        self.left_out_before.clear();
        (self.forget_to, self.last_left_out) = (None, 0);
        self.landmarks.cut(landmark.map(|landmark| landmark.offset));
        let done = self.in_flight.frontier().next;
        let frontier = landmark.map_or(Frontier::default(), |landmark| Frontier {
            next: done.min(landmark.offset + 1),
            last: Some(landmark).filter(|landmark| landmark.offset < done),
        });
        self.begun += 1;
        if landmark.is_none() {
            self.resets += 1;
            self.reading.begin(self.resets);
        }
        (frontier, (self.resets, self.begun))
    }

    /// Takes a record, as its phase demands.
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
        with.witness.saw(self.number(), message, with.clock);
        if self.landmarks.is_empty() {
            self.landmarks.add(check_of(message));
        }
        (self.at_end, self.stepping_to, self.stepped_to) = (false, None, None);
        let (number, end) = (self.in_flight.next_chunk(), self.in_flight.frontier());
        let chunk = self.chunk.get_or_insert_with(|| Chunk {
            events: with.router.builder(),
            offsets: Vec::new(),
            end,
            letters: 0,
            records: 0,
            skipped: 0,
            tombstones: 0,
        });
        let letter =
            self.reading.add(chunk, message, with.reader, (&self.taken, &self.early, &self.left_out_before), number);
        self.position = chunk.end.next;
        if let Some(letter) = letter {
            let (offset, is_early) = (letter.offset, letter.code == EARLY);
            if with.dead.put(letter, with.now) {
                chunk.letters += 1;
                if is_early {
                    self.early.insert(offset);
                    self.early_is_stored = false;
                }
            }
        }
    }

    /// A letter was acknowledged.
    pub(super) fn letter_acknowledged(&mut self, chunk: u64, offset: u64) {
        self.in_flight.done(chunk);
        self.early_is_stored &= !self.early.remove(&offset);
    }

    /// Stores the offsets of records that lay ahead, if they changed.
    pub(super) fn store_early(&mut self, offsets: &Offsets, topic: &str) -> Result<(), StoreError> {
        if !self.early_is_stored {
            offsets.put_early(topic, self.number(), &self.early)?;
            self.early_is_stored = true;
        }
        Ok(())
    }

    /// Stores the landmarks, if they changed.
    pub(super) fn store_landmarks(&mut self, offsets: &Offsets, topic: &str) -> Result<(), StoreError> {
        if !self.landmarks.is_stored {
            offsets.put_landmarks(topic, self.number(), self.landmarks.records())?;
            self.landmarks.is_stored = true;
        }
        Ok(())
    }

    /// Makes the store forget what was set aside below the stored frontier.
    pub(super) fn forget_left_out(&mut self, offsets: &Offsets, topic: &str) -> Result<(), StoreError> {
        let below = self.stored.map_or(0, |frontier| frontier.next);
        if self.forget_to.is_some_and(|last| last < below) {
            offsets.forget_aside(topic, self.number(), below)?;
            self.left_out_before.retain(|&offset, _| offset >= below);
            self.forget_to = Some(self.last_left_out).filter(|&last| last >= below);
        }
        Ok(())
    }

    /// Hands the records read since the last cut to the writers.
    pub(super) fn cut(&mut self, status: &Handle) {
        let stepped_to = self.stepped_to.take();
        let Some(chunk) = self.chunk.take() else {
            if let Some(end) = stepped_to {
                self.in_flight.step_to(end);
            }
            return;
        };
        if let Some(last) = chunk.end.last {
            self.landmarks.add(last);
        }
        let counters = status.counters();
        counters.records.increment(chunk.records);
        counters.skipped.increment(chunk.skipped);
        counters.tombstones.increment(chunk.tombstones);
        counters.events.increment(chunk.events.len() as u64);
        let parts = self.sender.put(self.in_flight.next_chunk(), chunk.events, chunk.offsets, chunk.end.next);
        self.in_flight.add(chunk.end, parts + chunk.letters);
        if let Some(end) = stepped_to {
            self.in_flight.step_to(end);
        }
    }

    /// Sends waiting batches again, and records what became durable.
    pub(super) fn drive(&mut self) -> Option<Refusal> {
        let (in_flight, left_out) = (&mut self.in_flight, &mut self.left_out);
        let (forget_to, last) = (&mut self.forget_to, &mut self.last_left_out);
        self.sender.drive(|chunk, offsets| {
            in_flight.more(chunk, offsets.len());
            if let Some((offset, _)) = offsets.last() {
                *last = (*last).max(*offset);
                forget_to.get_or_insert(*last);
            }
            left_out.extend(offsets.into_iter().map(|(offset, code)| LeftOut { chunk, offset, code }));
            in_flight.done(chunk);
        })
    }

    /// Events that are not durable yet.
    pub(super) fn events(&self) -> usize {
        self.sender.events()
    }

    pub(super) fn report(&mut self, status: &Handle) {
        let number = self.number();
        status.frontier(number, self.in_flight.frontier());
        status.state(
            number,
            match self.phase {
                Phase::Read => State::Reading,
                Phase::Ask | Phase::Check(_) | Phase::Changed(_) => State::Starting,
                Phase::Stopped => State::Stopped,
            },
        );
        if self.at_end && self.in_flight.is_empty() && self.phase == Phase::Read {
            status.at_end(number);
        }
    }
}
