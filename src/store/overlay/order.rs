//! The rows of a shard in the order of keys, for walks over the rows of one user. Writers pay nothing: rows are sorted
//! when a walk asks, a step at a time.

use std::ops::Range;

/// The newest rows, up to this many bytes, stay unsorted. They are searched linearly, which is faster than sorting
/// them.
const UNSORTED: usize = 256 << 10;

/// Rows in the order in which they were written.
pub(super) trait Places {
    /// The key of the row at a position.
    fn key_at(&self, at: u32) -> &[u8];

    /// The positions of rows from a position on, which is one of them or the end.
    fn places_from(&self, from: usize) -> impl Iterator<Item = u32>;

    /// The position after a row.
    fn after(&self, at: u32) -> usize;

    /// The position after the last row.
    fn end(&self) -> usize;
}

/// The sorted positions of rows.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Each key once, at its first position. A row that moved keeps its key there.
    sorted: Vec<u32>,
    /// Rows before this position are sorted.
    to: usize,
}

impl Order {
    /// Up to `max` positions of rows whose keys are in a range, in the order of keys; some rows may have moved since.
    /// `None` if a step of sorting was done and more are needed: ask again, and release the rows in between.
    pub(super) fn range(&mut self, rows: &impl Places, range: &Range<Vec<u8>>, max: usize) -> Option<Vec<u32>> {
        if rows.end() - self.to > UNSORTED {
            self.step(rows);
            if rows.end() - self.to > UNSORTED {
                return None;
            }
        }
        let before = self.sorted.partition_point(|&at| rows.key_at(at) < range.start.as_slice());
        let mut found = Vec::new();
        for &at in self.sorted[before..].iter().take(max) {
            if rows.key_at(at) >= range.end.as_slice() {
                break;
            }
            found.push(at);
        }
        let sorted = found.len();
        // If `max` rows were found, rows after the last one are not in the result.
        let end = if sorted == max { found.last().map(|&at| rows.key_at(at)) } else { None };
        let end = end.unwrap_or(&range.end);
        let unsorted = rows.places_from(self.to);
        found.extend(unsorted.filter(|&at| (range.start.as_slice()..end).contains(&rows.key_at(at))));
        if found.len() > sorted {
            found.sort_by_key(|&at| rows.key_at(at));
            found.dedup_by_key(|at| rows.key_at(*at));
            found.truncate(max);
        }
        Some(found)
    }

    /// Sorts the next rows.
    fn step(&mut self, rows: &impl Places) {
        let end = self.to + UNSORTED;
        let mut next: Vec<u32> = rows.places_from(self.to).take_while(|&at| (at as usize) < end).collect();
        self.to = next.last().map_or(rows.end(), |&last| rows.after(last));
        next.sort_by_key(|&at| rows.key_at(at));
        next.dedup_by_key(|at| rows.key_at(*at));
        let mut merged = Vec::with_capacity(self.sorted.len() + next.len());
        let mut rest = self.sorted.as_slice();
        for at in next {
            let key = rows.key_at(at);
            let (before, from) = rest.split_at(rest.partition_point(|&other| rows.key_at(other) < key));
            merged.extend_from_slice(before);
            rest = from;
            if rest.first().is_none_or(|&first| rows.key_at(first) != key) {
                merged.push(at);
            }
        }
        merged.extend_from_slice(rest);
        self.sorted = merged;
    }
}
