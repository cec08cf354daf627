//! One pass over the names of the prefix for all units of a process that want one: each would read all of them to find its
//! own.
//!
//! A full sync of a unit joins once it has sent its caps. A pass begins when all that are on their way have come, or when the
//! first has waited for a while; who comes later is in the next one. There is no leader: whichever unit has nothing left to do
//! reads the next page over its own connection, and puts what it finds into the queues of those whose users it is about. A
//! cursor of SCAN is good on any connection, so a unit that loses its own holds up nobody else.

use super::error::MirrorError;
use super::found::{Found, scan};
use super::layout::CommandBuilder;
use super::link::Link;
use crate::model::ShardId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long the first waits for the others: for those that are on their way, and for those that may be.
const GATHER: Duration = Duration::from_secs(2);
const GATHER_LEAST: Duration = Duration::from_millis(100);
/// Pages that wait for one unit before no more are read.
const QUEUE_MAX: usize = 8;
/// A unit whose queue is full for so long is left out; it is in the next pass.
const SLOW: Duration = Duration::from_secs(5);
/// The longest wait for others at once: changes are sent in between.
const PAUSE: Duration = Duration::from_millis(5);

/// The passes of a process. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct SharedScan(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    units: usize,
    state: Mutex<State>,
    /// Held while a page is read.
    reading: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Full syncs that have not come yet.
    expected: usize,
    members: BTreeMap<usize, Member>,
    pass: Option<Pass>,
}

/// A unit that has come.
#[derive(Debug)]
struct Member {
    place: Place,
    since: Instant,
    topology: String,
    pages: VecDeque<Found>,
    full_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    InPass,
    /// Its pass has ended; some pages may be left in its queue.
    Done,
}

/// Where the pass under way is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pass {
    topology: String,
    node: usize,
    cursor: Vec<u8>,
}

/// What a unit is to do next.
enum Next {
    Page(Found),
    Done,
    Read(Pass),
    Wait,
}

impl SharedScan {
    /// For this many units.
    pub fn new(units: usize) -> Self {
        let (state, reading, changed) = (Mutex::default(), tokio::sync::Mutex::new(()), Notify::new());
        Self(Arc::new(Shared { units, state, reading, changed }))
    }

    /// A full sync of a unit begins, which will want a pass.
    pub fn expect(&self, unit: usize) -> Participant {
        self.0.state().expected += 1;
        Participant { shared: self.0.clone(), unit, has_come: false }
    }
}

/// The part of one full sync of a unit. It leaves when it is dropped.
#[derive(Debug)]
pub(super) struct Participant {
    shared: Arc<Shared>,
    unit: usize,
    has_come: bool,
}

impl Participant {
    /// The next page of what was found of this unit's users, empty where others are waited for; `None` at the end of the pass.
    pub async fn next(&mut self, link: &mut Link, builder: &CommandBuilder) -> Result<Option<Found>, MirrorError> {
        self.come(&link.topology.id);
        // Before the look: what changes after it wakes.
        let shared = self.shared.clone();
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        let (next, reading) = {
            let reading = shared.reading.try_lock().ok();
            (shared.state().next(self.unit, &link.topology.id, reading.is_some(), Instant::now()), reading)
        };
        match next {
            Next::Page(found) => return Ok(Some(found)),
            Next::Done => return Ok(None),
            Next::Read(at) => {
                let units = shared.units;
                let members = shared.state().in_pass();
                let wanted = |user: &str| members.contains(&unit_of(user, units));
                let has_names = !link.nodes[at.node].marker.is_empty();
                let (found, cursor) = if has_names {
                    scan(link, builder, at.node, &at.cursor, wanted).await?
                } else {
                    // A master without a marker cannot have names of ours.
                    (Found::default(), b"0".to_vec())
                };
                shared.state().read(&at, (link.nodes.len(), cursor), found.split(|user| unit_of(user, units)));
                drop(reading);
                shared.changed.notify_waiters();
            }
            Next::Wait => {
                drop(reading);
                let _ = tokio::time::timeout(PAUSE, changed).await;
            }
        }
        Ok(Some(Found::default()))
    }

    /// Takes back a page that could not be handled: it is the next one again.
    pub fn put_back(&mut self, found: Found) {
        if let Some(member) = self.shared.state().members.get_mut(&self.unit) {
            member.pages.push_front(found);
        }
    }

    fn come(&mut self, topology: &str) {
        let mut state = self.shared.state();
        if !self.has_come {
            self.has_come = true;
            state.expected = state.expected.saturating_sub(1);
        }
        state.join(self.unit, topology, Instant::now());
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if self.has_come {
            state.members.remove(&self.unit);
        } else {
            state.expected = state.expected.saturating_sub(1);
        }
        state.end_if_empty();
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, unit: usize, topology: &str, now: Instant) {
        // Of another topology it is a pass over other servers.
        if self.members.get(&unit).is_some_and(|member| member.topology == topology) {
            return;
        }
        let (pages, topology) = (VecDeque::new(), topology.to_owned());
        let member = Member { place: Place::Waiting, since: now, topology, pages, full_since: None };
        self.members.insert(unit, member);
        self.end_if_empty();
    }

    /// What a unit is to do; `may_read` where nobody else reads.
    fn next(&mut self, unit: usize, topology: &str, may_read: bool, now: Instant) -> Next {
        self.leave_out_the_slow(now);
        self.begin(topology, now);
        let Some(member) = self.members.get_mut(&unit) else { return Next::Wait };
        if let Some(found) = member.pages.pop_front() {
            member.full_since = None;
            return Next::Page(found);
        }
        match member.place {
            Place::Done => return Next::Done,
            Place::Waiting => return Next::Wait,
            Place::InPass => {}
        }
        let is_full = self.members.values().any(|member| member.pages.len() >= QUEUE_MAX);
        match &self.pass {
            Some(pass) if may_read && !is_full => Next::Read(pass.clone()),
            _ => Next::Wait,
        }
    }

    /// Begins a pass for all that wait, if it is time.
    fn begin(&mut self, topology: &str, now: Instant) {
        let is_one = |member: &&mut Member| member.place == Place::Waiting && member.topology == topology;
        let first = self.members.values_mut().filter(is_one).map(|member| member.since).min();
        let Some(first) = first.filter(|_| self.pass.is_none()) else { return };
        if now - first >= if self.expected == 0 { GATHER_LEAST } else { GATHER } {
            self.members.values_mut().filter(is_one).for_each(|member| member.place = Place::InPass);
            self.pass = Some(Pass { topology: topology.to_owned(), node: 0, cursor: b"0".to_vec() });
        }
    }

    fn leave_out_the_slow(&mut self, now: Instant) {
        for member in self.members.values_mut().filter(|member| member.pages.len() >= QUEUE_MAX) {
            if now - *member.full_since.get_or_insert(now) >= SLOW {
                // It begins again.
                (member.place, member.since, member.full_since) = (Place::Waiting, now, None);
                member.pages.clear();
            }
        }
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if !self.members.values().any(|member| member.place == Place::InPass) {
            self.pass = None;
        }
    }

    /// The units of the pass.
    fn in_pass(&self) -> BTreeSet<usize> {
        let members = self.members.iter().filter(|(_, member)| member.place == Place::InPass);
        members.map(|(unit, _)| *unit).collect()
    }

    /// A page was read; the cursor after it is on the same node, of so many.
    fn read(&mut self, at: &Pass, (nodes, cursor): (usize, Vec<u8>), mut found: BTreeMap<usize, Found>) {
        // The pass may have ended meanwhile, and another begun.
        let Some(pass) = self.pass.as_mut().filter(|pass| *pass == at) else { return };
        for (unit, member) in self.members.iter_mut().filter(|(_, member)| member.place == Place::InPass) {
            if let Some(found) = found.remove(unit) {
                member.pages.push_back(found);
            }
        }
        if cursor != b"0" {
            pass.cursor = cursor;
        } else if pass.node + 1 < nodes {
            (pass.node, pass.cursor) = (pass.node + 1, cursor);
        } else {
            self.pass = None;
            let members = self.members.values_mut().filter(|member| member.place == Place::InPass);
            members.for_each(|member| member.place = Place::Done);
        }
    }
}

fn unit_of(user: &str, units: usize) -> usize {
    ShardId::of_user(user.as_bytes()).index() % units
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a unit is told to do, in short.
    fn told((state, now): (&mut State, Instant), unit: usize, topology: &str) -> String {
        match state.next(unit, topology, true, now) {
            Next::Page(found) => found.wrong_type.join(","),
            Next::Done => "done".to_owned(),
            Next::Read(pass) => format!("read {}:{}", pass.node, String::from_utf8_lossy(&pass.cursor)),
            Next::Wait => "wait".to_owned(),
        }
    }

    /// Reads the next page, with a user for each of these units; the cursor after it.
    fn read(state: &mut State, nodes: usize, units: &[usize], cursor: &str) {
        let at = state.pass.clone().unwrap();
        let found = |unit: &usize| (*unit, Found { wrong_type: vec![format!("u{unit}")], ..Found::default() });
        state.read(&at, (nodes, cursor.as_bytes().to_vec()), units.iter().map(found).collect());
    }

    #[test]
    fn a_pass_is_for_all_that_have_come_and_each_gets_what_is_its_own() {
        let (mut state, mut now) = (State { expected: 1, ..State::default() }, Instant::now());
        state.join(0, "t", now);
        state.join(1, "t", now);
        now += GATHER_LEAST;
        assert_eq!(told((&mut state, now), 0, "t"), "wait", "another is on its way");
        state.expected = 0;
        state.join(2, "t", now);
        assert_eq!(told((&mut state, now), 1, "t"), "read 0:0");
        read(&mut state, 2, &[0, 1, 3], "7");
        // Who comes now is in the next one.
        state.join(3, "t", now);
        now += GATHER;
        assert_eq!([0, 1, 2, 3].map(|unit| told((&mut state, now), unit, "t")), ["u0", "u1", "read 0:7", "wait"]);
        read(&mut state, 2, &[], "0");
        assert_eq!(told((&mut state, now), 0, "t"), "read 1:0");
        read(&mut state, 2, &[2], "0");
        assert_eq!(told((&mut state, now), 2, "t"), "u2");
        assert_eq!([0, 1, 2].map(|unit| told((&mut state, now), unit, "t")), ["done"; 3]);
        assert_eq!(told((&mut state, now), 3, "t"), "read 0:0");
    }

    #[test]
    fn the_first_does_not_wait_for_ever_and_nobody_for_who_is_away() {
        let (mut state, mut now) = (State { expected: 1, ..State::default() }, Instant::now());
        state.join(0, "t", now);
        state.join(1, "t", now);
        assert_eq!(told((&mut state, now), 0, "t"), "wait");
        now += GATHER;
        assert_eq!(told((&mut state, now), 0, "t"), "read 0:0");
        for page in 0..QUEUE_MAX {
            read(&mut state, 1, &[1], &format!("{page}1"));
        }
        // The other has lost its connection.
        assert_eq!(told((&mut state, now), 0, "t"), "wait");
        now += SLOW;
        assert_eq!(told((&mut state, now), 0, "t"), "read 0:71");
        read(&mut state, 1, &[1], "0");
        assert_eq!(
            ["done", "wait"],
            [0, 1].map(|unit| told((&mut state, now), unit, "t")).each_ref().map(String::as_str)
        );
        now += GATHER;
        assert_eq!(told((&mut state, now), 1, "t"), "read 0:0", "it begins again");
    }

    #[test]
    fn a_pass_is_over_one_topology_and_ends_with_its_last_unit() {
        let (mut state, mut now) = (State::default(), Instant::now());
        state.join(0, "old", now);
        state.join(1, "new", now);
        now += GATHER;
        assert_eq!(told((&mut state, now), 0, "old"), "read 0:0");
        assert_eq!(told((&mut state, now), 1, "new"), "wait");
        let at = state.pass.clone().unwrap();
        // It finds the new topology, too.
        state.join(0, "new", now);
        now += GATHER;
        assert_eq!(told((&mut state, now), 1, "new"), "read 0:0");
        // A page of the pass before is of no use.
        state.read(&at, (1, b"0".to_vec()), BTreeMap::new());
        assert_eq!([0, 1].map(|unit| told((&mut state, now), unit, "new")), ["read 0:0"; 2]);
    }
}
