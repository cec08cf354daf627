//! Kafka as the explorer sees it: a consumer group of one partition and the partition's log.
//!
//! The group does what a classic group with the cooperative protocol does. The partition goes from a member to another only
//! once the first has given it up, has left, or has been silent for a session.

use super::super::epoch::{Epoch, RunId};

pub const SESSION_MS: u64 = 6_000;
/// How long a member may take to give a partition up.
const REBALANCE_MS: u64 = 10_000;

/// A record of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rec {
    Claim {
        run: RunId,
        request: u64,
    },
    Release {
        epoch: Epoch,
    },
    /// An event; the number is its id.
    Event {
        id: u64,
    },
    /// A call of `/reserve`; the number is its id.
    Reserve {
        epoch: Epoch,
        id: u64,
    },
}

/// What the group tells a member with the answer to its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing new.
    Fine,
    Assigned,
    GiveUp,
    /// The member is not known (any more).
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    id: u64,
    node: usize,
    heard: u64,
    /// Whether it was told of what it owns.
    was_told: bool,
}

#[derive(Debug, Default)]
pub struct Group {
    members: Vec<Member>,
    next_id: u64,
    owner: Option<u64>,
    /// Since when the owner is asked to give the partition up.
    asked: Option<u64>,
}

impl Group {
    /// A new member; its id.
    pub fn join(&mut self, node: usize, now: u64) -> u64 {
        self.members.retain(|member| member.node != node);
        self.next_id += 1;
        self.members.push(Member { id: self.next_id, node, heard: now, was_told: false });
        self.forget();
        self.next_id
    }

    /// A node joins with the static identity of another, which is a member no more. What that one owned is the new one's at once.
    pub fn usurp(&mut self, node: usize, of: usize, now: u64) -> Option<u64> {
        let old = self.members.iter().find(|member| member.node == of)?.id;
        let id = self.join(node, now);
        self.members.retain(|member| member.id != old);
        if self.owner == Some(old) {
            self.owner = Some(id);
            self.asked = None;
        }
        self.forget();
        Some(id)
    }

    pub fn leave(&mut self, id: u64) {
        self.members.retain(|member| member.id != id);
        self.forget();
    }

    /// The owner gave the partition up and stays a member.
    pub fn gave_up(&mut self, id: u64) {
        if self.owner == Some(id) {
            self.owner = None;
            self.asked = None;
        }
    }

    pub fn ask_to_give_up(&mut self, now: u64) {
        if self.owner.is_some() && self.members.len() > 1 {
            self.asked.get_or_insert(now);
        }
    }

    /// Whether a commit is accepted: of a member, or of a consumer without an id while there are no members.
    pub fn accepts(&mut self, id: Option<u64>, now: u64) -> bool {
        match id {
            None => self.members.is_empty(),
            Some(id) => self.hear(id, now).is_some(),
        }
    }

    pub fn heartbeat(&mut self, id: u64, now: u64) -> Told {
        let owner = self.owner;
        let asked = self.asked.is_some();
        let Some(member) = self.hear(id, now) else { return Told::Unknown };
        if owner == Some(id) && !member.was_told {
            member.was_told = true;
            return Told::Assigned;
        }
        if owner == Some(id) && asked { Told::GiveUp } else { Told::Fine }
    }

    /// Removes the silent, and assigns the partition if nobody has it. `choice` chooses among the members.
    pub fn pass(&mut self, now: u64, choice: usize) {
        let late = self.asked.is_some_and(|since| now - since > REBALANCE_MS);
        let owner = self.owner;
        self.members.retain(|member| now - member.heard <= SESSION_MS && !(late && owner == Some(member.id)));
        self.forget();
        if self.owner.is_none() && !self.members.is_empty() {
            let at = choice % self.members.len();
            self.members[at].was_told = false;
            self.owner = Some(self.members[at].id);
        }
    }

    /// The coordinator comes back: every session begins anew.
    pub fn restart(&mut self, now: u64) {
        self.members.iter_mut().for_each(|member| member.heard = now);
    }

    fn hear(&mut self, id: u64, now: u64) -> Option<&mut Member> {
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        member.heard = now;
        Some(member)
    }

    fn forget(&mut self) {
        if let Some(owner) = self.owner
            && !self.members.iter().any(|member| member.id == owner)
        {
            self.owner = None;
            self.asked = None;
        }
    }
}
