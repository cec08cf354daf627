//! Who serves a partition, as one node sees it: a state machine without clock and I/O.
//!
//! ```text
//! Unassigned --assigned--> Restoring --caught up--> Ready --commit accepted--> Claiming --claim read back--> Waiting
//!      ^                                              ^                                                        |
//!      |                       lease lapsed, or another's claim read                 the one before has released,
//!      |                                              |                              or the wait is over
//!      +---- unassigned (from every state) ------- Serving <---------------------------------------------------+
//!                                                     |
//!                                                 HandingOver --drained--> Released
//! ```
//!
//! Why this is safe, in the order of the arguments:
//!
//! 1. A node acknowledges a record only if its own claim is the last one before it. So the owner that comes after has
//!    applied it by the time that it has read its own claim back.
//! 2. It acknowledges and answers only once it is *clear*: whoever owned the partition before answers no reads any more,
//!    because its release was read or because its lease has ended. So no read misses what was acknowledged elsewhere.
//! 3. It answers reads only under the lease ([`super::lease`]), and never after it read another's claim.
//! 4. A release says that everybody before is silent, too. So only who was clear releases.
//! 5. Who lapsed claims anew, with the next accepted commit: commits show that it is a member again, and the claim that it
//!    has applied what was written meanwhile.

use super::epoch::{Epoch, Former, RunId};
use super::lease::{Gate, Lease, TAKEOVER_WAIT_MS};
use crate::clock::BootMs;
use std::sync::Arc;

/// How long a claim may be on its way before another is sent, in ms.
const CLAIM_RETRY_MS: u64 = 10_000;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Append a claim with this request number.
    AppendClaim(u64),
    /// Append a release of this epoch, after all commands of it.
    AppendRelease(Epoch),
    /// Finish the calls under way, take a snapshot, and report [`Ownership::drained`].
    Drain,
    /// Commit soon: the state that others read has changed.
    Publish,
}

/// What the node does with the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Another node has it, or nobody.
    Unassigned,
    /// It is assigned; the state is being restored and the log applied.
    Restoring,
    /// Up to date; the next accepted commit begins a claim.
    Ready,
    /// A claim was sent and not read back yet.
    Claiming,
    /// The claim is in force, but the owner before may still answer reads.
    Waiting(Epoch),
    /// It is served, as long as the lease holds.
    Serving(Epoch),
    /// Calls under way are finished; no new ones.
    HandingOver(Epoch),
    /// Given up, until the group takes it away.
    Released,
}

/// One partition, as one run of a node sees it.
#[derive(Debug)]
pub struct Ownership {
    run: RunId,
    gate: Arc<Gate>,
    state: State,
    lease: Lease,
    /// From when on nobody else was assigned the partition, as far as commits show.
    since: BootMs,
    /// Our claim under which nobody else serves, while it is the last one read.
    clear: Option<Epoch>,
    /// While waiting: whose release ends it.
    former: Option<Epoch>,
    /// The last request number used, and the first whose claim was sent under the present lease.
    request: u64,
    valid_from: u64,
    claim_sent: BootMs,
}

impl Ownership {
    /// A partition that is not assigned.
    pub fn new(run: RunId, now: BootMs) -> Self {
        Self {
            run,
            gate: Arc::default(),
            state: State::Unassigned,
            lease: Lease::from(now),
            since: now,
            clear: None,
            former: None,
            request: 0,
            valid_from: 1,
            claim_sent: now,
        }
    }

    /// What those who answer calls look at.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// What the node does with the partition.
    pub fn state(&self) -> State {
        self.state
    }

    /// The group assigned the partition to this node.
    pub fn assigned(&mut self, now: BootMs, actions: &mut Vec<Action>) {
        self.begin_lease(now);
        self.enter(State::Restoring);
        actions.push(Action::Publish);
    }

    /// The group took it away, planned or not; or the node leaves the group.
    pub fn unassigned(&mut self, actions: &mut Vec<Action>) {
        let was_released = self.state == State::Released;
        self.enter(State::Unassigned);
        if !was_released {
            self.give_up_claim(actions);
        }
    }

    /// The state has everything that the log had when it was assigned.
    pub fn caught_up(&mut self, now: BootMs) {
        self.look_at_lease(now);
        if self.state == State::Restoring {
            self.enter(State::Ready);
        }
    }

    /// A commit of this member that was sent at `sent` was accepted.
    pub fn commit_accepted(&mut self, sent: BootMs, now: BootMs, actions: &mut Vec<Action>) {
        self.look_at_lease(now);
        if !self.lease.renew(sent, now) {
            return;
        }
        if self.state == State::Ready {
            self.valid_from = self.request + 1;
            self.send_claim(now, actions);
        }
        self.settle(now, actions);
    }

    /// The claim at `epoch` was applied. `former` is what the fence said of the owner before.
    pub fn claim_read(
        &mut self,
        epoch: Epoch,
        run: RunId,
        request: u64,
        former: Former,
        now: BootMs,
        actions: &mut Vec<Action>,
    ) {
        self.look_at_lease(now);
        if run != self.run {
            self.superseded(now, actions);
            return;
        }
        let is_clear = match former {
            Former::Nobody | Former::Released => true,
            Former::Unreleased(before) => self.clear == Some(before),
        };
        self.set_clear(is_clear.then_some(epoch));
        self.former = match former {
            Former::Unreleased(before) if !is_clear => Some(before),
            _ => None,
        };
        match self.state {
            State::Claiming if request >= self.valid_from => self.enter(State::Waiting(epoch)),
            // A claim that was sent again: both are ours.
            State::Waiting(_) | State::Serving(_) => self.enter(State::Waiting(epoch)),
            State::HandingOver(_) => self.enter(State::HandingOver(epoch)),
            State::Restoring | State::Ready | State::Claiming => {}
            State::Unassigned | State::Released => self.give_up_claim(actions),
        }
        self.settle(now, actions);
    }

    /// A release was applied.
    pub fn release_read(&mut self, epoch: Epoch, now: BootMs, actions: &mut Vec<Action>) {
        self.look_at_lease(now);
        if self.former == Some(epoch) {
            self.former = None;
            if let State::Waiting(epoch) = self.state {
                self.set_clear(Some(epoch));
            }
        }
        if self.clear == Some(epoch) {
            self.set_clear(None);
        }
        self.settle(now, actions);
    }

    /// Time passed.
    pub fn tick(&mut self, now: BootMs, actions: &mut Vec<Action>) {
        self.look_at_lease(now);
        if self.state == State::Claiming && now.since(self.claim_sent) >= CLAIM_RETRY_MS {
            self.send_claim(now, actions);
        }
        self.settle(now, actions);
    }

    /// The node gives the partition up, for it is about to leave.
    pub fn hand_over(&mut self, actions: &mut Vec<Action>) {
        match self.state {
            State::Unassigned | State::HandingOver(_) | State::Released => {}
            State::Serving(epoch) => {
                self.enter(State::HandingOver(epoch));
                actions.extend([Action::Drain, Action::Publish]);
            }
            State::Restoring | State::Ready | State::Claiming | State::Waiting(_) => self.release(actions),
        }
    }

    /// No call is under way any more, and no command of this epoch will be sent.
    pub fn drained(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.state, State::HandingOver(_)) {
            self.release(actions);
        }
    }

    fn release(&mut self, actions: &mut Vec<Action>) {
        self.enter(State::Released);
        self.give_up_claim(actions);
        actions.push(Action::Publish);
    }

    /// Tells the next owner that it need not wait. What was appended before is still acknowledged, until the release is read.
    fn give_up_claim(&mut self, actions: &mut Vec<Action>) {
        self.former = None;
        actions.extend(self.clear.map(Action::AppendRelease));
    }

    /// Another's claim is in force.
    fn superseded(&mut self, now: BootMs, actions: &mut Vec<Action>) {
        self.set_clear(None);
        self.former = None;
        match self.state {
            // What was on its way comes after it, or is void.
            State::Unassigned | State::Restoring | State::Ready | State::Claiming | State::Released => {}
            State::Waiting(_) | State::Serving(_) => {
                self.begin_lease(now);
                self.enter(State::Ready);
                actions.push(Action::Publish);
            }
            State::HandingOver(_) => self.enter(State::Released),
        }
    }

    fn send_claim(&mut self, now: BootMs, actions: &mut Vec<Action>) {
        self.request += 1;
        self.claim_sent = now;
        self.enter(State::Claiming);
        actions.push(Action::AppendClaim(self.request));
    }

    /// A lease that lapsed is not renewed: everything begins again but the restoring.
    fn look_at_lease(&mut self, now: BootMs) {
        if !self.lease.has_lapsed(now) {
            return;
        }
        match self.state {
            State::Unassigned | State::Released | State::HandingOver(_) => {}
            State::Restoring => self.begin_lease(now),
            State::Ready | State::Claiming | State::Waiting(_) | State::Serving(_) => {
                self.begin_lease(now);
                self.enter(State::Ready);
            }
        }
    }

    fn begin_lease(&mut self, now: BootMs) {
        self.since = now;
        self.lease = Lease::from(now);
    }

    /// Serves once nobody else may, and passes a longer lease on.
    fn settle(&mut self, now: BootMs, actions: &mut Vec<Action>) {
        if let State::Waiting(epoch) = self.state {
            if now.since(self.since) >= TAKEOVER_WAIT_MS {
                self.former = None;
                self.set_clear(Some(epoch));
            }
            if self.clear == Some(epoch) {
                self.enter(State::Serving(epoch));
                actions.push(Action::Publish);
            }
        }
        if let State::Serving(_) = self.state {
            self.gate.set_reads(self.lease.until());
        }
    }

    /// Changes the state, and first what the gate allows.
    fn enter(&mut self, state: State) {
        match state {
            State::Serving(epoch) => self.gate.set_commands(Some(epoch)),
            _ => {
                self.gate.set_reads(None);
                self.gate.set_commands(None);
            }
        }
        self.state = state;
    }

    fn set_clear(&mut self, epoch: Option<Epoch>) {
        self.gate.set_acks(epoch);
        self.clear = epoch;
    }
}
