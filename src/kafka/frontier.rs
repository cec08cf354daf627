//! Where a partition may be read from again: below the frontier, every chunk is done.

use crate::store::Frontier;
use std::collections::VecDeque;

/// The chunks of a partition between what is done and what is read.
#[derive(Debug)]
pub(super) struct InFlight {
    frontier: Frontier,
    /// Ends of chunks and how many parts of each are not done, from the oldest on.
    chunks: VecDeque<(Frontier, usize)>,
    /// The number of the oldest.
    first: u64,
}

impl InFlight {
    pub(super) fn new(frontier: Frontier) -> Self {
        Self { frontier, chunks: VecDeque::new(), first: 0 }
    }

    /// The number that the next chunk gets.
    pub(super) fn next_chunk(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Adds the next chunk, which is done when so many parts are.
    pub(super) fn add(&mut self, end: Frontier, parts: usize) {
        self.chunks.push_back((end, parts));
        self.advance();
    }

    /// Goes on at this offset, once what is under way is done: below it there is nothing more that can be read.
    pub(super) fn step_to(&mut self, next: u64) {
        let last = self.chunks.back().map_or(self.frontier, |(end, _)| *end).last;
        self.add(Frontier { next, last }, 0);
    }

    /// A chunk that is not done has so many parts more.
    pub(super) fn more(&mut self, chunk: u64, parts: usize) {
        if let Some((_, left)) = chunk.checked_sub(self.first).and_then(|at| self.chunks.get_mut(at as usize)) {
            *left += parts;
        }
    }

    /// A part of a chunk is done.
    pub(super) fn done(&mut self, chunk: u64) {
        let at = chunk.checked_sub(self.first).and_then(|at| self.chunks.get_mut(at as usize));
        debug_assert!(at.as_ref().is_some_and(|(_, parts)| *parts > 0), "a part is done once");
        if let Some((_, parts)) = at {
            *parts = parts.saturating_sub(1);
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some((end, 0)) = self.chunks.front() {
            self.frontier = *end;
            self.first += 1;
            self.chunks.pop_front();
        }
    }

    pub(super) fn frontier(&self) -> Frontier {
        self.frontier
    }

    /// Whether all that was read is done.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordCheck;

    fn end(next: u64) -> Frontier {
        Frontier { next, last: None }
    }

    #[test]
    fn the_frontier_stays_before_the_oldest_chunk_that_is_not_done() {
        let mut in_flight = InFlight::new(end(5));
        for (number, next, parts) in [(0, 10, 2), (1, 20, 1), (2, 30, 1)] {
            assert_eq!(in_flight.next_chunk(), number);
            in_flight.add(end(next), parts);
        }
        in_flight.done(0);
        in_flight.done(2);
        assert_eq!(in_flight.frontier().next, 5);
        in_flight.done(0);
        assert_eq!(in_flight.frontier().next, 10);
        assert!(!in_flight.is_empty());
        in_flight.done(1);
        assert_eq!((in_flight.frontier().next, in_flight.is_empty()), (30, true));
        // Nothing of it was for anybody.
        in_flight.add(end(40), 0);
        assert_eq!((in_flight.frontier().next, in_flight.next_chunk()), (40, 4));
        let last = Some(RecordCheck { offset: 41, ts: 1, hash: 2 });
        in_flight.add(Frontier { next: 42, last }, 1);
        in_flight.step_to(50);
        assert_eq!(in_flight.frontier().next, 40);
        in_flight.done(4);
        assert_eq!(in_flight.frontier(), Frontier { next: 50, last });
    }
}
