//! Who owns what: read by every node each second, and what is believed of it.

use super::owner::Owner;
use crate::clock::BootMs;

/// An owner that has not committed for so long is taken to be gone, in ms. A member that keeps its partitions commits at least
/// each 2 s, and its lease ends before this.
pub const GONE_AFTER_MS: u64 = 5_000;

/// The owners of all partitions, as this node last heard of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMap {
    partitions: Vec<Option<Known>>,
    read_at: Option<BootMs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    owner: Owner,
    /// When this node first saw what is told now: at most so old is the owner's commit, plus the time between two looks.
    changed_at: BootMs,
}

impl OwnerMap {
    /// Nobody is known to own any of so many partitions.
    pub fn new(partitions: u32) -> Self {
        Self { partitions: vec![None; partitions as usize], read_at: None }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Takes in what the group has: the metadata of each partition's committed offset.
    pub fn update<'a>(&mut self, rows: impl IntoIterator<Item = (u32, &'a str)>, now: BootMs) {
        self.read_at = Some(now);
        for (partition, metadata) in rows {
            let Some(slot) = self.partitions.get_mut(partition as usize) else { continue };
            let owner = Owner::from_metadata(metadata);
            match (slot.as_mut(), owner) {
                (Some(known), Some(owner)) if known.owner == owner => {}
                (_, owner) => *slot = owner.map(|owner| Known { owner, changed_at: now }),
            }
        }
    }

    /// The owner of a partition; `None` where nobody is known, or who was has not been heard of for [`GONE_AFTER_MS`].
    ///
    /// While this node itself hears nothing, it believes what it knew for as long: whoever a call is forwarded to
    /// knows better, and answers only under its lease.
    pub fn owner(&self, partition: u32, now: BootMs) -> Option<&Owner> {
        let known = self.partitions.get(partition as usize)?.as_ref()?;
        (now.since(known.changed_at) < GONE_AFTER_MS).then_some(&known.owner)
    }

    /// The owner of a partition that was last told, gone or not, and since when nothing else was.
    pub fn last_told(&self, partition: u32) -> Option<(&Owner, BootMs)> {
        let known = self.partitions.get(partition as usize)?.as_ref()?;
        Some((&known.owner, known.changed_at))
    }

    /// When the group was last asked.
    pub fn read_at(&self) -> Option<BootMs> {
        self.read_at
    }
}

#[cfg(test)]
mod tests {
    use super::super::epoch::RunId;
    use super::*;

    fn owner(node: &str, beat: u64) -> Owner {
        Owner { beat, ..Owner::starting(node, "http://x", RunId(1)) }
    }

    #[test]
    fn an_owner_is_known_while_it_commits() {
        let mut map = OwnerMap::new(2);
        assert_eq!((map.owner(0, BootMs(0)), map.read_at()), (None, None));
        for beat in 0..10 {
            let metadata = owner("a", beat).to_metadata();
            map.update([(0, metadata.as_str()), (1, "")], BootMs(beat * 1_000));
            assert_eq!(map.owner(0, BootMs(beat * 1_000)).unwrap().beat, beat);
            assert_eq!(map.owner(1, BootMs(beat * 1_000)), None);
        }
        assert_eq!(map.read_at(), Some(BootMs(9_000)));
    }

    #[test]
    fn an_owner_that_commits_no_more_is_gone_though_its_last_commit_stays() {
        let mut map = OwnerMap::new(1);
        let metadata = owner("a", 4).to_metadata();
        for second in 0..10 {
            map.update([(0, metadata.as_str())], BootMs(second * 1_000));
        }
        assert!(map.owner(0, BootMs(4_999)).is_some());
        assert_eq!(map.owner(0, BootMs(5_000)), None);
        assert_eq!(map.last_told(0).unwrap().1, BootMs(0));
        // Another one, or a restart of the same, is there at once.
        let other = owner("b", 0).to_metadata();
        map.update([(0, other.as_str())], BootMs(10_000));
        assert_eq!(map.owner(0, BootMs(10_000)).unwrap().node, "b");
    }

    #[test]
    fn a_partition_that_there_is_not_changes_nothing() {
        let mut map = OwnerMap::new(1);
        map.update([(1, owner("a", 0).to_metadata().as_str())], BootMs(1));
        assert_eq!((map.owner(1, BootMs(1)), map.partitions()), (None, 1));
    }
}
