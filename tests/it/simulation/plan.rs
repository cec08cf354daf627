//! What happens in a run: everything of it follows from its seed.

use crate::model::oracle::{Sent, Settings};
use crate::simulation::disk::Loss;
use crate::simulation::mirrored::RedisFault;
use crate::simulation::random::Random;
use freqcap::model::{KeyPattern, Kind, Mode, Rule, RuleId, Span, TsMs, Window};
use freqcap::store::Durability;
use std::sync::LazyLock;

pub const USERS: [&str; 4] = [
    "u1",
    "u2",
    "u3",
    "a-user-whose-name-is-long-so-that-rows-grow-and-blocks-and-sectors-are-crossed-sooner-than-with-the-others-\
     0123456789-0123456789-0123456789-0123456789-0123456789-0123456789",
];
pub const DAS: [&str; 3] = ["1", "11", "2"];
pub const KEYS: [&str; 3] = ["campaign:1", "campaign:2", "advertiser:1"];
pub const KINDS: [&str; 2] = ["impression", "click"];

static IDS: LazyLock<Vec<String>> = LazyLock::new(|| (0..500).map(|n| format!("id-{n}")).collect());

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A whole run.
#[derive(Debug)]
pub struct Plan {
    pub durability: Durability,
    pub writers: usize,
    pub overlay_bytes: u64,
    pub sync_keeps_name: bool,
    /// Whether there is a mirror: such a run takes seconds.
    pub has_redis: bool,
    history_limit: usize,
    rule_sets: Vec<Vec<Rule>>,
    pub steps: Vec<Step>,
    /// One process after another on the same directory; the last one meets no fault.
    pub lives: Vec<Life>,
}

#[derive(Debug)]
pub struct Life {
    pub steps: std::ops::Range<usize>,
    rules: usize,
    /// The time at which it starts.
    pub starts_at: u64,
    /// How wrong its clock is all the while, in ms.
    pub wrong_ms: i64,
    pub fault: Fault,
    pub end: End,
    /// Power is lost once it has ended.
    pub loss: Option<Loss>,
}

/// Calls are counted by the shim.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    None,
    Kill { at: u64 },
    Fail { at: u64, calls: u32, errno: i32, stays: bool },
    Short { at: u64 },
}

/// How a life ends that no fault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stop,
    Kill,
}

/// Calls that are made at one time, one behind the other without waiting.
#[derive(Debug)]
pub struct Step {
    /// What time it is.
    pub time: u64,
    /// How wrong the clock is now, in ms, which was right before.
    pub wrong_ms: i64,
    /// What happens to Redis first.
    pub redis: Option<RedisFault>,
    pub ops: Vec<Op>,
    /// Whether all that is held is read afterwards.
    pub reads: bool,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// Events of one user.
    Events(Vec<Sent>),
    Reserve {
        user: &'static str,
        das: Vec<(&'static str, Vec<&'static str>)>,
        want: usize,
        ttl_ms: Option<u64>,
        id: &'static str,
    },
    Release {
        user: &'static str,
        da: &'static str,
        id: &'static str,
    },
    Erase(&'static str),
}

impl Op {
    pub fn user(&self) -> &'static str {
        match self {
            Self::Events(events) => events[0].user,
            Self::Reserve { user, .. } | Self::Release { user, .. } | Self::Erase(user) => user,
        }
    }
}

/// Makes the plan, from what it has made so far.
struct Maker {
    random: Random,
    next_id: usize,
    events: Vec<Sent>,
    reservations: Vec<Sent>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let durability = if random.percent(25) { Durability::Wal } else { Durability::Fsync };
        let writers = if random.percent(25) { 2 } else { 1 };
        let overlay_bytes = random.pick(&[2, 4, 8, 16, 64]) << 10;
        let sync_keeps_name = random.percent(50);
        let has_redis = random.percent(2);
        let history_limit = random.within(3..10) as usize;
        let rule_sets = (0..2).map(|_| rules(&mut random, history_limit)).collect();
        let lives_count = random.within(2..5) as usize;
        let mut maker = Maker { random, next_id: 0, events: Vec::new(), reservations: Vec::new() };
        let (mut steps, mut lives) = (Vec::new(), Vec::new());
        // In the year 2100: what Redis is told to keep until then it keeps for as long as any run takes.
        let mut now = 4_102_444_800_000;
        for number in 0..=lives_count {
            let is_last = number == lives_count;
            now += if maker.random.percent(70) { maker.random.below(MINUTE) } else { maker.random.below(30 * HOUR) };
            let first = steps.len();
            let starts_at = now;
            let wrong_ms = if !is_last && number > 0 && maker.random.percent(15) { maker.wrong_at_start() } else { 0 };
            let steps_count = maker.random.within(4..25);
            let stepped_ms = if wrong_ms == 0 && maker.random.percent(15) { maker.step_by() } else { 0 };
            let stepped = maker.random.below(steps_count)..maker.random.below(steps_count);
            for step in 0..steps_count {
                let stepped_ms = if stepped.contains(&step) { stepped_ms } else { 0 };
                steps.push(maker.step(now, wrong_ms != 0 || stepped_ms != 0, stepped_ms));
                // Less than an hour in all: no step of the clock.
                now += if maker.random.percent(50) { 0 } else { maker.random.below(2 * MINUTE) };
            }
            let end = if is_last || maker.random.percent(20) { End::Stop } else { End::Kill };
            let fault = if is_last { Fault::None } else { maker.fault() };
            let may_lose = durability == Durability::Fsync && !is_last;
            let loss = (may_lose && maker.random.percent(60))
                .then(|| maker.random.pick(&[Loss::Everything, Loss::Nothing, Loss::Tail, Loss::Sectors, Loss::Mixed]));
            lives.push(Life {
                steps: first..steps.len(),
                rules: if maker.random.percent(70) { 0 } else { 1 },
                starts_at,
                wrong_ms,
                fault,
                end,
                loss,
            });
        }
        Self { durability, writers, overlay_bytes, sync_keeps_name, has_redis, history_limit, rule_sets, steps, lives }
    }

    /// What is in force in a life.
    pub fn settings(&self, life: &Life) -> Settings {
        Settings {
            rules: self.rule_sets[life.rules].clone(),
            history_limit: self.history_limit,
            retention_ms: 7 * DAY,
            lifetime_retention_ms: 400 * DAY,
            max_skew_ms: MINUTE,
            duplicate_window_ms: None,
            max_kinds: 16,
        }
    }
}

/// No window is longer than the retention: what one set of rules needs, the other must not give up.
fn rules(random: &mut Random, history_limit: usize) -> Vec<Rule> {
    let keys = ["da:*", "da:1", "campaign:*", "campaign:1", "advertiser:*"];
    let count = random.within(1..5);
    let rule = |place: u64| {
        let hours = random.pick(&[1, 2, 24, 5 * 24]);
        let shadow = random.percent(15);
        Rule {
            id: RuleId::new(&format!("r{place}")).unwrap(),
            key: KeyPattern::new(if place == 0 { "da:*" } else { random.pick(&keys) }).unwrap(),
            kind: Kind::new(if random.percent(80) { KINDS[0] } else { KINDS[1] }).unwrap(),
            limit: (shadow || random.percent(90)).then(|| random.within(1..5).min(history_limit as u64)),
            window: Window::Rolling(Span::millis(hours * HOUR)),
            mode: if shadow { Mode::Shadow } else { Mode::Enforce },
        }
    };
    (0..count).map(rule).collect()
}

impl Maker {
    /// How wrong the clock is, in ms. At a start: by more than the service may have been off, so that it is noticed.
    fn wrong_at_start(&mut self) -> i64 {
        self.random.pick(&[8, 30, 30, 3_000, -10, -30]) * DAY as i64
    }

    /// And where it steps: by more than a correction.
    fn step_by(&mut self) -> i64 {
        self.random.pick(&[2, 24, 8 * 24, 30 * 24, 3_000 * 24, -1, -24, -30 * 24]) * HOUR as i64
    }

    fn fault(&mut self) -> Fault {
        let at = self.random.by_magnitude(1_000);
        match self.random.below(10) {
            0 => Fault::None,
            1..=4 => Fault::Kill { at },
            5 => Fault::Short { at },
            _ => Fault::Fail {
                at,
                calls: self.random.pick(&[1, 2, 3, 4, 7]),
                // EIO, ENOSPC
                errno: self.random.pick(&[5, 5, 28]),
                stays: self.random.percent(50),
            },
        }
    }

    fn step(&mut self, time: u64, is_wrong: bool, wrong_ms: i64) -> Step {
        let count = if self.random.percent(60) { 1 } else { self.random.within(2..5) };
        let ops = (0..count).map(|_| self.op(time, is_wrong)).collect();
        let faults = [RedisFault::Hang, RedisFault::Hang, RedisFault::GoOn, RedisFault::Flush, RedisFault::End];
        let redis = self.random.percent(25).then(|| self.random.pick(&faults));
        Step { time, wrong_ms, redis, ops, reads: self.random.percent(25) }
    }

    fn id(&mut self) -> &'static str {
        self.next_id += 1;
        &IDS[self.next_id % IDS.len()]
    }

    fn op(&mut self, right: u64, is_wrong: bool) -> Op {
        let user = self.random.pick(&[USERS[0], USERS[0], USERS[1], USERS[2], USERS[3]]);
        match self.random.below(20) {
            0..=2 => {
                let das: Vec<_> =
                    (0..self.random.within(1..4)).map(|_| (self.random.pick(&DAS), self.keys())).collect();
                let ttl_ms = self.random.percent(80).then(|| self.random.within(1..HOUR));
                let (want, id) = (self.random.within(1..3) as usize, self.id());
                for (da, keys) in &das {
                    self.reservations.push(Sent {
                        user,
                        da,
                        kind: kind(0),
                        ts: None,
                        id: Some(id),
                        keys: keys.clone(),
                    });
                }
                Op::Reserve { user, das, want, ttl_ms, id }
            }
            3 if !self.reservations.is_empty() => {
                let Sent { user, da, id, .. } = self.reservation();
                Op::Release { user, da, id: id.unwrap_or_default() }
            }
            // The time of an erasure is that at which it comes.
            4 if !is_wrong && self.random.percent(30) => Op::Erase(user),
            5 if !self.reservations.is_empty() => {
                let event = self.reservation();
                Op::Events(vec![Sent { ts: Some(TsMs(right - self.random.below(MINUTE))), ..event }])
            }
            6 | 7 if !self.events.is_empty() => {
                let nth = self.random.below(self.events.len().min(20) as u64) as usize;
                Op::Events(vec![self.events[self.events.len() - 1 - nth].clone()])
            }
            8 => Op::Events(vec![self.event(user, right, false)]),
            _ => {
                let count = self.random.pick(&[1, 1, 1, 3, 8, 20]);
                Op::Events((0..count).map(|_| self.event(user, right, is_wrong)).collect())
            }
        }
    }

    /// The event that would confirm an earlier reservation.
    fn reservation(&mut self) -> Sent {
        let nth = self.random.below(self.reservations.len().min(6) as u64) as usize;
        self.reservations[self.reservations.len() - 1 - nth].clone()
    }

    fn event(&mut self, user: &'static str, right: u64, is_wrong: bool) -> Sent {
        let ago = match self.random.below(10) {
            0..=5 => self.random.below(MINUTE),
            6..=8 => self.random.below(30 * HOUR),
            _ => self.random.below(8 * DAY),
        };
        let event = Sent {
            user,
            da: self.random.pick(&DAS),
            kind: kind(usize::from(self.random.percent(20))),
            // An event without a time is refused where nobody knows it; one of many, the others are taken.
            ts: (is_wrong || self.random.percent(80)).then_some(TsMs(right - ago)),
            id: if self.random.percent(70) { Some(self.id()) } else { None },
            keys: self.keys(),
        };
        self.events.push(event.clone());
        event
    }

    fn keys(&mut self) -> Vec<&'static str> {
        KEYS.into_iter().filter(|_| self.random.percent(40)).collect()
    }
}

fn kind(number: usize) -> Kind {
    Kind::new(KINDS[number]).unwrap()
}
