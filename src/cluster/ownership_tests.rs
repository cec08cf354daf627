//! What the ownership of one partition does, step by step. The explorer tries what several do to each other.

use super::epoch::{Epoch, Former, RunId};
use super::lease::{LEASE_MS, TAKEOVER_WAIT_MS};
use super::ownership::{Action, Ownership, State};
use crate::clock::BootMs;

const ME: RunId = RunId(1);
const OTHER: RunId = RunId(2);
/// When the partition is assigned.
const T: u64 = 100_000;

struct Node {
    ownership: Ownership,
    actions: Vec<Action>,
}

impl Node {
    fn assigned() -> Self {
        let mut node = Self { ownership: Ownership::new(ME, BootMs(T)), actions: Vec::new() };
        node.ownership.assigned(BootMs(T), &mut node.actions);
        node
    }

    /// Assigned, caught up, and its first claim (request 1) on its way.
    fn claiming() -> Self {
        let mut node = Self::assigned();
        node.ownership.caught_up(BootMs(T + 10));
        node.commit(T + 20);
        assert_eq!(node.take(), [Action::Publish, Action::AppendClaim(1)]);
        node
    }

    fn serving(epoch: u64) -> Self {
        let mut node = Self::claiming();
        node.claim(epoch, ME, 1, Former::Nobody, T + 30);
        assert_eq!(node.ownership.state(), State::Serving(Epoch(epoch)));
        node.actions.clear();
        node
    }

    fn commit(&mut self, at: u64) {
        self.ownership.commit_accepted(BootMs(at), BootMs(at + 5), &mut self.actions);
    }

    fn claim(&mut self, epoch: u64, run: RunId, request: u64, former: Former, now: u64) {
        self.ownership.claim_read(Epoch(epoch), run, request, former, BootMs(now), &mut self.actions);
    }

    fn tick(&mut self, now: u64) {
        self.ownership.tick(BootMs(now), &mut self.actions);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn answers(&self, now: u64) -> bool {
        self.ownership.gate().may_answer(BootMs(now))
    }

    fn acknowledges(&self, epoch: u64) -> bool {
        self.ownership.gate().may_acknowledge(Some(Epoch(epoch)))
    }
}

#[test]
fn nothing_is_claimed_before_the_state_is_there_and_a_commit_was_accepted() {
    let mut node = Node::assigned();
    node.commit(T + 1);
    assert_eq!(node.take(), [Action::Publish]);
    node.ownership.caught_up(BootMs(T + 2));
    node.tick(T + 3);
    assert_eq!((node.ownership.state(), node.take()), (State::Ready, vec![]));
    node.commit(T + 4);
    assert_eq!((node.ownership.state(), node.take()), (State::Claiming, vec![Action::AppendClaim(1)]));
}

#[test]
fn the_first_owner_serves_once_its_claim_is_read_back() {
    let mut node = Node::claiming();
    assert!(!node.answers(T + 25) && node.ownership.gate().command_epoch().is_none());
    node.claim(7, ME, 1, Former::Nobody, T + 30);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(7)));
    assert!(node.answers(T + 31) && node.acknowledges(7) && !node.acknowledges(6));
    assert_eq!(node.ownership.gate().command_epoch(), Some(Epoch(7)));
    // Until the lease of the commit that was sent at T + 20 ends.
    assert!(node.answers(T + 20 + LEASE_MS - 1) && !node.answers(T + 20 + LEASE_MS));
}

#[test]
fn after_an_owner_that_did_not_release_it_waits_for_its_lease_to_end() {
    let mut node = Node::claiming();
    node.claim(7, ME, 1, Former::Unreleased(Epoch(3)), T + 30);
    assert_eq!(node.ownership.state(), State::Waiting(Epoch(7)));
    assert!(!node.answers(T + 31) && !node.acknowledges(7));
    for second in 1..=2 {
        node.commit(T + second * 1_000);
    }
    node.tick(T + TAKEOVER_WAIT_MS - 1);
    assert_eq!(node.ownership.state(), State::Waiting(Epoch(7)));
    node.tick(T + TAKEOVER_WAIT_MS);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(7)));
    assert!(node.answers(T + TAKEOVER_WAIT_MS) && node.acknowledges(7));
}

#[test]
fn it_waits_no_longer_once_the_owner_before_has_released() {
    let mut node = Node::claiming();
    node.claim(7, ME, 1, Former::Unreleased(Epoch(3)), T + 30);
    node.ownership.release_read(Epoch(2), BootMs(T + 40), &mut node.actions);
    assert_eq!(node.ownership.state(), State::Waiting(Epoch(7)), "an earlier owner says nothing about this one");
    node.ownership.release_read(Epoch(3), BootMs(T + 50), &mut node.actions);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(7)));
}

#[test]
fn without_commits_the_reads_end_and_a_new_claim_begins_them_again() {
    let mut node = Node::serving(7);
    let lapsed = T + 20 + LEASE_MS;
    // Its records are still acknowledged: no other claim came between.
    assert!(!node.answers(lapsed) && node.acknowledges(7));
    node.tick(lapsed);
    node.commit(lapsed + 10);
    assert_eq!((node.ownership.state(), node.take()), (State::Claiming, vec![Action::AppendClaim(2)]));
    assert!(!node.answers(lapsed + 20));
    // Nobody else claimed it meanwhile: it need not wait.
    node.claim(9, ME, 2, Former::Unreleased(Epoch(7)), lapsed + 30);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(9)));
    assert!(node.answers(lapsed + 31) && node.acknowledges(9) && !node.acknowledges(7));
}

#[test]
fn a_claim_that_was_sent_before_the_lease_lapsed_begins_nothing() {
    let mut node = Node::claiming();
    let lapsed = T + 20 + LEASE_MS;
    node.tick(lapsed);
    node.commit(lapsed + 1);
    assert_eq!(node.take(), [Action::AppendClaim(2)]);
    node.claim(7, ME, 1, Former::Nobody, lapsed + 10);
    assert_eq!(node.ownership.state(), State::Claiming);
    node.claim(8, ME, 2, Former::Unreleased(Epoch(7)), lapsed + 11);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(8)));
}

#[test]
fn anothers_claim_ends_reads_and_acknowledgements_at_once() {
    let mut node = Node::serving(7);
    node.claim(9, OTHER, 1, Former::Unreleased(Epoch(7)), T + 40);
    assert!(!node.answers(T + 40) && !node.acknowledges(7) && !node.acknowledges(9));
    // The group says that it is still this node's. So it claims it again, and waits: the other may answer reads.
    node.commit(T + 1_000);
    assert_eq!(node.take(), [Action::Publish, Action::AppendClaim(2)]);
    node.claim(10, ME, 2, Former::Unreleased(Epoch(9)), T + 1_010);
    assert_eq!(node.ownership.state(), State::Waiting(Epoch(10)));
    for at in [2_000, 3_000] {
        node.commit(T + at);
    }
    node.tick(T + 40 + TAKEOVER_WAIT_MS - 1);
    assert_eq!(node.ownership.state(), State::Waiting(Epoch(10)), "the wait counts from the other's claim");
    node.tick(T + 40 + TAKEOVER_WAIT_MS);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(10)));
}

#[test]
fn a_partition_that_is_taken_away_is_released() {
    let mut node = Node::serving(7);
    node.ownership.unassigned(&mut node.actions);
    assert!(!node.answers(T + 31) && node.ownership.gate().command_epoch().is_none());
    assert_eq!(node.take(), [Action::AppendRelease(Epoch(7))]);
    // What was sent before the release is still acknowledged, and nothing after.
    assert!(node.acknowledges(7));
    node.ownership.release_read(Epoch(7), BootMs(T + 50), &mut node.actions);
    assert!(!node.acknowledges(7));
}

#[test]
fn an_owner_that_never_served_releases_nothing() {
    let mut node = Node::claiming();
    node.claim(7, ME, 1, Former::Unreleased(Epoch(3)), T + 30);
    node.ownership.unassigned(&mut node.actions);
    assert_eq!(node.take(), []);
    let mut node = Node::claiming();
    node.claim(7, ME, 1, Former::Unreleased(Epoch(3)), T + 30);
    node.ownership.hand_over(&mut node.actions);
    assert_eq!(node.take(), [Action::Publish]);
    assert_eq!(node.ownership.state(), State::Released);
}

#[test]
fn a_hand_over_refuses_new_calls_finishes_those_under_way_and_releases() {
    let mut node = Node::serving(7);
    node.ownership.hand_over(&mut node.actions);
    assert_eq!(node.take(), [Action::Drain, Action::Publish]);
    assert!(!node.answers(T + 31) && node.ownership.gate().command_epoch().is_none() && node.acknowledges(7));
    node.ownership.drained(&mut node.actions);
    assert_eq!(node.take(), [Action::AppendRelease(Epoch(7)), Action::Publish]);
    // It claims nothing again, though it is still a member.
    node.commit(T + 1_000);
    node.tick(T + 60_000);
    node.ownership.unassigned(&mut node.actions);
    assert_eq!((node.ownership.state(), node.take()), (State::Unassigned, vec![]));
}

#[test]
fn a_claim_that_is_lost_is_sent_again_and_either_may_come() {
    let mut node = Node::claiming();
    for second in 1..=10 {
        node.commit(T + second * 1_000);
        node.tick(T + second * 1_000 + 30);
    }
    assert_eq!(node.take(), [Action::AppendClaim(2)]);
    node.claim(7, ME, 1, Former::Nobody, T + 10_100);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(7)));
    node.claim(8, ME, 2, Former::Unreleased(Epoch(7)), T + 10_110);
    assert_eq!(node.ownership.state(), State::Serving(Epoch(8)));
    assert_eq!(node.ownership.gate().command_epoch(), Some(Epoch(8)));
}

#[test]
fn a_claim_that_comes_once_the_partition_is_gone_is_released_again() {
    let mut node = Node::claiming();
    node.ownership.unassigned(&mut node.actions);
    assert_eq!(node.take(), []);
    node.claim(7, ME, 1, Former::Released, T + 30);
    assert_eq!(node.take(), [Action::AppendRelease(Epoch(7))]);
    assert!(!node.answers(T + 31));
}
