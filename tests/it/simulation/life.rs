//! The process under test: one life of the store, in which everything that it is asked and answers is written down at
//! once, for whoever looks after it has ended.

use crate::simulation::mirrored::{Caps, Mirrored};
use crate::simulation::plan::{DAS, End, KEYS, Op, Plan, USERS};
use freqcap::clock::Clock;
use freqcap::engine::{Policy, Question};
use freqcap::model::{Candidate, CapKey, DaId, Event, EventId, Kind, RuleSet, UserCap, UserId};
use freqcap::shard::{Options, Reserve, ReserveOutcome, Router, Shards, Source};
use freqcap::store::{ByteSize, ChangedBy, Store, StoreOptions, Unbounded};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A line of what a life tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    Opened(Now),
    /// The time is stored as one that was believed.
    ClockStored,
    /// It cannot be opened, and why.
    Refused(String),
    /// The calls of a step are on their way.
    Step(usize, Now),
    Answer(usize, usize, String),
    /// A call that was not answered, and why.
    Failed(usize, usize, String),
    Read {
        user: String,
        held: String,
        is_poisoned: bool,
    },
    ReadFailed(String),
    /// What the table of caps has too little or too much, once everything due is done.
    Caps(Option<String>),
    /// And what Redis has.
    Redis(Option<String>),
    Stopped(Option<String>),
}

/// What the service takes the time for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Now {
    pub now: u64,
    /// It may be as late as this.
    pub latest: u64,
    pub is_believed: bool,
}

/// By this variable a process knows that it is one life of a run.
pub const LIFE: &str = "FREQCAP_SIM_LIFE";

struct Running {
    shards: Shards,
    store: Arc<Store>,
    /// The time of day and the monotonic clock.
    wall: Arc<AtomicU64>,
    mono: Arc<AtomicU64>,
    clock: Clock,
    /// What time it is, and how wrong the clock is in this life.
    time: u64,
    wrong_ms: i64,
    clock_stored: u64,
    runtime: tokio::runtime::Runtime,
    mirrored: Option<Mirrored>,
    report: File,
}

#[test]
#[ignore = "the process that the simulation starts for each life"]
fn one_life() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let mut words = life.splitn(5, ' ');
    let mut word = || words.next().unwrap();
    let (seed, number) = (word().parse().unwrap(), word().parse().unwrap());
    let may_be_wrong = word() == "wrong";
    live(&Plan::new(seed), number, may_be_wrong, Path::new(word()), Path::new(word()));
}

fn live(plan: &Plan, number: usize, may_be_wrong: bool, dir: &Path, report: &Path) {
    let life = &plan.lives[number];
    let mut report = File::options().append(true).create(true).open(report).unwrap();
    let options = StoreOptions {
        data_dir: dir.to_owned(),
        durability: plan.durability,
        keep_changes: true,
        block_cache: ByteSize::mib(1),
        overlay_size: ByteSize(plan.overlay_bytes),
        write_buffer: ByteSize(256 << 10),
        ..StoreOptions::default()
    };
    let wrong_ms = if may_be_wrong { life.wrong_ms } else { 0 };
    let wall = Arc::new(AtomicU64::new(life.starts_at.saturating_add_signed(wrong_ms)));
    let mono = Arc::new(AtomicU64::new(0));
    let clock = Clock::simulated(wall.clone(), mono.clone());
    let store = match Store::open(&options) {
        Ok(store) => Arc::new(store),
        Err(error) => return tell(&mut report, &Told::Refused(error.to_string())),
    };
    let settings = plan.settings(life);
    let base = Policy::new(
        RuleSet::new([]),
        settings.history_limit,
        settings.retention_ms,
        settings.lifetime_retention_ms,
        settings.max_skew_ms,
    );
    let rules = settings.rules.into_iter().map(|rule| (rule, Source::File)).collect();
    let options = Options {
        writers: plan.writers,
        mailbox_events: 10_000,
        mailbox_bytes: 64 << 20,
        min_free_disk: 0,
        max_offline: Duration::from_secs(7 * 86_400),
        accept_clock: false,
        erase_within: Duration::from_secs(86_400),
        opted_out: Default::default(),
    };
    let shards = match Shards::start(store.clone(), &base, rules, clock.clone(), &options) {
        Ok(shards) => shards,
        Err(error) => return tell(&mut report, &Told::Refused(error.to_string())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (time, mirrored) = (life.starts_at, Mirrored::start(&store, &clock));
    let clock_stored = 0;
    let mut running =
        Running { shards, store, wall, mono, clock, time, wrong_ms, clock_stored, runtime, mirrored, report };
    let now = running.now();
    running.tell(&Told::Opened(now));
    running.read();
    running.store_clock(time);
    for step in life.steps.clone() {
        running.step(plan, step);
    }
    running.read();
    if number + 1 == plan.lives.len() {
        running.caps();
    }
    match life.end {
        End::Kill => die(dir),
        End::Stop => running.stop(),
    }
}

/// Has the shim end the process, as kill -9 does, but between two calls of any thread: so all that was done is in its log.
fn die(dir: &Path) -> ! {
    let _ = std::fs::create_dir(dir.join("KILL"));
    unreachable!("this process goes on without the shim");
}

/// One write, which outlives the process.
fn tell(report: &mut File, told: &Told) {
    let mut line = serde_json::to_vec(told).unwrap();
    line.push(b'\n');
    report.write_all(&line).unwrap();
}

impl Running {
    fn tell(&mut self, told: &Told) {
        tell(&mut self.report, told);
    }

    /// Makes the calls of a step one behind the other, and then waits for all.
    fn step(&mut self, plan: &Plan, number: usize) {
        let step = &plan.steps[number];
        let is_last = plan.lives.last().is_some_and(|last| last.steps.contains(&number));
        if let (Some(mirrored), Some(fault), false) = (&self.mirrored, step.redis, is_last) {
            mirrored.meets(fault);
        }
        self.set_clock(step.time, step.wrong_ms);
        let now = self.now();
        self.tell(&Told::Step(number, now));
        // The tasks of such a runtime begin in the order in which they were spawned.
        let calls: Vec<_> = {
            let _runtime = self.runtime.enter();
            let call = |op: &Op| self.runtime.spawn(call(self.shards.router().clone(), op.clone()));
            step.ops.iter().map(call).collect()
        };
        for (place, call) in calls.into_iter().enumerate() {
            let told = match self.runtime.block_on(call).unwrap() {
                Ok(answer) => Told::Answer(number, place, answer),
                Err(why) => Told::Failed(number, place, why),
            };
            self.tell(&told);
        }
        if step.reads {
            self.read();
        }
    }

    fn now(&self) -> Now {
        let (now, latest) = (self.clock.now().0, self.clock.latest().0);
        Now { now, latest, is_believed: self.clock.is_believed() }
    }

    /// Has time pass, and the clock show it. In steps: who looks at one counter and then at the other must see no jump.
    fn set_clock(&mut self, time: u64, wrong_ms: i64) {
        while self.time < time {
            let passed = (time - self.time).min(20_000);
            self.time += passed;
            self.mono.fetch_add(passed, Ordering::Relaxed);
            self.wall.fetch_add(passed, Ordering::Relaxed);
        }
        self.wall.store(time.saturating_add_signed(self.wrong_ms + wrong_ms), Ordering::Relaxed);
        self.store_clock(time);
    }

    /// What the service does every ten seconds: here time passes faster than that.
    fn store_clock(&mut self, time: u64) {
        if self.now().is_believed && self.clock_stored + 10_000 <= time {
            self.clock_stored = time;
            if self.store.meta().put_last_believed(self.clock.now()).is_ok() {
                self.tell(&Told::ClockStored);
            }
        }
    }

    fn read(&mut self) {
        for user in USERS {
            let told = match self.held(user) {
                Ok(held) => Told::Read { user: user.to_owned(), held, is_poisoned: self.store.is_poisoned() },
                Err(why) => Told::ReadFailed(why),
            };
            self.tell(&told);
        }
    }

    /// All that can be read of a user, as text.
    fn held(&self, user: &str) -> Result<String, String> {
        let (reader, user) = (self.shards.reader(), UserId::new(user).unwrap());
        let mut out = String::new();
        let page = self.runtime.block_on(reader.user(&user, None, 1_000, Unbounded, |page, _| page));
        let mut logs: Vec<_> = page.map_err(|error| error.to_string())?.logs().collect();
        logs.sort_by(|a, b| a.key.cmp(&b.key));
        for log in &logs {
            let mut sections: Vec<_> = log.sections().iter().collect();
            sections.sort_by_key(|it| it.kind);
            for section in sections {
                let events =
                    log.events(section).map(|it| (it.ts.0, it.hash.unwrap_or(0), it.expires_at.map(|at| at.0)));
                let events: Vec<_> = events.collect();
                write_kind(&mut out, &log.key, section.kind, section.lifetime(), &events);
            }
        }
        let keys: smallvec::SmallVec<[CapKey<'_>; 2]> = KEYS.iter().map(|key| CapKey::extra(*key).unwrap()).collect();
        for da in DAS {
            let candidate = Candidate { da: DaId::new(da).unwrap(), keys: keys.clone(), catalogue: true };
            let verdict = self.runtime.block_on(reader.ad(&user, &candidate, Question::default(), Unbounded));
            writeln!(out, "{:?}", verdict.map_err(|error| error.to_string())?.0).unwrap();
        }
        Ok(out)
    }

    /// Compares the table of caps with what the logs say, once the timers that are due have fired.
    fn caps(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let wanted = loop {
            let (mut wanted, mut rows) = (Caps::new(), Caps::new());
            for user in USERS {
                let add = |caps: &mut Vec<UserCap>, cap: &UserCap| {
                    caps.push(cap.clone());
                    true
                };
                let (reader, id) = (self.shards.reader(), UserId::new(user).unwrap());
                let caps = self.runtime.block_on(reader.user_caps(&id, Vec::new(), add)).map(|(caps, _)| caps);
                let held = self.store.caps().of_user(user);
                let (caps, held) = match (caps, held) {
                    (Ok(caps), Ok(held)) => (caps, held),
                    (Err(error), _) => return self.tell(&Told::ReadFailed(error.to_string())),
                    (_, Err(error)) => return self.tell(&Told::ReadFailed(error.to_string())),
                };
                wanted.extend(caps.iter().map(|cap| (user.to_owned(), cap.key.to_string(), cap.capped_until)));
                rows.extend(held.into_iter().map(|it| (it.user, it.key, it.until)));
            }
            let is_over = Instant::now() > deadline;
            if wanted == rows || is_over {
                let wrong = (wanted != rows).then(|| format!("the logs say {wanted:?}, the table of caps {rows:?}"));
                self.tell(&Told::Caps(wrong));
                break wanted;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        };
        let Some(mirrored) = &self.mirrored else { return };
        let held = loop {
            let held = mirrored.held();
            if held.as_ref() == Ok(&wanted) || Instant::now() > deadline {
                break held;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        let is_right = held.as_ref() == Ok(&wanted);
        self.tell(&Told::Redis((!is_right).then(|| format!("the logs say {wanted:?}, Redis {held:?}"))));
    }

    fn stop(mut self) {
        if let Some(mirrored) = self.mirrored {
            mirrored.stop();
        }
        drop(self.store);
        let stopped = self.shards.stop().err().map(|error| error.to_string());
        tell(&mut self.report, &Told::Stopped(stopped));
    }
}

/// The events of a kind in a log as both sides write them.
pub fn write_kind(out: &mut String, key: &str, kind: Kind, lifetime: u64, events: &[(u64, u64, Option<u64>)]) {
    if lifetime > 0 || !events.is_empty() {
        writeln!(out, "{key} {kind} {lifetime} {events:?}").unwrap();
    }
}

async fn call(router: Router, op: Op) -> Result<String, String> {
    match op {
        Op::Events(events) => {
            let mut block = router.builder();
            let mut ahead = 0;
            for (index, sent) in events.iter().enumerate() {
                let event = Event {
                    user: UserId::new(sent.user).unwrap(),
                    da: DaId::new(sent.da).unwrap(),
                    ts: sent.ts,
                    id: sent.id.map(|id| EventId::new(id).unwrap()),
                    kind: sent.kind,
                    keys: sent.keys.iter().map(|&key| CapKey::extra(key).unwrap()).collect(),
                };
                ahead += usize::from(block.push(index, &event).is_err());
            }
            let done = router.count(block).await;
            match done.refusal {
                Some(why) => Err(why.to_string()),
                None => Ok(events_answer(done.counted, done.duplicate, done.late + done.erased, ahead)),
            }
        }
        Op::Reserve { user, das, want, ttl_ms, id } => {
            let candidate = |(da, keys): &(&'static str, Vec<&'static str>)| Candidate {
                da: DaId::new(*da).unwrap(),
                keys: keys.iter().map(|&key| CapKey::extra(key).unwrap()).collect(),
                catalogue: true,
            };
            let call = Reserve {
                user: UserId::new(user).unwrap(),
                candidates: das.iter().map(candidate).collect(),
                want,
                ttl_ms,
                id: EventId::new(id).unwrap(),
                body_hash: Some(1),
                kind: Kind::IMPRESSION,
            };
            match router.reserve(call).await.map_err(|why| why.to_string())? {
                ReserveOutcome::Answer(json) => {
                    let answer: serde_json::Value = serde_json::from_slice(&json).unwrap();
                    let reserved = answer["reserved"].as_array().unwrap().iter();
                    Ok(reserve_answer(reserved.map(|it| it["da"].as_str().unwrap())))
                }
                other => Ok(format!("{other:?}")),
            }
        }
        Op::Release { user, da, id } => {
            let da = Some(DaId::new(da).unwrap());
            let released = router.release(UserId::new(user).unwrap(), EventId::new(id).unwrap(), da).await;
            released.map(release_answer).map_err(|why| why.to_string())
        }
        Op::Erase(user) => {
            let erased = router.erase(&UserId::new(user).unwrap(), ChangedBy::default()).await;
            erased.map(|_| ERASED.to_owned()).map_err(|why| why.to_string())
        }
    }
}

pub const ERASED: &str = "erased";

pub fn events_answer(counted: usize, duplicate: usize, late: usize, ahead: usize) -> String {
    format!("{counted} counted, {duplicate} duplicate, {late} late or erased, {ahead} ahead")
}

pub fn reserve_answer<'a>(das: impl Iterator<Item = &'a str>) -> String {
    format!("reserved {:?}", das.collect::<Vec<_>>())
}

pub fn release_answer(released: usize) -> String {
    format!("released {released}")
}
