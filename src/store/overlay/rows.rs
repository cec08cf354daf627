//! Rows in one buffer, found by the hash of their keys.

use super::order::{Order, Places};
use crate::store::row::RowKey;
use hashbrown::HashTable;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The header of a row: capacity of the value, its length, length of the key.
const HEAD: usize = 4 + 4 + 2;

/// Minimum bytes by which the buffer of a shard grows.
const LEAST: usize = 4 << 10;

/// The position of a row, with enough of its hash to avoid most needless comparisons.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    at: u32,
}

impl Slot {
    /// Spreads a hash over 64 bits, since the table uses the highest and the lowest.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// The rows of one shard: the newest value of each key. A value that outgrows its capacity moves to the end, with room
/// to grow. The old place counts as used until the rows are cleared.
#[derive(Debug, Default)]
pub(super) struct Rows {
    index: HashTable<Slot>,
    bytes: Vec<u8>,
    /// Sorted as far as a walk has asked for it.
    order: Mutex<Order>,
}

impl Rows {
    /// The value of a key.
    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<&[u8]> {
        let slot = self.index.find(Slot::spread(hash), |slot| slot.hash == hash && self.key_at(slot.at) == key)?;
        Some(self.value_at(slot.at))
    }

    /// Sets the value of a key. Returns by how many bytes the buffer grew.
    pub(super) fn put(&mut self, hash: u32, key: &[u8], value: &[u8]) -> usize {
        let found = self.index.find(Slot::spread(hash), |slot| slot.hash == hash && self.key_at(slot.at) == key);
        let Some(at) = found.map(|slot| slot.at) else {
            let at = self.append(key, value, value.len());
            self.index.insert_unique(Slot::spread(hash), Slot { hash, at }, |slot| Slot::spread(slot.hash));
            return HEAD + key.len() + value.len() + size_of::<Slot>();
        };
        let start = at as usize;
        if value.len() <= self.room_at(at) {
            let value_at = start + HEAD + key.len();
            self.bytes[start + 4..start + 8].copy_from_slice(&(value.len() as u32).to_le_bytes());
            self.bytes[value_at..value_at + value.len()].copy_from_slice(value);
            return 0;
        }
        let room = value.len() + value.len() / 2;
        let moved = self.append(key, value, room);
        if let Some(slot) = self.index.find_mut(Slot::spread(hash), |slot| slot.at == at) {
            slot.at = moved;
        }
        HEAD + key.len() + room
    }

    fn append(&mut self, key: &[u8], value: &[u8], room: usize) -> u32 {
        // Rows are frozen long before they reach 4 GiB.
        let at = self.bytes.len() as u32;
        let more = HEAD + key.len() + room;
        if self.bytes.capacity() - self.bytes.len() < more {
            // Grows by an eighth, not by doubling: the overlay's limit is memory.
            self.bytes.reserve_exact(more.max(self.bytes.capacity() / 8).max(LEAST));
        }
        self.bytes.extend_from_slice(&(room as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.bytes.resize(at as usize + HEAD + key.len() + room, 0);
        at
    }

    fn u32_at(&self, at: usize) -> usize {
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]]) as usize
    }

    fn room_at(&self, at: u32) -> usize {
        self.u32_at(at as usize)
    }

    pub(super) fn key_at(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let len = usize::from(u16::from_le_bytes([self.bytes[at + 8], self.bytes[at + 9]]));
        &self.bytes[at + HEAD..at + HEAD + len]
    }

    fn value_at(&self, at: u32) -> &[u8] {
        let len = self.u32_at(at as usize + 4);
        let start = at as usize + HEAD + self.key_at(at).len();
        &self.bytes[start..start + len]
    }

    /// The position of the row after one.
    pub(super) fn after(&self, at: u32) -> usize {
        at as usize + HEAD + self.key_at(at).len() + self.room_at(at)
    }

    /// The position of the next row to be added.
    pub(super) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// The positions of rows from one on, in the order in which they were written. A row that moved appears again.
    pub(super) fn places_from(&self, place: usize) -> impl Iterator<Item = u32> {
        let mut next = place;
        std::iter::from_fn(move || {
            let at = (next < self.bytes.len()).then_some(next as u32)?;
            next = self.after(at);
            Some(at)
        })
    }

    /// See [`Order::range`].
    pub(super) fn in_order(&self, range: &Range<Vec<u8>>, max: usize) -> Option<Vec<u32>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).range(self, range, max)
    }

    /// The hashes of the keys.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u32> {
        self.index.iter().map(|slot| slot.hash)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The rows, unordered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.index.iter().map(|slot| (self.key_at(slot.at), self.value_at(slot.at)))
    }

    /// The rows in the order of keys.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // The bytes after the shard decide most comparisons, without reading the rows.
        let mut order: Vec<(u64, u32)> = self
            .index
            .iter()
            .map(|slot| (RowKey::leading(self.key_at(slot.at).get(1..).unwrap_or_default()), slot.at))
            .collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.key_at(a.1).cmp(self.key_at(b.1))));
        order.into_iter().map(|(_, at)| (self.key_at(at), self.value_at(at)))
    }

    /// Removes all rows, and keeps about as much memory as they used.
    pub(super) fn clear(&mut self) {
        let used = self.bytes.len();
        self.bytes.clear();
        self.bytes.shrink_to(used);
        let rows = self.index.len();
        self.index.clear();
        self.index.shrink_to(rows, |slot| Slot::spread(slot.hash));
        *self.order.get_mut().unwrap_or_else(PoisonError::into_inner) = Order::default();
    }
}

impl Places for Rows {
    fn key_at(&self, at: u32) -> &[u8] {
        Rows::key_at(self, at)
    }

    fn places_from(&self, from: usize) -> impl Iterator<Item = u32> {
        Rows::places_from(self, from)
    }

    fn after(&self, at: u32) -> usize {
        Rows::after(self, at)
    }

    fn end(&self) -> usize {
        Rows::end(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Hashes of two bits make keys collide.
        #[test]
        fn rows_are_a_map(
            puts in prop::collection::vec(
                (prop::collection::vec(0u8..3, 0..12), prop::collection::vec(any::<u8>(), 0..40)),
                0..200,
            ),
        ) {
            // All rows of a shard begin with its number.
            let puts: Vec<_> = puts.into_iter().map(|(key, value)| ([vec![7], key].concat(), value)).collect();
            let hash = |key: &[u8]| u32::from(key.get(1).copied().unwrap_or(3)) << 30;
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            for round in 0..2 {
                for (key, value) in &puts {
                    rows.put(hash(key), key, value);
                    model.insert(key.clone(), value.clone());
                }
                prop_assert_eq!(rows.len(), model.len());
                for key in puts.iter().map(|(key, _)| key).chain([&vec![9]]) {
                    prop_assert_eq!(rows.get(hash(key), key), model.get(key).map(|value| &value[..]));
                }
                let sorted: Vec<_> = rows.sorted().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(sorted, model.clone().into_iter().collect::<Vec<_>>());
                if round == 0 {
                    rows.clear();
                    model.clear();
                    prop_assert!(rows.is_empty());
                }
            }
        }
    }
}
