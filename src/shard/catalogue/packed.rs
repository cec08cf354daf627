//! Ads with their keys in one buffer: a few bytes beyond the texts themselves.
//!
//! An entry is the length of the ad's id less one, the id, the number of keys, and each key after its length (one byte, or two
//! from 128 on). The index has where each entry begins.

use hashbrown::HashTable;

/// Instead of a number of keys: the ad is not in the catalogue any more.
const REMOVED: u8 = u8::MAX;

/// Ads by the hash of their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    index: HashTable<u32>,
}

/// The keys of an ad, in the order given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'p> {
    left: u8,
    rest: &'p [u8],
}

impl<'p> Iterator for Keys<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        self.left = self.left.checked_sub(1)?;
        let (&first, mut rest) = self.rest.split_first()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let (&second, after) = rest.split_first()?;
            (len, rest) = (usize::from(first & 0x7f) | usize::from(second) << 7, after);
        }
        let (key, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        // What was put in as text.
        std::str::from_utf8(key).ok()
    }
}

/// What is known of an ad.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'p> {
    Here(Keys<'p>),
    Removed,
}

/// The hash of an ad's id.
#[inline]
pub(super) fn hash_of(da: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(da.as_bytes())
}

/// The entry that begins at a place: its id, and what follows the id.
fn entry(bytes: &[u8], at: u32) -> (&[u8], &[u8]) {
    let bytes = &bytes[at as usize..];
    let end = 2 + usize::from(bytes[0]);
    (&bytes[1..end], &bytes[end..])
}

impl Packed {
    /// How many ads it says something of.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The bytes of its entries, with those that are out of use.
    pub(super) fn entry_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.index.allocation_size()
    }

    pub(super) fn get(&self, hash: u64, da: &str) -> Option<Found<'_>> {
        let is_it = |&at: &u32| entry(&self.bytes, at).0 == da.as_bytes();
        let &at = self.index.find(hash, is_it)?;
        let (&left, rest) = entry(&self.bytes, at).1.split_first()?;
        Some(if left == REMOVED { Found::Removed } else { Found::Here(Keys { left, rest }) })
    }

    /// Sets the keys of an ad; `None` notes that it is removed. The bytes of an earlier entry stay until all is packed anew.
    /// Fails where there is no place for one more.
    pub(super) fn set<'k>(
        &mut self,
        hash: u64,
        da: &str,
        keys: Option<impl ExactSizeIterator<Item = &'k str>>,
    ) -> Option<()> {
        let at = u32::try_from(self.bytes.len()).ok()?;
        // An id has at most 256 bytes, an ad at most 16 keys.
        self.bytes.push(u8::try_from(da.len().checked_sub(1)?).ok()?);
        self.bytes.extend_from_slice(da.as_bytes());
        match keys {
            None => self.bytes.push(REMOVED),
            Some(keys) => {
                self.bytes.push(keys.len() as u8);
                for key in keys {
                    let len = key.len();
                    if len < 0x80 {
                        self.bytes.push(len as u8);
                    } else {
                        self.bytes.extend_from_slice(&[len as u8 | 0x80, (len >> 7) as u8]);
                    }
                    self.bytes.extend_from_slice(key.as_bytes());
                }
            }
        }
        let bytes = &self.bytes;
        let is_it = |&known: &u32| entry(bytes, known).0 == da.as_bytes();
        match self.index.find_mut(hash, is_it) {
            Some(known) => *known = at,
            None => {
                let rehash = |&at: &u32| xxhash_rust::xxh3::xxh3_64(entry(bytes, at).0);
                self.index.insert_unique(hash, at, rehash);
            }
        }
        Some(())
    }

    /// Every ad that it says something of, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Found<'_>)> {
        self.index.iter().filter_map(|&at| {
            let (da, rest) = entry(&self.bytes, at);
            let (&left, rest) = rest.split_first()?;
            let found = if left == REMOVED { Found::Removed } else { Found::Here(Keys { left, rest }) };
            Some((std::str::from_utf8(da).ok()?, found))
        })
    }

    /// Gives back what it does not use.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        let bytes = &self.bytes;
        self.index.shrink_to_fit(|&at| xxhash_rust::xxh3::xxh3_64(entry(bytes, at).0));
    }

    /// The same with the changes of another, without what is removed or out of use.
    pub(super) fn merged(&self, newer: &Self) -> Option<Self> {
        let mut merged = Self {
            bytes: Vec::with_capacity(self.bytes.len() + newer.bytes.len()),
            index: HashTable::with_capacity(self.len() + newer.len()),
        };
        let of_base = self.iter().filter(|(da, _)| newer.get(hash_of(da), da).is_none());
        for (da, found) in of_base.chain(newer.iter()) {
            if let Found::Here(keys) = found {
                merged.set(hash_of(da), da, Some(keys))?;
            }
        }
        merged.shrink();
        Some(merged)
    }
}

impl ExactSizeIterator for Keys<'_> {
    fn len(&self) -> usize {
        usize::from(self.left)
    }
}
