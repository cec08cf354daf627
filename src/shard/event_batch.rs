//! Events on their way to a writer, packed in one buffer with the row keys that they touch.

use crate::clock::Clock;
use crate::engine::{Policy, TsInFuture, admit};
use crate::model::{Entry, Event, Kind, SHARDS, ShardId, ShardSet, TsMs};
use crate::store::RowKeys;
use std::ops::Range;
use std::sync::Arc;

/// One event of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchEvent {
    pub entry: Entry,
    pub kind: Kind,
    /// The event's index for its sender.
    pub index: u32,
    /// The range of its row keys in [`EventBatch::keys`]. The first is its ad's.
    keys: (u32, u32),
}

/// Events for one writer. Made by [`EventBatchBuilder`].
#[derive(Debug, Default)]
pub struct EventBatch {
    keys: RowKeys,
    events: Vec<BatchEvent>,
}

impl EventBatch {
    /// How many events it has.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.events.capacity() * size_of::<BatchEvent>()
    }

    pub(super) fn events(&self) -> &[BatchEvent] {
        &self.events
    }

    /// The numbers of an event's row keys.
    pub(super) fn keys_of(&self, event: &BatchEvent) -> Range<usize> {
        event.keys.0 as usize..event.keys.1 as usize
    }

    pub(super) fn keys(&self) -> &RowKeys {
        &self.keys
    }
}

/// Sorts events into a batch for each writer.
#[derive(Debug)]
pub struct EventBatchBuilder {
    batches: Vec<EventBatch>,
    policy: Arc<Policy>,
    /// The time of receipt, for events without a time; and the latest time allowed.
    now: TsMs,
    latest: TsMs,
    clock_believed: bool,
    without_time: usize,
    /// Events of users that mean nobody, which go to no writer.
    ignored: usize,
    /// Events of users of another unit.
    elsewhere: usize,
    writers: WriterMap,
}

impl EventBatchBuilder {
    pub(super) fn new(writers: WriterMap, policy: Arc<Policy>, clock: &Clock) -> Self {
        let batches = std::iter::repeat_with(EventBatch::default).take(writers.writers()).collect();
        let (now, clock_believed) = (clock.now(), clock.is_believed());
        // Reads the clock once.
        let latest = if clock_believed { now } else { clock.latest() };
        Self { batches, policy, now, latest, clock_believed, without_time: 0, ignored: 0, elsewhere: 0, writers }
    }

    /// A builder of batches for events of the instant `now`, whatever the clock shows.
    pub(super) fn at(writers: WriterMap, policy: Arc<Policy>, now: TsMs) -> Self {
        let batches = std::iter::repeat_with(EventBatch::default).take(writers.writers()).collect();
        Self {
            batches,
            policy,
            now,
            latest: now,
            clock_believed: true,
            without_time: 0,
            ignored: 0,
            elsewhere: 0,
            writers,
        }
    }

    /// Checks that an event's time is not too far ahead.
    pub fn admits(&self, event: &Event<'_>) -> Result<(), TsInFuture> {
        admit(&self.policy, event.ts, self.now, self.latest).map(drop)
    }

    /// Adds an event, unless its time is too far ahead. `index` identifies it if it is rejected later. An event without
    /// a time is left out while the clock is not believed: see [`EventBatchBuilder::without_time`].
    pub fn push(&mut self, index: usize, event: &Event<'_>) -> Result<(), TsInFuture> {
        let ts = admit(&self.policy, event.ts, self.now, self.latest)?;
        let user = event.user.as_str();
        if self.policy.ignores(user) {
            self.ignored += 1;
            return Ok(());
        }
        if event.ts.is_none() && !self.clock_believed {
            self.without_time += 1;
            return Ok(());
        }
        let shard = ShardId::of_user(user.as_bytes());
        let Some(writer) = self.writers.writer_of(shard) else {
            self.elsewhere += 1;
            return Ok(());
        };
        let batch = &mut self.batches[writer];
        let first = batch.keys.len() as u32;
        batch.keys.push_da_in(shard, user, event.da.as_str());
        for key in &event.keys {
            batch.keys.push_sibling(first as usize, key.as_str());
        }
        let keys = (first, batch.keys.len() as u32);
        let entry = Entry { ts, hash: event.hash() };
        batch.events.push(BatchEvent { entry, kind: event.kind, index: index as u32, keys });
        Ok(())
    }

    /// Bytes that it takes. This may be many times the input: each row key repeats the user.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(EventBatch::bytes).sum()
    }

    /// Events of users that mean nobody, which are acknowledged and stored nowhere.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// Events for the writers, taken or not.
    pub fn len(&self) -> usize {
        self.not_sent() + self.batches.iter().map(EventBatch::len).sum::<usize>()
    }

    /// Whether no event was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Events without a time while the clock is not believed. They are not taken.
    pub(super) fn without_time(&self) -> usize {
        self.without_time
    }

    /// Events of users of another unit. They are not taken.
    pub(super) fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// Events that no writer is sent.
    pub(super) fn not_sent(&self) -> usize {
        self.without_time + self.elsewhere
    }

    /// The batches with their writers, without empty ones.
    pub(super) fn into_batches(self) -> impl Iterator<Item = (usize, EventBatch)> {
        self.batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty())
    }
}

/// Which writer has which of the shards of a unit, or of several units. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct WriterMap(Arc<Writers>);

#[derive(Debug)]
struct Writers {
    /// By shard, the number of its writer.
    by_shard: [Option<u8>; SHARDS],
    places: Vec<WriterPlace>,
}

/// Which writer of its unit a writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriterPlace {
    /// The number of the unit.
    pub unit: usize,
    /// Its number there, and how many there are: as its marks have it.
    pub writer: u16,
    pub writers: u16,
}

impl WriterMap {
    /// Of at most 256 writers.
    pub(super) fn new(shards: ShardSet, writers: usize) -> Self {
        let mut by_shard = [None; SHARDS];
        for writer in 0..writers {
            for shard in shards.of_writer(writer, writers).iter() {
                by_shard[shard.index()] = Some(writer as u8);
            }
        }
        let place = |writer| WriterPlace { unit: 0, writer: writer as u16, writers: writers as u16 };
        Self(Arc::new(Writers { by_shard, places: (0..writers).map(place).collect() }))
    }

    /// The writers of several units, one after another: 256 at most, since each has a shard. No two units share a shard.
    pub(super) fn joined<'m>(units: impl IntoIterator<Item = &'m WriterMap>) -> Self {
        let (mut by_shard, mut places) = ([None; SHARDS], Vec::new());
        for (unit, WriterMap(writers)) in units.into_iter().enumerate() {
            let before = places.len();
            for (joined, own) in by_shard.iter_mut().zip(&writers.by_shard) {
                *joined = own.map(|own| own + before as u8).or(*joined);
            }
            places.extend(writers.places.iter().map(|place| WriterPlace { unit, ..*place }));
        }
        Self(Arc::new(Writers { by_shard, places }))
    }

    /// How many writers there are.
    pub(super) fn writers(&self) -> usize {
        self.0.places.len()
    }

    /// Which one of its unit a writer is.
    pub(super) fn place_of(&self, writer: usize) -> WriterPlace {
        self.0.places[writer]
    }

    /// The writer of a shard; `None` where another unit has it.
    pub(super) fn writer_of(&self, shard: ShardId) -> Option<usize> {
        self.0.by_shard[shard.index()].map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writers_of_all_units_have_each_shard_once_and_keep_their_own_numbers() {
        for (units, writers) in [(1, 3), (4, 3), (128, 2), (256, 1)] {
            let of_unit = |unit| WriterMap::new(ShardSet::of_partition(unit, units), writers);
            let maps: Vec<WriterMap> = (0..units).map(of_unit).collect();
            let joined = WriterMap::joined(&maps);
            assert_eq!(joined.writers(), units * writers);
            for shard in ShardId::all() {
                let unit = shard.index() % units;
                let own = maps[unit].writer_of(shard).unwrap();
                let place = joined.place_of(joined.writer_of(shard).unwrap());
                assert_eq!(place, WriterPlace { unit, writer: own as u16, writers: writers as u16 });
                assert_eq!(maps[(unit + 1) % units].writer_of(shard).is_some(), units == 1);
            }
        }
    }
}
