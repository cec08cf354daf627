//! How far behind a reader is that does not take what comes.

use super::batch::Batch;
use super::ring::{Next, Ring};

/// A reader that is further behind is let go.
pub(super) const BEHIND_MAX: u64 = 4 << 20;

/// Counts the bytes that a follower has not sent yet of what is in the ring, without writing them.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The batch to look at next.
    next: u64,
    bytes: u64,
}

impl Lag {
    /// The follower goes on at a place in the ring.
    pub fn joined(&mut self, place: u64) {
        *self = Self { next: place, bytes: 0 };
    }

    /// The follower has sent so many bytes of a batch.
    pub fn sent(&mut self, number: u64, bytes: u64) {
        if number < self.next {
            self.bytes = self.bytes.saturating_sub(bytes);
        } else {
            self.next = number + 1;
        }
    }

    /// The follower has sent so many bytes that it read from the table.
    pub fn sent_from_table(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Looks at what is new in the ring, of which the follower will send `bytes_of` each batch. Returns the bytes that wait.
    pub fn look(&mut self, ring: &Ring, bytes_of: impl Fn(&Batch) -> u64) -> u64 {
        loop {
            match ring.get(self.next) {
                Next::Batch(batch) => {
                    self.bytes += bytes_of(&batch);
                    self.next += 1;
                }
                Next::Waits => return self.bytes,
                // So much came at once that some is gone already.
                Next::Gone => self.next = ring.first(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CapChange, ShardId};
    use crate::stream::batch::CapState;
    use crate::stream::position::Position;

    fn push(ring: &Ring, seq: u64, bytes: usize) {
        let mut batch = Batch::default();
        let state = CapState { change: CapChange::Ended, until: None, at: None };
        batch.push(ShardId(1), seq, (&"u".repeat(bytes), "da:1"), &state);
        batch.shrink();
        ring.push(&ring.end().unwrap(), batch, Position::of(|_| seq));
    }

    #[test]
    fn what_waits_is_what_came_and_was_not_sent() {
        let ring = Ring::default();
        ring.enter(Position::default);
        let mut lag = Lag::default();
        let bytes_of = |batch: &Batch| batch.lines().map(|line| line.json.len() as u64 / 100 * 100).sum::<u64>();
        push(&ring, 1, 1_000);
        lag.joined(0);
        lag.sent(0, 1_000);
        assert_eq!(lag.look(&ring, bytes_of), 0);
        push(&ring, 2, 2_000);
        push(&ring, 3, 3_000);
        assert_eq!(lag.look(&ring, bytes_of), 5_000);
        assert_eq!(lag.look(&ring, bytes_of), 5_000);
        lag.sent(1, 2_000);
        assert_eq!(lag.look(&ring, bytes_of), 3_000);
        lag.sent_from_table(2_000);
        lag.sent_from_table(2_000);
        assert_eq!(lag.look(&ring, bytes_of), 0);
        // More than the ring has room for.
        for seq in 4..8 {
            push(&ring, seq, 5 << 20);
        }
        assert!(lag.look(&ring, bytes_of) > BEHIND_MAX);
        assert_eq!(ring.leave(), 0);
        lag.joined(ring.head());
        assert_eq!(lag.look(&ring, bytes_of), 0);
    }
}
