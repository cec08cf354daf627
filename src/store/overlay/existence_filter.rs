//! Existence filters: which logs RocksDB may have, by the hashes of row keys. Most events are of a pair that was never
//! seen, and asking RocksDB for it costs more than counting it.
//!
//! Each is a series of blocked Bloom filters of one cache line a key (Putze, Sanders, Singler, "Cache-, Hash- and
//! Space-Efficient Bloom Filters", 2007), each as large as all before it together: about 12 bits a key and 0.8 % false
//! positives a level. Keys are never removed: RocksDB is asked in vain for what compaction removed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Keys per line of 512 bits.
const LINE_KEYS: usize = 42;
/// Keys of a shard's first level: 24 KiB.
const FIRST: usize = 384 * LINE_KEYS;
/// Bits set per key.
const BITS: u32 = 6;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// One Bloom filter.
#[derive(Debug)]
struct Level {
    lines: Box<[Line]>,
    /// Keys added so far.
    count: AtomicUsize,
}

impl Level {
    fn new(room: usize) -> Self {
        let lines = room.div_ceil(LINE_KEYS);
        Self { lines: (0..lines).map(|_| Line::default()).collect(), count: AtomicUsize::new(0) }
    }

    /// How many more keys it has room for.
    fn left(&self) -> usize {
        self.room().saturating_sub(self.count.load(Ordering::Relaxed))
    }

    fn room(&self) -> usize {
        self.lines.len() * LINE_KEYS
    }

    fn line(&self, mixed: u64) -> &Line {
        &self.lines[((u128::from(mixed) * self.lines.len() as u128) >> 64) as usize]
    }

    fn may_have(&self, mixed: u64) -> bool {
        let line = self.line(mixed);
        bits(mixed).all(|bit| line.0[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 == 1)
    }

    fn add(&self, mixed: u64) {
        let line = self.line(mixed);
        for bit in bits(mixed) {
            line.0[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The bits of a key in its line. They are other bits of the hash than those that choose the line.
fn bits(mixed: u64) -> impl Iterator<Item = usize> {
    let own = mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (0..BITS).map(move |n| (own >> (10 + 9 * n)) as usize & 511)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): every
/// input bit affects every output bit.
fn mix(hash: u32) -> u64 {
    let z = u64::from(hash).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The keys of one shard that RocksDB may have.
#[derive(Debug, Default)]
pub(in crate::store) struct ExistenceFilter(Vec<Level>);

impl ExistenceFilter {
    /// Whether the key was added; may be true for a key that was not.
    pub(in crate::store) fn may_have(&self, hash: u32) -> bool {
        let mixed = mix(hash);
        // The newest level has as many keys as all others together.
        self.0.iter().rev().any(|level| level.may_have(mixed))
    }

    /// Makes room for more keys, within `max` bytes in all. Returns whether it did.
    pub(in crate::store) fn reserve(&mut self, more: usize, max: usize) -> bool {
        let left: usize = self.0.iter().map(Level::left).sum();
        if left >= more {
            return true;
        }
        let all: usize = self.0.iter().map(Level::room).sum();
        let room = (more - left).max(all).max(FIRST);
        if self.bytes() + room.div_ceil(LINE_KEYS) * size_of::<Line>() > max {
            return false;
        }
        self.0.push(Level::new(room));
        true
    }

    /// Adds a key; there should be room for it. May run beside [`ExistenceFilter::may_have`]. The caller must order it
    /// before any reader that needs the key.
    pub(in crate::store) fn add(&self, hash: u32) {
        let mixed = mix(hash);
        if self.0.iter().any(|level| level.may_have(mixed)) {
            return;
        }
        // Without room, more false positives are harmless.
        if let Some(level) = self.0.iter().find(|level| level.left() > 0).or(self.0.last()) {
            level.add(mixed);
        }
    }

    pub(in crate::store) fn bytes(&self) -> usize {
        self.0.iter().map(|level| size_of_val(&*level.lines)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_added_may_exist_and_few_others() {
        let mut filter = ExistenceFilter::default();
        assert!(!filter.may_have(7));
        // Consecutive numbers, the worst case for hashes.
        const KEYS: u32 = 200_000;
        for first in (0..KEYS).step_by(5_000) {
            assert!(filter.reserve(5_000, 1 << 20));
            // Some keys are added again.
            (first.saturating_sub(1_000)..first + 5_000).for_each(|hash| filter.add(hash));
        }
        assert!((0..KEYS).all(|hash| filter.may_have(hash)));
        let wrong = (KEYS..2 * KEYS).filter(|&hash| filter.may_have(hash)).count();
        assert!(wrong < KEYS as usize / 25, "{wrong} of {KEYS} others");
        assert!(filter.bytes() < 3 * KEYS as usize, "{} bytes", filter.bytes());
        let bytes = filter.bytes();
        assert!(!filter.reserve(KEYS as usize, bytes + 1_000) && filter.bytes() == bytes);
    }
}
