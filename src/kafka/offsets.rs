//! How far a topic was taken, by all units of the process.
//!
//! Each unit has a row of everything, for its own log says what of its events is durable: a partition is read again from the
//! least of their frontiers. By shard it was taken as far as the unit says that has the shard.

use crate::alarm::Alarm;
use crate::store::{Frontier, PulledPartition, RecordCheck, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The offsets of all units. Cheap to clone.
#[derive(Clone)]
pub struct Offsets {
    /// One at least.
    stores: Arc<[Arc<Store>]>,
}

#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
impl Offsets {
    /// Those of these stores, each of which has some of the shards.
    pub fn new(stores: Arc<[Arc<Store>]>) -> Self {
        Self { stores }
    }

    /// What marks a group as ours.
    pub(super) fn store_id(&self) -> &str {
        &self.stores[0].info().id
    }

    pub(super) fn are_in_memory(&self) -> bool {
        self.stores[0].dir().is_none()
    }

    pub(super) fn alarm(&self) -> &Alarm {
        self.stores[0].alarm()
    }

    /// Whether one of the stores takes no writes any more.
    pub(super) fn are_poisoned(&self) -> bool {
        self.stores.iter().any(|store| store.is_poisoned())
    }

    fn each(&self, mut write: impl FnMut(&Store) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.stores.iter().try_for_each(|store| write(store))
    }

    /// The same, and all of it is durable before anything follows. One store alone has its rows in order anyway.
    fn each_durably(&self, write: impl FnMut(&Store) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.each(write)?;
        if self.stores.len() > 1 { self.each(Store::sync) } else { Ok(()) }
    }

    /// The state of every partition of a topic. Blocks on disk.
    pub(super) fn partitions(&self, topic: &str) -> Result<BTreeMap<u32, PulledPartition>, StoreError> {
        let mut of_units = Vec::with_capacity(self.stores.len());
        for store in self.stores.iter() {
            of_units.push(store.kafka_offsets().partitions(topic)?);
        }
        if let [_] = &of_units[..] {
            return Ok(of_units.pop().unwrap_or_default());
        }
        let numbers: BTreeSet<u32> = of_units.iter().flat_map(|known| known.keys().copied()).collect();
        let mut joined = BTreeMap::new();
        for number in numbers {
            let mut known: Vec<_> = of_units.iter_mut().map(|of| of.remove(&number).unwrap_or_default()).collect();
            self.finish_reset(topic, number, &mut known)?;
            joined.insert(number, self.join(known));
        }
        Ok(joined)
    }

    /// Begins again in the units that a crash kept from it. Nothing was read since, for all of them come first.
    fn finish_reset(&self, topic: &str, number: u32, known: &mut [PulledPartition]) -> Result<(), StoreError> {
        let begun = known.iter().map(|known| known.begun).max().unwrap_or(0);
        let last = known.iter().find(|known| known.begun == begun).map(|known| (known.frontier, known.resets));
        let Some((Some(frontier), resets)) = last else { return Ok(()) };
        for (store, known) in self.stores.iter().zip(known).filter(|(_, known)| known.begun < begun) {
            store.kafka_offsets().reset(topic, number, &frontier, (resets, begun))?;
            store.sync()?;
            *known = PulledPartition { frontier: Some(frontier), resets, begun, ..PulledPartition::default() };
        }
        Ok(())
    }

    /// What is known of a partition by the units, in their order.
    fn join(&self, known: Vec<PulledPartition>) -> PulledPartition {
        let mut joined = PulledPartition::default();
        for (store, known) in self.stores.iter().zip(known) {
            joined.frontier = match (joined.frontier, known.frontier) {
                (Some(one), Some(other)) if other.next < one.next => Some(other),
                (one, other) => one.or(other),
            };
            for shard in store.shards().iter() {
                joined.taken[shard.index()] = known.taken[shard.index()];
            }
            (joined.resets, joined.begun) = (joined.resets.max(known.resets), joined.begun.max(known.begun));
            joined.early.extend(known.early);
            joined.aside.extend(known.aside);
            if joined.landmarks.is_empty() {
                joined.landmarks = known.landmarks;
            }
        }
        joined
    }

    /// Stores where partitions are begun, before anything of them is read.
    pub(super) fn begin_frontiers(&self, topic: &str, frontiers: &[(u32, Frontier)]) -> Result<(), StoreError> {
        if frontiers.is_empty() {
            return Ok(());
        }
        let rows = || frontiers.iter().map(|(number, frontier)| (*number, frontier));
        self.each_durably(|store| store.kafka_offsets().put_frontiers(topic, rows()))
    }

    /// Stores frontiers: below them all is durable in every unit.
    pub(super) fn put_frontiers(&self, topic: &str, frontiers: &[(u32, Frontier)]) -> Result<(), StoreError> {
        let rows = || frontiers.iter().map(|(number, frontier)| (*number, frontier));
        self.each(|store| store.kafka_offsets().put_frontiers(topic, rows()))
    }

    /// As [`crate::store::KafkaOffsets::put_early`].
    pub(super) fn put_early(&self, topic: &str, partition: u32, early: &BTreeSet<u64>) -> Result<(), StoreError> {
        self.each(|store| store.kafka_offsets().put_early(topic, partition, early))
    }

    /// Stores the landmarks of a partition.
    pub(super) fn put_landmarks(
        &self,
        topic: &str,
        partition: u32,
        landmarks: &[RecordCheck],
    ) -> Result<(), StoreError> {
        self.each(|store| store.kafka_offsets().put_landmarks(topic, partition, landmarks))
    }

    /// Removes records set aside below an offset: their dead letters have arrived.
    pub(super) fn forget_aside(&self, topic: &str, partition: u32, below: u64) -> Result<(), StoreError> {
        self.each(|store| store.kafka_offsets().forget_aside(topic, partition, below))
    }

    /// As [`crate::store::KafkaOffsets::reset`], in every unit before anything is read again.
    pub(super) fn reset(
        &self,
        topic: &str,
        partition: u32,
        frontier: &Frontier,
        counts: (u64, u64),
    ) -> Result<(), StoreError> {
        self.each_durably(|store| store.kafka_offsets().reset(topic, partition, frontier, counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MarkKey, StoreOptions};

    fn offsets(dir: &std::path::Path, units: usize) -> Offsets {
        let options = StoreOptions { data_dir: dir.to_owned(), ..StoreOptions::default() };
        let open = |unit| Arc::new(Store::open(&options.of_unit(unit, units)).unwrap());
        Offsets::new((0..units).map(open).collect())
    }

    fn frontier(next: u64) -> Frontier {
        Frontier { next, last: None }
    }

    /// The unit's only writer has taken partition 0 up to here.
    fn mark(offsets: &Offsets, unit: usize, next: u64) {
        let mut commit = offsets.stores[unit].begin_commit();
        commit.put_kafka_mark(&MarkKey::new("t", 0, 1, 0), next);
        commit.write().unwrap();
    }

    #[test]
    fn a_partition_is_read_from_the_least_frontier_and_taken_by_shard_as_its_unit_says() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = offsets(dir.path(), 4);
        assert_eq!(offsets.partitions("t").unwrap(), BTreeMap::new());
        offsets.begin_frontiers("t", &[(0, frontier(5)), (1, frontier(0))]).unwrap();
        // As a crash leaves it between two units.
        offsets.stores[0].kafka_offsets().put_frontiers("t", [(0, &frontier(9))]).unwrap();
        mark(&offsets, 0, 12);
        mark(&offsets, 3, 7);
        offsets.stores[2].kafka_offsets().put_early("t", 0, &BTreeSet::from([8])).unwrap();
        let mut commit = offsets.stores[1].begin_commit();
        commit.put_kafka_aside(&MarkKey::new("t", 0, 1, 0), 6, "row_unreadable");
        commit.write().unwrap();
        let known = offsets.partitions("t").unwrap();
        assert_eq!((known.len(), known[&0].frontier, known[&1].frontier), (2, Some(frontier(5)), Some(frontier(0))));
        assert_eq!(known[&0].taken[..8], [12, 0, 0, 7, 12, 0, 0, 7]);
        assert_eq!((&known[&0].early, known[&0].aside.len()), (&BTreeSet::from([8]), 1));
        offsets.forget_aside("t", 0, 7).unwrap();
        assert!(offsets.partitions("t").unwrap()[&0].aside.is_empty());
    }

    #[test]
    fn what_a_crash_kept_from_being_begun_again_is_begun_again_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = offsets(dir.path(), 2);
        offsets.begin_frontiers("t", &[(0, frontier(0))]).unwrap();
        (0..2).for_each(|unit| mark(&offsets, unit, 100));
        offsets.put_frontiers("t", &[(0, frontier(90))]).unwrap();
        // The topic's end was cut off after 40; only the second unit heard of it.
        offsets.stores[1].kafka_offsets().reset("t", 0, &frontier(41), (0, 1)).unwrap();
        for _ in 0..2 {
            let known = offsets.partitions("t").unwrap();
            assert_eq!((known[&0].frontier, known[&0].begun), (Some(frontier(41)), 1));
            assert!(known[&0].taken.iter().all(|&next| next == 0), "the records after it are others");
        }
        let of_first = &offsets.stores[0].kafka_offsets().partitions("t").unwrap()[&0];
        assert_eq!((of_first.frontier, of_first.begun), (Some(frontier(41)), 1));
    }
}
