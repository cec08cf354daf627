//! What may be: for each user, every state in which the store can be after what was asked and answered.
//!
//! A call that was answered was done. One that was not, for the process ended or the disk failed, was done or was not, as
//! a whole: from there on there are two states, until a later answer or a read tells which it is.

use crate::model::oracle::{Answer, Asked, Oracle, Sent, Settings, kept};
use crate::simulation::life::{ERASED, Now, events_answer, release_answer, reserve_answer, write_kind};
use crate::simulation::plan::{DAS, KEYS, KINDS, Op, USERS};
use freqcap::model::{DaId, EventId, Kind, TsMs, event_hash};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Few calls are on their way at one time. More states would be a fault of the simulation.
const STATES_MAX: usize = 1_024;

pub struct Judge {
    /// By user; no user's calls change another's logs.
    states: BTreeMap<&'static str, Vec<Oracle>>,
}

impl Judge {
    pub fn new() -> Self {
        Self { states: USERS.into_iter().map(|user| (user, vec![Oracle::default()])).collect() }
    }

    /// A call that was answered.
    pub fn answered(&mut self, op: &Op, answer: &str, settings: &Settings, now: Now) -> Result<(), String> {
        let states = self.states.get_mut(op.user()).unwrap();
        let mut wanted = Vec::new();
        let after: Vec<Oracle> = std::mem::take(states)
            .into_iter()
            .filter_map(|mut state| {
                let right = apply(&mut state, op, settings, now);
                let fits = right == answer;
                wanted.push(right);
                fits.then_some(state)
            })
            .collect();
        *states = after;
        if states.is_empty() { Err(format!("{op:?} was answered {answer:?}, not {wanted:?}")) } else { Ok(()) }
    }

    /// A call that was made, and of which nothing is known.
    pub fn unanswered(&mut self, op: &Op, settings: &Settings, now: Now) {
        let states = self.states.get_mut(op.user()).unwrap();
        let done: Vec<Oracle> = states
            .iter()
            .cloned()
            .map(|mut state| {
                apply(&mut state, op, settings, now);
                state
            })
            .collect();
        states.extend(done);
        assert!(states.len() <= STATES_MAX, "more than {STATES_MAX} states of {}", op.user());
    }

    /// All that is held of a user was read. `settles`: and what was seen stays so.
    pub fn read(&mut self, user: &str, held: &str, settles: bool, settings: &Settings, now: Now) -> Result<(), String> {
        let (&user, states) = self.states.iter_mut().find(|(name, _)| **name == user).unwrap();
        let all: Vec<String> = states.iter().map(|state| held_of(state, user, settings, TsMs(now.now))).collect();
        if !all.iter().any(|one| one == held) {
            let count = all.len();
            return Err(format!("{user} holds\n{held}\nand should, in one of {count} states,\n{}", all.join("\nor\n")));
        }
        if settles {
            let mut fits = all.iter().map(|one| one == held);
            states.retain(|_| fits.next().unwrap());
        }
        Ok(())
    }
}

fn apply(state: &mut Oracle, op: &Op, settings: &Settings, at: Now) -> String {
    let (now, latest) = (TsMs(at.now), TsMs(at.latest));
    match op {
        Op::Events(events) => {
            let (mut counted, mut duplicate, mut late, mut ahead) = (0, 0, 0, 0);
            for event in events {
                match state.post_in_doubt(settings, event, now, latest) {
                    Answer::Counted => counted += 1,
                    Answer::Duplicate => duplicate += 1,
                    Answer::Late | Answer::Erased => late += 1,
                    Answer::TsInFuture => ahead += 1,
                    Answer::TooManyKinds => unreachable!("there are two kinds"),
                }
            }
            events_answer(counted, duplicate, late, ahead)
        }
        Op::Reserve { user, das, want, ttl_ms, id } => {
            let kind = Kind::IMPRESSION;
            let event = |(da, keys): &(&'static str, Vec<&'static str>)| Sent {
                user,
                da,
                kind,
                ts: Some(now),
                id: Some(id),
                keys: keys.clone(),
            };
            // What is counted already is asked before anything is reserved.
            let counted: Vec<bool> = das.iter().map(|one| state.is_counted(settings, &event(one), now, now)).collect();
            let mut reserved = Vec::new();
            for (one, is_counted) in das.iter().zip(counted) {
                if reserved.len() == *want {
                    break;
                }
                if state.reserve(settings, &event(one), *ttl_ms, is_counted, now) {
                    reserved.push(one.0);
                }
            }
            reserve_answer(reserved.into_iter())
        }
        Op::Release { user, da, id } => {
            let event = Sent { user, da, kind: Kind::IMPRESSION, ts: None, id: Some(id), keys: Vec::new() };
            release_answer(state.release(settings, &event, now))
        }
        Op::Erase(user) => {
            state.erase(user, now);
            ERASED.to_owned()
        }
    }
}

/// All that can be read of a user, as text.
fn held_of(state: &Oracle, user: &'static str, settings: &Settings, now: TsMs) -> String {
    let mut out = String::new();
    let hash =
        |da: &str, id: Option<&str>| id.map_or(0, |id| event_hash(&DaId::new(da).unwrap(), &EventId::new(id).unwrap()));
    let mut keys: Vec<String> = DAS.iter().map(|da| format!("da:{da}")).chain(KEYS.map(str::to_owned)).collect();
    keys.sort();
    for key in keys {
        let log = state.log(settings, user, &key, now);
        let mut kinds = KINDS.map(|kind| Kind::new(kind).unwrap());
        kinds.sort();
        for kind in kinds {
            let lifetime = log.iter().filter(|it| it.event.kind == kind).count() as u64;
            let counted = kept(settings, log, kind).into_iter();
            let mut events: Vec<_> = counted.map(|it| (it.ts.0, hash(it.event.da, it.event.id), None)).collect();
            let held = state.held(user, &key, kind, now).into_iter();
            events.extend(held.map(|it| (it.ts.0, hash(it.da, Some(it.id)), Some(it.expires_at.0))));
            write_kind(&mut out, &key, kind, lifetime, &events);
        }
    }
    for da in DAS {
        let asked = Asked { user, da, keys: KEYS.to_vec(), kind: None, at: None };
        writeln!(out, "{:?}", state.judge(settings, &asked, now)).unwrap();
    }
    out
}
