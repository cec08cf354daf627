//! Which snapshot of a partition may follow which: a later claim's, or a later one of the same claim, and never one that is
//! behind in the log. Manifests are created only if absent, so the check and the creation are one step.

use super::epoch::Epoch;

/// Where a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Of the owner that took it.
    pub epoch: Epoch,
    /// The offset of the first record that it lacks.
    pub offset: u64,
}

/// Why a snapshot must not be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// A later owner has taken one: this node owns the partition no more.
    #[error("an owner of epoch {0} has taken a snapshot, so this node is not the owner any more")]
    Superseded(Epoch),
    /// The newest is further on in the log.
    #[error("the newest snapshot has the log up to offset {0}, which is further on")]
    Behind(u64),
}

/// Whether a snapshot may be the next after the newest one.
pub fn may_follow(newest: Option<SnapshotMark>, next: SnapshotMark) -> Result<(), SnapshotRefused> {
    match newest {
        Some(newest) if newest.epoch > next.epoch => Err(SnapshotRefused::Superseded(newest.epoch)),
        Some(newest) if newest.offset > next.offset => Err(SnapshotRefused::Behind(newest.offset)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_never_set_back() {
        let mark = |epoch, offset| SnapshotMark { epoch: Epoch(epoch), offset };
        assert_eq!(may_follow(None, mark(3, 0)), Ok(()));
        assert_eq!(may_follow(Some(mark(3, 10)), mark(3, 10)), Ok(()));
        assert_eq!(may_follow(Some(mark(3, 10)), mark(12, 12)), Ok(()));
        assert_eq!(may_follow(Some(mark(3, 10)), mark(3, 9)), Err(SnapshotRefused::Behind(10)));
        assert_eq!(may_follow(Some(mark(12, 20)), mark(3, 30)), Err(SnapshotRefused::Superseded(Epoch(12))));
        // The new owner's copy is behind what the old one has kept.
        assert_eq!(may_follow(Some(mark(3, 30)), mark(12, 20)), Err(SnapshotRefused::Behind(30)));
    }
}
