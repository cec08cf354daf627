//! A node of the explorer: the real ownership, fence and gate, around a state that is a set of events and some slots.

use super::super::epoch::{Epoch, Fence, Former, RunId};
use super::super::lease::LEASE_MS;
use super::super::ownership::{Action, Ownership, State};
use super::group::{Rec, Told};
use super::mutation::Mutation;
use crate::clock::BootMs;
use std::collections::{BTreeSet, VecDeque};

/// How many calls of `/reserve` are granted.
pub const SLOTS: usize = 4;

/// What applying the log makes: a function of a prefix of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replica {
    pub fence: Fence,
    pub events: BTreeSet<u64>,
    pub granted: Vec<u64>,
    pub applied: usize,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Claimed(Former),
    Released,
    Counted,
    Granted(usize),
    Full,
    Void,
}

/// A write that waits until its record was applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    pub id: u64,
    /// The epoch that a command carries; `None` of an event.
    pub epoch: Option<Epoch>,
}

/// A read under way: how many writes had been acknowledged when it began, and of how much of the log it saw the state.
#[derive(Debug)]
pub struct Read {
    pub acknowledged: usize,
    pub found: Option<usize>,
}

/// What a node tells the world.
#[derive(Debug)]
pub enum Said {
    Acknowledged(u64),
    Granted(u64, usize),
    /// The caller was told that nothing happened.
    Refused(u64),
    Answered(Read),
    Append(Rec),
    Commit {
        sent: u64,
        id: Option<u64>,
    },
    Snapshot {
        epoch: Epoch,
        replica: Replica,
    },
    Joined,
    GaveUp(u64),
    Left(u64),
}

#[derive(Debug)]
enum Callback {
    Assigned,
    GiveUp,
    Lost,
}

#[derive(Debug)]
pub struct Node {
    pub run: RunId,
    pub ownership: Ownership,
    pub replica: Replica,
    pub member: Option<u64>,
    pub paused_until: u64,
    pub pending: Vec<Pending>,
    pub reads: Vec<Read>,
    pub next_heartbeat: u64,
    pub inbox: VecDeque<(u64, bool)>,
    callbacks: VecDeque<Callback>,
    is_lost: bool,
    /// Whether the group's partition is, as far as the callbacks went, with this node.
    pub is_assigned: bool,
    committed: u64,
    pub is_leaving: bool,
    end_at_assignment: usize,
    mutation: Option<Mutation>,
    own_claim: Option<Epoch>,
    /// How long the clock stood still, where a mutation has it stand still while the process is stopped.
    pub slept: u64,
}

impl Replica {
    pub fn apply(&mut self, rec: Rec, ignores_epochs: bool) -> Outcome {
        let offset = self.applied as u64;
        self.applied += 1;
        match rec {
            Rec::Claim { run, .. } => return Outcome::Claimed(self.fence.claim(offset, run)),
            Rec::Release { epoch } => {
                self.fence.release(epoch);
                return Outcome::Released;
            }
            Rec::Event { id } => {
                self.events.insert(id);
            }
            Rec::Reserve { epoch, .. } if self.fence.is_void(epoch) && !ignores_epochs => return Outcome::Void,
            Rec::Reserve { .. } if self.granted.len() == SLOTS => return Outcome::Full,
            Rec::Reserve { id, .. } => {
                self.granted.push(id);
                return Outcome::Granted(self.granted.len() - 1);
            }
        }
        Outcome::Counted
    }
}

impl Node {
    pub fn new(run: u64, replica: Replica, now: u64, mutation: Option<Mutation>) -> Self {
        let run = RunId(run);
        Self {
            run,
            ownership: Ownership::new(run, BootMs(now)),
            replica,
            member: None,
            paused_until: 0,
            pending: Vec::new(),
            reads: Vec::new(),
            next_heartbeat: 0,
            inbox: VecDeque::new(),
            callbacks: VecDeque::new(),
            is_lost: false,
            is_assigned: false,
            committed: 0,
            is_leaving: false,
            end_at_assignment: 0,
            mutation,
            own_claim: None,
            slept: 0,
        }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What its boot clock shows.
    fn boot(&self, now: u64) -> BootMs {
        BootMs(if self.is(Mutation::ClockStopsWithProcess) { now - self.slept } else { now })
    }

    /// The client library's thread hears what the group says.
    pub fn told(&mut self, told: Told, said: &mut Vec<Said>) {
        match told {
            Told::Fine => {}
            Told::Assigned => self.callbacks.push_back(Callback::Assigned),
            Told::GiveUp if self.callbacks.is_empty() => self.callbacks.push_back(Callback::GiveUp),
            Told::GiveUp => {}
            Told::Unknown => {
                self.member = None;
                // It joins again once the application has heard of the loss.
                if self.is_assigned || !self.callbacks.is_empty() {
                    self.is_lost = true;
                    self.callbacks.push_back(Callback::Lost);
                } else {
                    said.push(Said::Joined);
                }
            }
        }
    }

    /// The thread that polls takes one callback.
    pub fn poll(&mut self, end: usize, now: u64, said: &mut Vec<Said>) {
        let Some(callback) = self.callbacks.pop_front() else { return };
        let mut actions = Vec::new();
        self.is_lost = false;
        match callback {
            Callback::Assigned => {
                self.is_assigned = true;
                self.end_at_assignment = end;
                self.ownership.assigned(self.boot(now), &mut actions);
            }
            Callback::GiveUp => {
                self.unassign(&mut actions);
                self.act(actions, said);
                said.extend(self.member.map(Said::GaveUp));
                return;
            }
            Callback::Lost => {
                self.unassign(&mut actions);
                self.act(actions, said);
                said.push(Said::Joined);
                return;
            }
        }
        self.act(actions, said);
    }

    fn unassign(&mut self, actions: &mut Vec<Action>) {
        self.is_assigned = false;
        self.ownership.unassigned(actions);
        if self.is(Mutation::ReleaseWithoutServing)
            && let Some(epoch) = self.own_claim
        {
            actions.push(Action::AppendRelease(epoch));
        }
    }

    pub fn leave(&mut self, said: &mut Vec<Said>) {
        let mut actions = Vec::new();
        self.is_leaving = true;
        self.ownership.hand_over(&mut actions);
        self.act(actions, said);
    }

    /// Goes on leaving: once no call is under way, it releases and leaves the group.
    fn go_on_leaving(&mut self, said: &mut Vec<Said>) {
        let mut actions = Vec::new();
        if matches!(self.ownership.state(), State::HandingOver(_)) {
            if self.pending.is_empty() {
                self.ownership.drained(&mut actions);
            }
        } else if self.is_leaving {
            self.unassign(&mut actions);
            said.extend(self.member.take().map(Said::Left));
        }
        self.act(actions, said);
    }

    /// A second of the thread that commits.
    pub fn commit(&mut self, now: u64, said: &mut Vec<Said>) {
        let is_due = now >= self.committed + 1_000;
        if is_due && self.is_assigned && !self.is_lost {
            self.committed = now;
            said.push(Said::Commit { sent: self.boot(now).0, id: self.member });
        }
    }

    /// An answer to a commit arrives.
    pub fn committed(&mut self, now: u64, said: &mut Vec<Said>) {
        let Some((sent, accepted)) = self.inbox.pop_front() else { return };
        if !accepted || self.is_lost {
            return;
        }
        let mut actions = Vec::new();
        let now = self.boot(now);
        let sent = if self.is(Mutation::LeaseFromAnswer) { now } else { BootMs(sent) };
        self.ownership.commit_accepted(sent, now, &mut actions);
        if self.is(Mutation::RenewLapsed)
            && let (State::Ready | State::Claiming, Some(epoch)) = (self.ownership.state(), self.own_claim)
        {
            let gate = self.ownership.gate();
            gate.set_commands(Some(epoch));
            gate.set_reads(Some(sent.plus(LEASE_MS)));
        }
        self.act(actions, said);
    }

    pub fn tick(&mut self, now: u64, said: &mut Vec<Said>) {
        let mut actions = Vec::new();
        self.ownership.tick(self.boot(now), &mut actions);
        self.act(actions, said);
        self.go_on_leaving(said);
    }

    /// Applies the next record.
    pub fn apply(&mut self, rec: Rec, now: u64, said: &mut Vec<Said>) {
        let now = self.boot(now);
        let mut actions = Vec::new();
        let offset = Epoch(self.replica.applied as u64);
        let outcome = self.replica.apply(rec, self.is(Mutation::IgnoreEpochs));
        match rec {
            Rec::Claim { run, request } => {
                let Outcome::Claimed(mut former) = outcome else { return };
                if self.is(Mutation::ServeAtOnce) {
                    former = Former::Released;
                }
                if run == self.run {
                    self.own_claim = Some(offset);
                } else {
                    // Commands that come after another's claim are void.
                    self.refuse_pending_commands(said);
                }
                if run == self.run || !self.is(Mutation::IgnoreOthersClaims) {
                    self.ownership.claim_read(offset, run, request, former, now, &mut actions);
                }
            }
            Rec::Release { epoch } => self.ownership.release_read(epoch, now, &mut actions),
            Rec::Event { .. } | Rec::Reserve { .. } => {}
        }
        let owner = self.replica.fence.owner();
        if let Rec::Event { id } | Rec::Reserve { id, .. } = rec
            && let Some(at) = self.pending.iter().position(|pending| pending.id == id)
        {
            let pending = self.pending.swap_remove(at);
            let may = self.ownership.gate().may_acknowledge(owner) || self.is(Mutation::AcknowledgeAnyway);
            match outcome {
                Outcome::Void => said.push(Said::Refused(pending.id)),
                Outcome::Counted if may => said.push(Said::Acknowledged(pending.id)),
                Outcome::Granted(slot) if may => said.push(Said::Granted(pending.id, slot)),
                // The outcome stays unknown to the caller.
                _ => {}
            }
        }
        if self.replica.applied >= self.end_at_assignment && self.is_assigned {
            self.ownership.caught_up(now);
        }
        self.act(actions, said);
    }

    /// Where nothing is to be applied, it is caught up, too.
    pub fn idle(&mut self, now: u64) {
        if self.is_assigned && self.replica.applied >= self.end_at_assignment {
            self.ownership.caught_up(self.boot(now));
        }
    }

    fn refuse_pending_commands(&mut self, said: &mut Vec<Said>) {
        let (commands, events) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.epoch.is_some());
        self.pending = events;
        let commands: Vec<Pending> = commands;
        said.extend(commands.into_iter().map(|pending| Said::Refused(pending.id)));
    }

    pub fn write(&mut self, id: u64, is_command: bool, said: &mut Vec<Said>) {
        let Some(epoch) = self.ownership.gate().command_epoch() else { return };
        if is_command && self.is(Mutation::GrantBeforeLog) && self.replica.granted.len() < SLOTS {
            said.push(Said::Granted(id, self.replica.granted.len()));
        }
        self.pending.push(Pending { id, epoch: is_command.then_some(epoch) });
        said.push(Said::Append(if is_command { Rec::Reserve { epoch, id } } else { Rec::Event { id } }));
    }

    pub fn begin_read(&mut self, acknowledged: usize) {
        if self.ownership.gate().command_epoch().is_some() && self.reads.len() < 4 {
            self.reads.push(Read { acknowledged, found: None });
        }
    }

    /// The first read goes on a step: it looks, or it is checked and answered.
    pub fn go_on_reading(&mut self, now: u64, said: &mut Vec<Said>) {
        let Some(read) = self.reads.first_mut() else { return };
        if read.found.is_none() {
            read.found = Some(self.replica.applied);
            return;
        }
        let may = match self.mutation {
            Some(Mutation::ReadWithoutLease) => self.ownership.gate().command_epoch().is_some(),
            _ => self.ownership.gate().may_answer(self.boot(now)),
        };
        let read = self.reads.remove(0);
        if may {
            said.push(Said::Answered(read));
        }
    }

    pub fn snapshot(&mut self, said: &mut Vec<Said>) {
        if let State::Serving(epoch) = self.ownership.state() {
            said.push(Said::Snapshot { epoch, replica: self.replica.clone() });
        }
    }

    fn act(&mut self, actions: Vec<Action>, said: &mut Vec<Said>) {
        for action in actions {
            match action {
                Action::AppendClaim(request) => said.push(Said::Append(Rec::Claim { run: self.run, request })),
                Action::AppendRelease(epoch) => said.push(Said::Append(Rec::Release { epoch })),
                Action::Drain | Action::Publish => {}
            }
        }
    }
}
