//! Where a unit stands in its log: stored in the same write as what the records did.

use super::epoch::{Fence, RecordClock};
use crate::model::TsMs;

/// The state of a unit that is not rows of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The offset of the next record to apply.
    pub next: u64,
    /// The time of the last record.
    pub clock: RecordClock,
    /// Who commands.
    pub fence: Fence,
}

impl Position {
    /// Length of the stored form, in bytes.
    const STORED: usize = 16 + Fence::STORED;

    /// The stored form: next offset and time (big-endian), fence.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::STORED);
        bytes.extend_from_slice(&self.next.to_be_bytes());
        bytes.extend_from_slice(&self.clock.now().0.to_be_bytes());
        bytes.extend_from_slice(&self.fence.to_bytes());
        bytes
    }

    /// Reads the stored form; `None` where it is of another format or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk()?;
        let (time, fence) = rest.split_first_chunk()?;
        let fence = Fence::from_bytes(fence)?;
        let clock = RecordClock::resume(TsMs(u64::from_be_bytes(*time)));
        Some(Self { next: u64::from_be_bytes(*next), clock, fence })
    }
}

#[cfg(test)]
mod tests {
    use super::super::epoch::RunId;
    use super::*;

    #[test]
    fn the_stored_form_is_pinned_and_read_back() {
        let mut position = Position { next: 258, clock: RecordClock::resume(TsMs(7)), ..Position::default() };
        position.fence.claim(1, RunId(2));
        let bytes = position.to_bytes();
        assert_eq!(bytes[..16], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes[16..], position.fence.to_bytes());
        for position in [Position::default(), position] {
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }
        assert_eq!(Position::from_bytes(&bytes[..33]), None);
        assert_eq!(Position::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }
}
