//! The rows of a shard in the order of their keys, for whoever goes through those of one user. Nobody pays for it who
//! writes: rows are put in order when somebody asks, a step at a time.

use std::ops::Range;

/// The newest rows, up to so many bytes, stay as they came: they are looked through, which takes less time than putting
/// them in order.
const UNSORTED: usize = 256 << 10;

/// Rows as they lie in memory, one after another.
pub(super) trait Places {
    /// The key of the row that begins at a place.
    fn key_at(&self, at: u32) -> &[u8];

    /// Where rows begin from a place on, which is one of them or the end.
    fn places_from(&self, from: usize) -> impl Iterator<Item = u32>;

    /// Where the row after the one at a place begins.
    fn after(&self, at: u32) -> usize;

    /// Where the rows end.
    fn end(&self) -> usize;
}

/// Where rows are.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Each key once, at the place where it came first: a row that moved leaves its key there.
    sorted: Vec<u32>,
    /// Those that begin before this place.
    to: usize,
}

impl Order {
    /// Where up to `max` rows begin whose keys are in a range, in the order of their keys; some of them may have moved
    /// since. `None`: a step of putting rows in order was made, and there are more. Ask again, after a while in which
    /// others may have the rows.
    pub(super) fn range(&mut self, rows: &impl Places, range: &Range<Vec<u8>>, max: usize) -> Option<Vec<u32>> {
        if rows.end() - self.to > UNSORTED {
            self.step(rows);
            if rows.end() - self.to > UNSORTED {
                return None;
            }
        }
        let before = self.sorted.partition_point(|&at| rows.key_at(at) < range.start.as_slice());
        let is_within = |at: &u32| rows.key_at(*at) < range.end.as_slice();
        let mut found: Vec<u32> = self.sorted[before..].iter().copied().take_while(is_within).take(max).collect();
        let sorted = found.len();
        // Where there are as many as were asked for, those behind the last are not.
        let end = if sorted == max { found.last().map(|&at| rows.key_at(at)) } else { None };
        let end = end.unwrap_or(&range.end);
        let is_asked_for = |at: &u32| (range.start.as_slice()..end).contains(&rows.key_at(*at));
        found.extend(rows.places_from(self.to).filter(is_asked_for));
        if found.len() > sorted {
            found.sort_by_key(|&at| rows.key_at(at));
            found.dedup_by_key(|at| rows.key_at(*at));
            found.truncate(max);
        }
        Some(found)
    }

    /// Puts the next rows in order.
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
