//! The catalogue in memory: which keys an ad has besides its own. Every event and every candidate asks it, so nobody waits for a
//! lock: it is cut into segments, and a change puts another one in the place of each that it touches.

mod packed;
mod segment;

use crate::model::{Candidate, CapKey, MAX_KEYS};
use crate::store::{AdChange, Store, StoreError};
use arc_swap::ArcSwap;
use metrics::{Counter, counter, describe_counter, describe_gauge};
use packed::hash_of;
use segment::Segment;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many segments there are: a power of two.
const SEGMENTS: usize = 1_024;
/// The most ads.
pub const MAX_ADS: usize = 10_000_000;

/// The catalogue. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    segments: Box<[ArcSwap<Segment>]>,
    ads: AtomicUsize,
    memory: AtomicUsize,
    unknown: Counter,
    keys_cut: Counter,
}

/// What became of an ad's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joined {
    /// Whether the catalogue does not have the ad, though it has others.
    pub is_unknown: bool,
    /// Keys of the catalogue that were left out, since an event has at most 16.
    pub keys_cut: usize,
}

impl std::ops::AddAssign<Joined> for AdsSeen {
    fn add_assign(&mut self, one: Joined) {
        self.unknown += usize::from(one.is_unknown);
        self.keys_cut += one.keys_cut;
    }
}

/// The same of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdsSeen {
    /// Ads that the catalogue does not have.
    pub unknown: usize,
    /// Keys of the catalogue that were left out.
    pub keys_cut: usize,
}

/// A segment would hold more than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue has no room for so many keys")]
pub struct NoPlace;

impl Default for Catalogue {
    fn default() -> Self {
        let empty = Arc::new(Segment::default());
        Self(Arc::new(Inner {
            segments: (0..SEGMENTS).map(|_| ArcSwap::new(empty.clone())).collect(),
            ads: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            unknown: counter!("freqcap_ads_unknown_total"),
            keys_cut: counter!("freqcap_ads_keys_cut_total"),
        }))
    }
}

/// Describes the metrics of the catalogue.
pub(super) fn describe() {
    describe_counter!(
        "freqcap_ads_unknown_total",
        "Ads of events and candidates that the catalogue does not have, though it has others"
    );
    describe_counter!(
        "freqcap_ads_keys_cut_total",
        "Keys of the catalogue that were left out, since an event or a candidate has at most 16"
    );
    describe_gauge!("freqcap_ads", "Ads in the catalogue");
    describe_gauge!("freqcap_ads_bytes", "Bytes of memory of the catalogue");
}

impl Catalogue {
    /// Reads the catalogue of a store. Blocks on disk.
    pub(super) fn load(store: &Store) -> Result<Self, StoreError> {
        let mut segments = vec![Segment::default(); SEGMENTS];
        let mut fits = true;
        store.ads().each(|da, keys| {
            let hash = hash_of(da);
            fits &= segments[place_of(hash)].load(hash, da, keys).is_some();
        })?;
        if !fits {
            return Err(StoreError::Corrupt { table: "ads", what: "there is more than fits into memory" });
        }
        let catalogue = Self::default();
        for (place, mut segment) in segments.into_iter().enumerate().filter(|(_, segment)| segment.len() > 0) {
            segment.shrink();
            catalogue.put_in_place(place, segment);
        }
        Ok(catalogue)
    }

    fn put_in_place(&self, place: usize, segment: Segment) {
        let Inner { segments, ads, memory, .. } = &*self.0;
        let (new_ads, new_memory) = (segment.len(), segment.memory());
        // Only one at a time changes the catalogue.
        let before = segments[place].swap(Arc::new(segment));
        ads.store(ads.load(Ordering::Relaxed) + new_ads - before.len(), Ordering::Relaxed);
        memory.store(memory.load(Ordering::Relaxed) + new_memory - before.memory(), Ordering::Relaxed);
    }

    /// How many ads it has.
    pub fn len(&self) -> usize {
        self.0.ads.load(Ordering::Relaxed)
    }

    /// Whether it has no ads.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.0.memory.load(Ordering::Relaxed)
    }

    /// The segments with some ads changed; nothing is in force yet. Whoever changes the catalogue must be the only one.
    pub fn prepare(&self, changes: &[AdChange], replace: bool) -> Result<Prepared, NoPlace> {
        let mut by_place: Vec<(usize, u64, &AdChange)> = changes
            .iter()
            .map(|change| {
                let hash = hash_of(&change.da);
                (place_of(hash), hash, change)
            })
            .collect();
        by_place.sort_by_key(|&(place, ..)| place);
        let mut segments = Vec::new();
        for run in by_place.chunk_by(|one, other| one.0 == other.0) {
            let place = run[0].0;
            let changes = run.iter().map(|&(_, hash, change)| {
                (change.da.as_str(), hash, change.after.as_ref().map(|after| after.keys.as_slice()))
            });
            let segment =
                if replace { Segment::default().with(changes) } else { self.0.segments[place].load().with(changes) };
            segments.push((place, segment.ok_or(NoPlace)?));
        }
        Ok(Prepared { segments, replace })
    }

    /// Puts changes in force for every later call.
    pub fn put_in_force(&self, Prepared { segments, replace }: Prepared) {
        let mut kept = segments.iter().map(|&(place, _)| place).peekable();
        for place in 0..if replace { SEGMENTS } else { 0 } {
            if kept.next_if_eq(&place).is_none() && self.0.segments[place].load().len() > 0 {
                self.put_in_place(place, Segment::default());
            }
        }
        for (place, segment) in segments {
            self.put_in_place(place, segment);
        }
    }

    /// Gives the keys of an ad that `named` does not have to `add`, as many as there is place for.
    #[inline]
    pub fn join(&self, da: &str, named: &[CapKey<'_>], mut add: impl FnMut(&str)) -> Joined {
        if self.is_empty() {
            return Joined::default();
        }
        let hash = hash_of(da);
        let segment = self.0.segments[place_of(hash)].load();
        let Some(keys) = segment.get(hash, da) else { return Joined { is_unknown: true, keys_cut: 0 } };
        let (mut place, mut joined) = (MAX_KEYS.saturating_sub(named.len()), Joined::default());
        for key in keys.filter(|key| !named.iter().any(|named| named.as_str() == *key)) {
            if place == 0 {
                joined.keys_cut += 1;
            } else {
                place -= 1;
                add(key);
            }
        }
        joined
    }

    /// Adds the keys that the catalogue has of a candidate's ad.
    pub fn join_candidate(&self, candidate: &mut Candidate<'_>) -> Joined {
        let mut added = Vec::new();
        let joined = self.join(candidate.da.as_str(), &candidate.keys, |key| added.push(key.to_owned()));
        // They were checked when they were put in.
        candidate.keys.extend(added.into_iter().filter_map(|key| CapKey::extra(key).ok()));
        joined
    }

    /// Counts what was seen.
    pub fn count(&self, seen: AdsSeen) {
        if seen.unknown > 0 {
            self.0.unknown.increment(seen.unknown as u64);
        }
        if seen.keys_cut > 0 {
            self.0.keys_cut.increment(seen.keys_cut as u64);
        }
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Catalogue({} ads)", self.len())
    }
}

/// Segments that are not in force yet.
#[derive(Debug)]
pub struct Prepared {
    segments: Vec<(usize, Segment)>,
    replace: bool,
}

/// The segment of an ad: bits that its table does not go by.
#[inline]
fn place_of(hash: u64) -> usize {
    (hash >> 40) as usize % SEGMENTS
}

#[cfg(test)]
mod tests;
