//! The lease under which an owner answers reads.
//!
//! Kafka accepts a commit only from a member of the group. So at the instant of an accepted commit nobody else had been
//! assigned the member's partitions, and whoever is assigned one later answers reads [`TAKEOVER_WAIT_MS`] after that at the
//! earliest. The owner counts from when it *sent* the commit, which is before that instant. A lease that has lapsed is never
//! renewed: somebody else may have owned the partition meanwhile, so it takes a new claim, and with that everything
//! written meanwhile.

use super::epoch::Epoch;
use crate::clock::BootMs;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long reads are answered after an accepted commit was sent, in ms.
pub const LEASE_MS: u64 = 3_000;
/// How long a new owner waits after it was assigned a partition, in ms: the lease, and a hundredth for clocks that do not run
/// alike.
pub const TAKEOVER_WAIT_MS: u64 = LEASE_MS + LEASE_MS / 100;

/// Until when the commits that were accepted allow reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Commits that were sent before it say nothing.
    since: BootMs,
    /// The next accepted commit must have been sent and answered before this.
    alive_until: BootMs,
    is_granted: bool,
}

impl Lease {
    /// A lease that the first accepted commit grants which is sent from `since` on, soon enough that nobody else can have come
    /// to answer reads in between.
    pub fn from(since: BootMs) -> Self {
        Self { since, alive_until: since.plus(LEASE_MS), is_granted: false }
    }

    /// A commit that was sent at `sent` was accepted, and the answer came at `now`. Returns whether that tells anything: one
    /// that was sent too early, or of a lease that has lapsed, does not.
    pub fn renew(&mut self, sent: BootMs, now: BootMs) -> bool {
        let counts = !self.has_lapsed(now) && (self.since..=now).contains(&sent);
        if counts {
            self.alive_until = self.alive_until.max(sent.plus(LEASE_MS));
            self.is_granted = true;
        }
        counts
    }

    /// Until when reads are allowed; `None` where no commit was accepted yet.
    pub fn until(&self) -> Option<BootMs> {
        self.is_granted.then_some(self.alive_until)
    }

    /// Whether nothing renews it any more.
    pub fn has_lapsed(&self, now: BootMs) -> bool {
        now >= self.alive_until
    }
}

/// What a node may do with a partition, for those who answer calls: each looks at it for each answer. Set by the partition's
/// ownership alone.
#[derive(Debug, Default)]
pub struct Gate {
    /// Reads are allowed before this instant, in ms of the boot clock; 0 is never.
    reads_until_ms: AtomicU64,
    /// The epoch for new commands, plus 1; 0 is none.
    commands: AtomicU64,
    /// The epoch whose records are acknowledged, plus 1; 0 is none.
    acks: AtomicU64,
}

impl Gate {
    /// Whether an answer to a read may be sent. The data must have been read before `now` was.
    pub fn may_answer(&self, now: BootMs) -> bool {
        now.0 < self.reads_until_ms.load(Ordering::Acquire)
    }

    /// The epoch under which new calls are taken; `None` where this node does not serve the partition.
    pub fn command_epoch(&self) -> Option<Epoch> {
        self.commands.load(Ordering::Acquire).checked_sub(1).map(Epoch)
    }

    /// Whether a record may be acknowledged that was applied while the log's owner was of `epoch`.
    pub fn may_acknowledge(&self, epoch: Option<Epoch>) -> bool {
        epoch.is_some() && epoch == self.acks.load(Ordering::Acquire).checked_sub(1).map(Epoch)
    }

    pub(super) fn set_reads(&self, until: Option<BootMs>) {
        self.reads_until_ms.store(until.map_or(0, |until| until.0), Ordering::Release);
    }

    pub(super) fn set_commands(&self, epoch: Option<Epoch>) {
        self.commands.store(stored(epoch), Ordering::Release);
    }

    pub(super) fn set_acks(&self, epoch: Option<Epoch>) {
        self.acks.store(stored(epoch), Ordering::Release);
    }
}

fn stored(epoch: Option<Epoch>) -> u64 {
    epoch.map_or(0, |epoch| epoch.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_the_commit_was_sent() {
        let mut lease = Lease::from(BootMs(1_000));
        assert_eq!(lease.until(), None);
        assert!(lease.renew(BootMs(1_100), BootMs(1_900)));
        assert_eq!(lease.until(), Some(BootMs(4_100)));
        assert!(!lease.has_lapsed(BootMs(4_099)) && lease.has_lapsed(BootMs(4_100)));
    }

    #[test]
    fn a_commit_from_before_the_assignment_grants_no_lease() {
        let mut lease = Lease::from(BootMs(1_000));
        assert!(!lease.renew(BootMs(999), BootMs(1_100)));
        assert_eq!(lease.until(), None);
    }

    #[test]
    fn answers_out_of_order_never_shorten_a_lease() {
        let mut lease = Lease::from(BootMs(0));
        lease.renew(BootMs(2_000), BootMs(2_100));
        assert!(lease.renew(BootMs(1_000), BootMs(2_200)));
        assert_eq!(lease.until(), Some(BootMs(5_000)));
    }

    #[test]
    fn a_lease_that_lapsed_stays_so() {
        let mut lease = Lease::from(BootMs(0));
        lease.renew(BootMs(1_000), BootMs(1_100));
        assert!(!lease.renew(BootMs(3_900), BootMs(4_000)));
        assert!(lease.has_lapsed(BootMs(4_000)));
        // The first commit must come in time, too.
        let mut late = Lease::from(BootMs(0));
        assert!(!late.renew(BootMs(2_900), BootMs(3_000)));
        assert_eq!(late.until(), None);
    }

    #[test]
    fn a_gate_allows_what_was_set_and_nothing_else() {
        let gate = Gate::default();
        assert!(!gate.may_answer(BootMs(0)) && gate.command_epoch().is_none() && !gate.may_acknowledge(None));
        gate.set_reads(Some(BootMs(10)));
        gate.set_commands(Some(Epoch(0)));
        gate.set_acks(Some(Epoch(7)));
        assert!(gate.may_answer(BootMs(9)) && !gate.may_answer(BootMs(10)));
        assert_eq!(gate.command_epoch(), Some(Epoch(0)));
        assert!(gate.may_acknowledge(Some(Epoch(7))) && !gate.may_acknowledge(Some(Epoch(6))));
        gate.set_reads(None);
        assert!(!gate.may_answer(BootMs(0)));
    }
}
