//! Who may command a partition: the epoch of its last claim. Pure, and a function of the log's records alone, so that all
//! nodes that apply the log agree.

use crate::model::TsMs;
use std::fmt;

/// The offset of a claim in its partition. A later claim has a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a node's process. A restart is another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    /// 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the owner before left behind, as a claim finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// Nobody claimed the partition before.
    Nobody,
    /// The owner before answers no reads any more, nor does any owner before it.
    Released,
    /// The owner before, of this epoch, may still answer reads under its lease.
    Unreleased(Epoch),
}

/// Which commands of a partition are void. Stored with the partition's state, in the same write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence {
    last_claim: Option<(Epoch, RunId)>,
    released: bool,
}

impl Fence {
    /// Length of the stored form, in bytes.
    pub(super) const STORED: usize = 18;

    /// Applies the claim at `offset`. Every claim is valid: its sender was assigned the partition at some time, and the log
    /// says who came last.
    pub fn claim(&mut self, offset: u64, run: RunId) -> Former {
        let former = match self.last_claim {
            None => Former::Nobody,
            Some(_) if self.released => Former::Released,
            Some((epoch, _)) => Former::Unreleased(epoch),
        };
        *self = Self { last_claim: Some((Epoch(offset), run)), released: false };
        former
    }

    /// Applies a release. Returns whether it was the owner's. That of an earlier owner says nothing about the present one.
    pub fn release(&mut self, epoch: Epoch) -> bool {
        let is_owners = self.owner() == Some(epoch);
        self.released |= is_owners;
        is_owners
    }

    /// The epoch whose commands take effect; `None` before the first claim and after a release.
    pub fn owner(&self) -> Option<Epoch> {
        self.last_claim.filter(|_| !self.released).map(|(epoch, _)| epoch)
    }

    /// The last claim and whose it was, released or not.
    pub fn last_claim(&self) -> Option<(Epoch, RunId)> {
        self.last_claim
    }

    /// Whether a command of this epoch has no effect.
    pub fn is_void(&self, epoch: Epoch) -> bool {
        self.owner() != Some(epoch)
    }

    /// The stored form: format, whether claimed and released, epoch, run; integers big-endian.
    pub fn to_bytes(self) -> [u8; Self::STORED] {
        let mut bytes = [0; Self::STORED];
        let (epoch, run) = self.last_claim.unwrap_or((Epoch(0), RunId(0)));
        bytes[0] = 1;
        bytes[1] = u8::from(self.last_claim.is_some()) | u8::from(self.released) << 1;
        bytes[2..10].copy_from_slice(&epoch.0.to_be_bytes());
        bytes[10..].copy_from_slice(&run.0.to_be_bytes());
        bytes
    }

    /// Reads the stored form; `None` where it is of another format or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::STORED] = bytes.try_into().ok()?;
        let epoch = u64::from_be_bytes(bytes[2..10].try_into().ok()?);
        let run = u64::from_be_bytes(bytes[10..].try_into().ok()?);
        let fence = match bytes[1] {
            0 => Self::default(),
            flags @ (1 | 3) => Self { last_claim: Some((Epoch(epoch), RunId(run))), released: flags == 3 },
            _ => return None,
        };
        (fence.to_bytes() == *bytes).then_some(fence)
    }
}

/// The time of a partition: that of its records. It never goes back, whatever the brokers' clocks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordClock(TsMs);

impl RecordClock {
    /// Goes on from the greatest time applied so far.
    pub fn resume(at: TsMs) -> Self {
        Self(at)
    }

    /// The `now` of a record: when the broker appended it, never earlier than the record before.
    pub fn advance(&mut self, appended: TsMs) -> TsMs {
        self.0 = self.0.max(appended);
        self.0
    }

    /// The greatest time applied so far.
    pub fn now(self) -> TsMs {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RunId = RunId(1);
    const B: RunId = RunId(2);

    #[test]
    fn only_commands_of_the_last_claim_take_effect() {
        let mut fence = Fence::default();
        assert!(fence.is_void(Epoch(0)));
        assert_eq!(fence.claim(7, A), Former::Nobody);
        assert!(!fence.is_void(Epoch(7)) && fence.is_void(Epoch(6)) && fence.is_void(Epoch(8)));
        assert_eq!(fence.claim(9, B), Former::Unreleased(Epoch(7)));
        assert!(fence.is_void(Epoch(7)) && !fence.is_void(Epoch(9)));
    }

    #[test]
    fn after_its_release_an_owner_commands_nothing() {
        let mut fence = Fence::default();
        fence.claim(7, A);
        assert!(fence.release(Epoch(7)));
        assert!(fence.is_void(Epoch(7)) && fence.owner().is_none());
        assert!(!fence.release(Epoch(7)), "it is released already");
        assert_eq!(fence.claim(9, B), Former::Released);
    }

    #[test]
    fn a_late_release_of_an_earlier_owner_releases_nobody() {
        let mut fence = Fence::default();
        fence.claim(7, A);
        fence.claim(9, B);
        assert!(!fence.release(Epoch(7)));
        assert_eq!(fence.owner(), Some(Epoch(9)));
        assert_eq!(fence.claim(12, A), Former::Unreleased(Epoch(9)));
    }

    #[test]
    fn the_stored_form_is_pinned_and_read_back() {
        let mut fence = Fence::default();
        assert_eq!(fence.to_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        fence.claim(258, RunId(0x0102_0304_0506_0708));
        assert_eq!(fence.to_bytes(), [1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        fence.release(Epoch(258));
        assert_eq!(fence.to_bytes()[1], 3);
        for fence in [Fence::default(), fence] {
            assert_eq!(Fence::from_bytes(&fence.to_bytes()), Some(fence));
        }
        let bytes = fence.to_bytes();
        for (at, byte) in [(0, 2), (1, 0), (1, 2), (1, 4)] {
            let mut bad = bytes;
            bad[at] = byte;
            assert_eq!(Fence::from_bytes(&bad), None, "{at} {byte}");
        }
        assert_eq!(Fence::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn the_time_of_a_partition_never_goes_back() {
        let mut clock = RecordClock::resume(TsMs(1_000));
        assert_eq!(
            [999, 1_005, 1_001, 1_005, 1_006].map(|at| clock.advance(TsMs(at)).0),
            [1_000, 1_005, 1_005, 1_005, 1_006]
        );
        assert_eq!(clock.now(), TsMs(1_006));
    }
}
