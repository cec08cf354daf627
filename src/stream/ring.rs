//! The newest changes, for all who follow.
//!
//! It is on while somebody follows. What is in it has no gaps: of each shard it has every change after where it begins, up
//! to where it ends.

use super::batch::Batch;
use super::position::Position;
use crate::model::ShardSet;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Memory for batches. More than a reader may be behind.
const BYTES_MAX: usize = 8 << 20;

/// What a follower finds at a place.
pub(super) enum Next {
    Batch(Arc<Batch>),
    /// Not there yet.
    Waits,
    /// Not there any more.
    Gone,
}

#[derive(Default)]
struct State {
    followers: usize,
    /// Counts how often it was turned on.
    period: u64,
    /// Everything up to here is not in it.
    start: Position,
    /// Everything up to here is.
    end: Position,
    /// The number of the first batch.
    first: u64,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

pub(super) struct Ring {
    state: Mutex<State>,
    /// The number of the batch after the last one.
    head: watch::Sender<u64>,
}

/// Where the hub goes on.
pub(super) struct RingEnd {
    pub period: u64,
    pub position: Position,
}

impl Default for Ring {
    fn default() -> Self {
        Self { state: Mutex::default(), head: watch::Sender::new(0) }
    }
}

impl Ring {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a follower. The first turns it on, from `now` on.
    pub fn enter(&self, now: impl FnOnce() -> Position) {
        let mut state = self.state();
        state.followers += 1;
        if state.followers == 1 {
            state.period += 1;
            state.start = now();
            state.end = state.start.clone();
        }
    }

    /// Removes a follower. The last turns it off. Returns how many are left.
    pub fn leave(&self) -> usize {
        let mut state = self.state();
        state.followers -= 1;
        if state.followers == 0 {
            state.first += state.batches.len() as u64;
            state.batches = VecDeque::new();
            state.bytes = 0;
        }
        state.followers
    }

    pub fn followers(&self) -> usize {
        self.state().followers
    }

    /// Where the hub goes on; `None` while nobody follows.
    pub fn end(&self) -> Option<RingEnd> {
        let state = self.state();
        (state.followers > 0).then(|| RingEnd { period: state.period, position: state.end.clone() })
    }

    /// Appends what the hub has read since `end`, up to `position`.
    pub fn push(&self, end: &RingEnd, batch: Batch, position: Position) {
        let mut state = self.state();
        if state.followers == 0 || state.period != end.period {
            return;
        }
        if batch.is_empty() {
            state.end = position;
            return;
        }
        state.bytes += batch.bytes();
        state.end = position;
        state.batches.push_back(Arc::new(batch));
        while state.bytes > BYTES_MAX
            && let Some(oldest) = state.batches.pop_front()
        {
            state.bytes -= oldest.bytes();
            state.first += 1;
            oldest.advance(&mut state.start);
        }
        let head = state.first + state.batches.len() as u64;
        drop(state);
        self.head.send_replace(head);
    }

    /// Told whenever there is more.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// The place of the oldest batch.
    pub fn first(&self) -> u64 {
        self.state().first
    }

    /// The place after the last batch, from which on nothing is missed that is not durable yet.
    pub fn head(&self) -> u64 {
        let state = self.state();
        state.first + state.batches.len() as u64
    }

    pub fn get(&self, number: u64) -> Next {
        let state = self.state();
        match number.checked_sub(state.first) {
            None => Next::Gone,
            Some(at) => match state.batches.get(at as usize) {
                Some(batch) => Next::Batch(batch.clone()),
                None => Next::Waits,
            },
        }
    }

    /// The place at which whoever has everything up to `position` goes on; `None` if what comes next is not here any more.
    pub fn place(&self, position: &Position, shards: &ShardSet) -> Option<u64> {
        let state = self.state();
        shards.iter().all(|shard| position[shard] >= state.start[shard]).then_some(state.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CapChange, ShardId};
    use crate::stream::batch::CapState;

    fn batch(seq: u64, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        let state = CapState { change: CapChange::Ended, until: None, at: None };
        batch.push(ShardId(1), seq, (&"u".repeat(bytes), "da:1"), &state);
        batch
    }

    fn push(ring: &Ring, batch: Batch, seq: u64) {
        ring.push(&ring.end().unwrap(), batch, Position::of(|_| seq));
    }

    #[test]
    fn a_follower_finds_its_place_as_long_as_nothing_after_it_is_gone() {
        let ring = Ring::default();
        assert!(ring.end().is_none());
        ring.enter(|| Position::of(|_| 10));
        let place = |seq: u64| ring.place(&Position::of(|_| seq), &ShardSet::ALL);
        assert_eq!((place(9), place(10)), (None, Some(0)));
        push(&ring, batch(11, 10), 11);
        assert!(matches!(ring.get(0), Next::Batch(batch) if batch.lines().next().unwrap().seq == 11));
        assert!(matches!(ring.get(1), Next::Waits));
        assert_eq!(place(10), Some(0));
        push(&ring, batch(12, BYTES_MAX), 12);
        // What does not fit pushes out everything before it, and itself.
        assert!(matches!(ring.get(0), Next::Gone) && matches!(ring.get(1), Next::Gone));
        assert_eq!((place(11), place(12), ring.head()), (None, Some(2), 2));
    }

    #[test]
    fn it_holds_nothing_once_nobody_follows() {
        let ring = Ring::default();
        ring.enter(Position::default);
        let before = ring.end().unwrap();
        push(&ring, batch(1, 10), 1);
        assert_eq!(ring.leave(), 0);
        assert!(matches!(ring.get(0), Next::Gone));
        ring.enter(|| Position::of(|_| 5));
        // What the hub read for those before.
        ring.push(&before, batch(2, 10), Position::of(|_| 2));
        assert_eq!(ring.end().unwrap().position, Position::of(|_| 5));
        assert!(matches!(ring.get(ring.head()), Next::Waits));
    }
}
