//! Three nodes, their clients, the broker and the bucket, under one clock and one seed.

use super::super::epoch::RunId;
use super::super::snapshot_fence::{SnapshotMark, may_follow};
use super::group::{Group, Rec};
use super::mutation::{Fault, Mutation};
use super::node::{Node, Outcome, Read, Replica, Said};
use std::collections::{BTreeMap, BTreeSet};

const NODES: usize = 3;
/// How long faults go on, and how long it is calm afterwards, in ms.
const FAULTS_MS: u64 = 60_000;
const CALM_MS: u64 = 45_000;

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

enum Message {
    Commit { node: usize, run: RunId, sent: u64, id: Option<u64> },
    Answer { node: usize, run: RunId, sent: u64, accepted: bool },
    Append { node: usize, rec: Rec },
    Snapshot { mark: SnapshotMark, replica: Replica },
}

/// What a run saw, to tell that it tried something.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub acknowledged: usize,
    pub reads: usize,
    pub claims: usize,
    pub refused: usize,
    pub snapshots: usize,
}

pub struct World {
    random: Random,
    /// How often each kind of fault comes, of 64.
    often: [u64; Fault::ALL.len()],
    mutation: Option<Mutation>,
    now: u64,
    is_calm: bool,
    group: Group,
    log: Vec<Rec>,
    nodes: Vec<Node>,
    /// When messages of a node arrive, in their order.
    appends_until: Vec<u64>,
    cut_until: Vec<u64>,
    /// Until when a node's fetches bring nothing; all else goes on.
    lagging_until: Vec<u64>,
    leaves_at: Vec<u64>,
    broker_down_until: u64,
    messages: Vec<(u64, Message)>,
    next_id: u64,
    next_run: u64,
    /// The events, and the greatest offset of them and those before.
    acknowledged: Vec<(u64, usize)>,
    offsets: BTreeMap<u64, usize>,
    granted: BTreeMap<usize, u64>,
    refused: BTreeSet<u64>,
    newest: Option<(SnapshotMark, Replica)>,
    seen: Seen,
    answered_at: u64,
    acknowledged_at: u64,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let nodes = (0..NODES).map(|node| Node::new(node as u64 + 1, Replica::default(), 0, mutation)).collect();
        let mut random = Random(seed);
        let mut often = std::array::from_fn(|_| [0, 1, 4, 16, 64][random.below(5) as usize]);
        for &fault in mutation.map_or(&[][..], Mutation::shown_by) {
            often[fault as usize] = [16, 64][random.below(2) as usize];
        }
        Self {
            random,
            often,
            mutation,
            now: 10_000,
            is_calm: false,
            group: Group::default(),
            log: Vec::new(),
            nodes,
            appends_until: vec![0; NODES],
            cut_until: vec![0; NODES],
            lagging_until: vec![0; NODES],
            leaves_at: vec![u64::MAX; NODES],
            broker_down_until: 0,
            messages: Vec::new(),
            next_id: 0,
            next_run: NODES as u64,
            acknowledged: Vec::new(),
            offsets: BTreeMap::new(),
            granted: BTreeMap::new(),
            refused: BTreeSet::new(),
            newest: None,
            seen: Seen::default(),
            answered_at: 0,
            acknowledged_at: 0,
        }
    }

    /// Faults, then calm; the error says which invariant broke.
    pub fn run(mut self) -> Result<Seen, String> {
        let faults_end = self.now + FAULTS_MS;
        let end = faults_end + CALM_MS;
        while self.now < end {
            let was_down = self.is_broker_down();
            self.now += 1 + self.random.below(20);
            self.is_calm = self.now >= faults_end;
            if !self.is_calm {
                self.fault();
            }
            if !self.is_broker_down() {
                if was_down {
                    self.group.restart(self.now);
                }
                let choice = self.random.next() as usize;
                self.group.pass(self.now, choice);
            }
            self.deliver()?;
            for _ in 0..self.random.below(13) {
                let node = self.random.below(NODES as u64) as usize;
                self.step(node)?;
            }
        }
        self.check_end(end)?;
        self.seen.claims = self.log.iter().filter(|rec| matches!(rec, Rec::Claim { .. })).count();
        Ok(self.seen)
    }

    /// Mostly short, seldom long, in ms.
    fn delay(&mut self, long: u64) -> u64 {
        let is_long = !self.is_calm && self.random.one_in(12);
        if is_long { self.random.below(long) } else { 1 + self.random.below(25) }
    }

    fn is_broker_down(&self) -> bool {
        self.now < self.broker_down_until
    }

    fn reaches(&self, node: usize) -> bool {
        !self.is_broker_down() && self.now >= self.cut_until[node]
    }

    /// Each run has its own mixture of faults, some of them often and some never: so that each also meets the others alone.
    fn fault(&mut self) {
        if !self.random.one_in(40) {
            return;
        }
        let node = self.random.below(NODES as u64) as usize;
        let which = self.random.below(Fault::ALL.len() as u64) as usize;
        if self.random.below(64) >= self.often[which] {
            return;
        }
        match Fault::ALL[which] {
            Fault::Stop => {
                let ms = 500 + self.random.below(14_000);
                let from = self.nodes[node].paused_until.max(self.now);
                self.nodes[node].paused_until = self.now + ms;
                self.nodes[node].slept += (self.now + ms).saturating_sub(from);
            }
            Fault::Restart => self.restart(node),
            Fault::Cut => self.cut_until[node] = self.now + self.random.below(14_000),
            Fault::BrokerDown => self.broker_down_until = self.now + self.random.below(10_000),
            Fault::Rebalance => self.group.ask_to_give_up(self.now),
            Fault::SameIdentity => {
                self.usurp(node);
                // It may be a mistake that is soon seen.
                let is_seen = self.random.one_in(2);
                self.leaves_at[node] = if is_seen { self.now + 500 + self.random.below(4_000) } else { u64::MAX };
            }
            Fault::Lag => self.lagging_until[node] = self.now + self.random.below(15_000),
            Fault::Leave => self.leaves_at[node] = self.now,
        }
    }

    fn leave(&mut self, node: usize) -> Result<(), String> {
        let mut said = Vec::new();
        self.leaves_at[node] = u64::MAX;
        self.nodes[node].leave(&mut said);
        self.hear(node, said)
    }

    /// The node is started anew with the identity of another that still runs.
    fn usurp(&mut self, node: usize) {
        let of = (node + 1) % NODES;
        if self.reaches(node) {
            self.restart(node);
            self.nodes[node].member = self.group.usurp(node, of, self.now);
        }
    }

    fn is_paused(&self, node: usize) -> bool {
        self.now < self.nodes[node].paused_until
    }

    /// The process is killed and started anew, with what it had on disk, with a snapshot, or with nothing.
    fn restart(&mut self, node: usize) {
        self.next_run += 1;
        let replica = match (self.random.below(3), &self.newest) {
            (0, _) => self.nodes[node].replica.clone(),
            (1, Some((_, replica))) => replica.clone(),
            _ => Replica::default(),
        };
        self.nodes[node] = Node::new(self.next_run, replica, self.now, self.mutation);
    }

    fn step(&mut self, node: usize) -> Result<(), String> {
        if self.is_paused(node) {
            return Ok(());
        }
        if self.now >= self.leaves_at[node] {
            return self.leave(node);
        }
        let (now, end, reaches) = (self.now, self.log.len(), self.reaches(node));
        let mut said = Vec::new();
        let which = self.random.below(14);
        let at = &mut self.nodes[node];
        match which {
            0 | 1 if reaches => match at.member {
                None if at.is_leaving => self.restart(node),
                None => said.push(Said::Joined),
                Some(id) if now >= at.next_heartbeat => {
                    at.next_heartbeat = now + if at.is_assigned { self.random.below(5_500) } else { 100 };
                    at.told(self.group.heartbeat(id, now), &mut said);
                }
                Some(_) => {}
            },
            2 => at.poll(end, now, &mut said),
            3 => at.commit(now, &mut said),
            4 => at.committed(now, &mut said),
            5 | 6 if reaches && now >= self.lagging_until[node] => {
                at.idle(now);
                let most = 1 << self.random.below(10);
                for _ in 0..self.random.below(most) {
                    let at = &mut self.nodes[node];
                    let Some(&rec) = self.log.get(at.replica.applied) else { break };
                    at.apply(rec, now, &mut said);
                    if self.random.one_in(40) {
                        at.go_on_reading(now, &mut said);
                    }
                }
            }
            7 => at.tick(now, &mut said),
            8 => {
                self.next_id += 1;
                at.write(self.next_id, self.random.one_in(4), &mut said);
            }
            9 => at.begin_read(self.acknowledged.len()),
            10..13 => at.go_on_reading(now, &mut said),
            13 if self.random.one_in(40) => at.snapshot(&mut said),
            _ => {}
        }
        self.hear(node, said)
    }

    fn hear(&mut self, node: usize, said: Vec<Said>) -> Result<(), String> {
        for said in said {
            match said {
                Said::Acknowledged(id) => {
                    let at =
                        *self.offsets.get(&id).ok_or_else(|| format!("event {id} was acknowledged and not sent"))?;
                    let last = self.acknowledged.last().map_or(at, |(_, last)| at.max(*last));
                    self.acknowledged.push((id, last));
                    self.acknowledged_at = self.now;
                    self.seen.acknowledged += 1;
                }
                Said::Granted(id, slot) => {
                    if let Some(other) = self.granted.insert(slot, id).filter(|other| *other != id) {
                        return Err(format!("slot {slot} was granted to call {other} and to call {id}"));
                    }
                }
                Said::Refused(id) => {
                    self.refused.insert(id);
                    self.seen.refused += 1;
                }
                Said::Answered(read) => self.check_read(node, &read)?,
                Said::Append(rec) => {
                    let arrives = (self.now + self.delay(9_000)).max(self.appends_until[node]);
                    self.appends_until[node] = arrives;
                    self.messages.push((arrives, Message::Append { node, rec }));
                }
                Said::Commit { sent, id } => {
                    let run = self.nodes[node].run;
                    self.send(4_000, Message::Commit { node, run, sent, id });
                }
                Said::Snapshot { epoch, replica } => {
                    let mark = SnapshotMark { epoch, offset: replica.applied as u64 };
                    self.send(8_000, Message::Snapshot { mark, replica });
                }
                Said::Joined if self.reaches(node) => self.nodes[node].member = Some(self.group.join(node, self.now)),
                Said::GaveUp(id) if self.reaches(node) => self.group.gave_up(id),
                Said::Left(id) if self.reaches(node) => self.group.leave(id),
                Said::Joined | Said::GaveUp(_) | Said::Left(_) => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, long: u64, message: Message) {
        let arrives = self.now + self.delay(long);
        self.messages.push((arrives, message));
    }

    fn deliver(&mut self) -> Result<(), String> {
        // In the order of their times; those of one node's appends are never equal to an earlier one's in another order.
        self.messages.sort_by_key(|(arrives, _)| *arrives);
        let mut waiting = Vec::new();
        let mut held = [false; NODES];
        for (arrives, message) in std::mem::take(&mut self.messages) {
            if arrives > self.now {
                waiting.push((arrives, message));
                continue;
            }
            match message {
                // The producer tries again, in order, until the broker has it.
                Message::Append { node, rec } if !self.reaches(node) || held[node] => {
                    held[node] = true;
                    waiting.push((arrives, Message::Append { node, rec }));
                }
                Message::Append { rec, .. } => {
                    if let Rec::Event { id } | Rec::Reserve { id, .. } = rec {
                        self.offsets.insert(id, self.log.len());
                    }
                    self.log.push(rec);
                }
                Message::Commit { node, run, sent, id } => {
                    let accepted = self.reaches(node) && self.group.accepts(id, self.now);
                    let answer = Message::Answer { node, run, sent, accepted };
                    let is_late = !self.is_calm && self.random.one_in(3);
                    let delay = if is_late { self.random.below(4_000) } else { 1 + self.random.below(25) };
                    waiting.push((self.now + delay, answer));
                }
                Message::Answer { node, run, sent, accepted } => {
                    if self.nodes[node].run == run && self.reaches(node) {
                        self.nodes[node].inbox.push_back((sent, accepted));
                    }
                }
                Message::Snapshot { mark, replica } => self.take_snapshot(mark, replica)?,
            }
        }
        waiting.append(&mut self.messages);
        self.messages = waiting;
        Ok(())
    }

    fn take_snapshot(&mut self, mark: SnapshotMark, replica: Replica) -> Result<(), String> {
        let newest = self.newest.as_ref().map(|(mark, _)| *mark);
        if self.mutation != Some(Mutation::SnapshotAnyway) && may_follow(newest, mark).is_err() {
            return Ok(());
        }
        if let Some(newest) = newest.filter(|newest| newest.offset > mark.offset) {
            return Err(format!("a snapshot was set back from {newest:?} to {mark:?}"));
        }
        self.newest = Some((mark, replica));
        self.seen.snapshots += 1;
        Ok(())
    }

    fn check_read(&mut self, node: usize, read: &Read) -> Result<(), String> {
        self.seen.reads += 1;
        self.answered_at = self.now;
        let found = read.found.ok_or("a read was answered before it looked")?;
        // Every node's state is that of a prefix of the log: the end checks it.
        let Some((id, last)) = read.acknowledged.checked_sub(1).map(|at| self.acknowledged[at]) else { return Ok(()) };
        if last >= found {
            let now = self.now;
            return Err(format!(
                "at {now} ms node {node} answered a read without what was acknowledged before event {id}"
            ));
        }
        Ok(())
    }

    fn check_end(&self, end: u64) -> Result<(), String> {
        let mut truth = Replica::default();
        let ignores = self.mutation == Some(Mutation::IgnoreEpochs);
        for (offset, &rec) in self.log.iter().enumerate() {
            for node in self.nodes.iter().filter(|node| node.replica.applied == offset) {
                if node.replica != truth {
                    return Err(format!("a node has another state than the log makes up to offset {offset}"));
                }
            }
            let outcome = truth.apply(rec, ignores);
            if let (Rec::Reserve { id, .. }, Outcome::Granted(slot)) = (rec, outcome)
                && self.refused.contains(&id)
            {
                return Err(format!("call {id} was refused as void and took slot {slot}"));
            }
        }
        if let Some((id, _)) = self.acknowledged.iter().find(|(id, _)| !truth.events.contains(id)) {
            return Err(format!("event {id} was acknowledged and is lost"));
        }
        for (&slot, id) in &self.granted {
            if truth.granted.get(slot) != Some(id) {
                return Err(format!("slot {slot} was granted to call {id}, but not in the log"));
            }
        }
        let late = end.saturating_sub(CALM_MS / 3);
        if self.answered_at < late || self.acknowledged_at < late {
            let states: Vec<_> = self.nodes.iter().map(|node| (node.ownership.state(), node.member)).collect();
            return Err(format!("nobody serves after the faults: {states:?}"));
        }
        Ok(())
    }
}
