//! One run: lives one after another on one directory, what happened to the disk between them, and the judgement.

use crate::simulation::disk::Disk;
use crate::simulation::judge::Judge;
use crate::simulation::life::{LIFE, Now, Told};
use crate::simulation::mirrored::REDIS;
use crate::simulation::plan::{End, Fault, Life, Plan, Step, USERS};
use crate::simulation::random::Random;
use crate::support::redis_server::Server as Redis;
use freqcap::shard::Refusal;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIFE_TAKES_AT_MOST: Duration = Duration::from_secs(60);

/// What a run has seen, for whoever asks whether the faults happen.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub lives: usize,
    pub killed: usize,
    pub failed: usize,
    pub losses: usize,
    pub answers: usize,
    pub reads: usize,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.lives += other.lives;
        self.killed += other.killed;
        self.failed += other.failed;
        self.losses += other.losses;
        self.answers += other.answers;
        self.reads += other.reads;
    }
}

/// What makes a run lie, to see that it is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lies {
    /// Syncs are not done.
    pub syncs: bool,
    /// Before the last life, something that was synced is damaged.
    pub damage: bool,
}

/// Why a run failed, and in which life.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub life: usize,
    pub why: String,
}

pub fn run(seed: u64, lies: Lies) -> Result<Seen, Failure> {
    let place = place();
    let mut run = Run {
        seed,
        lies,
        plan: Plan::new(seed),
        disk: Disk::new(Plan::new(seed).sync_keeps_name),
        judge: Judge::new(),
        random: Random::new(seed, 2),
        seen: Seen::default(),
        clock_is_known: false,
        damaged: None,
        redis: None,
    };
    run.redis = run.plan.has_redis.then(Redis::start);
    fs::create_dir(run.dir(&place)).unwrap();
    for number in 0..run.plan.lives.len() {
        let done = run.life(&place, number);
        done.map_err(|why| Failure { seed, life: number, why: why.replace(USERS[3], "u4") })?;
    }
    Ok(run.seen)
}

struct Run {
    seed: u64,
    lies: Lies,
    plan: Plan,
    disk: Disk,
    judge: Judge,
    random: Random,
    seen: Seen,
    /// Whether a time that was believed is stored.
    clock_is_known: bool,
    /// What was done to a file that was synced.
    damaged: Option<String>,
    redis: Option<Redis>,
}

impl Run {
    fn dir(&self, place: &TempDir) -> PathBuf {
        place.path().join("data")
    }

    fn life(&mut self, place: &TempDir, number: usize) -> Result<(), String> {
        let (dir, report, log, errors) =
            (self.dir(place), place.path().join("report"), place.path().join("calls"), place.path().join("stderr"));
        for file in [&report, &log] {
            File::create(file).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "simulation::life::one_life", "--ignored", "--nocapture", "--test-threads=1"]);
        // A clock that is wrong before any was known to be right is nothing that anybody could notice.
        let clock = if self.clock_is_known { "wrong" } else { "right" };
        command.env(LIFE, format!("{} {number} {clock} {} {}", self.seed, dir.display(), report.display()));
        command.env("LD_PRELOAD", shim()).env("FREQCAP_SHIM_DIR", &dir).env("FREQCAP_SHIM_LOG", &log);
        let is_last = number + 1 == self.plan.lives.len();
        if self.lies.damage && is_last {
            self.damaged = self.disk.damage(&dir, &mut self.random);
        }
        if let Some(redis) = &mut self.redis {
            if redis.has_ended() {
                redis.start_again();
            }
            if is_last {
                redis.signal("CONT");
            }
            command.env(REDIS, format!("{} {}", redis.pid(), redis.url()));
        }
        if self.lies.syncs {
            command.env("FREQCAP_SHIM_LIES", "1");
        }
        let fault = self.plan.lives[number].fault;
        command.envs(variables(fault));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors).unwrap());
        let Some(status) = wait(command) else { return Err(format!("it hangs ({fault:?})")) };
        let done = self.disk.replay(&fs::read(&log).unwrap());
        if let Some(missed) = self.disk.differs_from(&dir) {
            return Err(format!("the simulation is wrong: {missed}; damaged: {:?}", self.damaged));
        }
        self.seen.lives += 1;
        self.seen.killed += usize::from(status.signal() == Some(9));
        self.seen.failed += usize::from(done.faults > 0 && status.signal().is_none());
        let told = fs::read_to_string(&report).unwrap();
        // The end may have come in the middle of a line.
        let told = told.split_inclusive('\n').filter_map(|line| serde_json::from_str(line.strip_suffix('\n')?).ok());
        let has_fault = done.faults > 0 || self.damaged.is_some();
        self.judge_life(number, &told.collect::<Vec<Told>>(), status, has_fault).map_err(|why| {
            let why = self.damaged.as_ref().map_or(why.clone(), |damaged| format!("{damaged}: {why}"));
            let errors = fs::read_to_string(&errors).unwrap_or_default();
            format!("{fault:?} after {} calls: {why}\n{errors}", done.calls)
        })?;
        if let Some(loss) = self.plan.lives[number].loss {
            self.seen.losses += 1;
            self.disk.lose_power(&dir, loss, &mut self.random);
        }
        Ok(())
    }

    fn judge_life(&mut self, number: usize, told: &[Told], status: ExitStatus, has_fault: bool) -> Result<(), String> {
        let life = &self.plan.lives[number];
        let settings = self.plan.settings(life);
        let wrong_ms = if self.clock_is_known { life.wrong_ms } else { 0 };
        let mut now = Now { now: 0, latest: 0, is_believed: false };
        let mut pending: Option<(usize, Vec<bool>)> = None;
        let (mut has_stepped, mut ended, mut judged_caps) = (false, false, false);
        let mut poisoned_in: Option<usize> = None;
        for line in told {
            match line {
                Told::Opened(at) => now = believed(*at, life.starts_at, wrong_ms)?,
                Told::ClockStored => self.clock_is_known = true,
                Told::Refused(why) => {
                    if !has_fault {
                        return Err(format!("it does not start: {why}"));
                    }
                    ended = true;
                }
                Told::Step(step, at) => {
                    let Step { time, wrong_ms: stepped_ms, .. } = self.plan.steps[*step];
                    now = believed(*at, time, wrong_ms + stepped_ms)?;
                    has_stepped = true;
                    pending = Some((*step, vec![false; self.plan.steps[*step].ops.len()]));
                }
                Told::Answer(step, place, answer) => {
                    self.judge.answered(&self.plan.steps[*step].ops[*place], answer, &settings, now)?;
                    self.seen.answers += 1;
                    mark(&mut pending, *place);
                }
                Told::Failed(step, place, why) => {
                    let op = &self.plan.steps[*step].ops[*place];
                    if *why == Refusal::ClockNotBelieved.to_string() {
                        if now.is_believed {
                            return Err(format!("{op:?} was refused though the clock is right: {why}"));
                        }
                    } else if !has_fault {
                        return Err(format!("{op:?} was refused: {why}"));
                    }
                    // What fails poisons the store: that call may be done or not. What is refused later was never begun.
                    if *why == Refusal::Poisoned.to_string() && poisoned_in.is_none_or(|first| first == *step) {
                        poisoned_in = Some(*step);
                        self.judge.unanswered(op, &settings, now);
                    }
                    mark(&mut pending, *place);
                }
                Told::Read { user, held, is_poisoned } => {
                    // What a disk that failed has of the calls that it failed is seen after the next start.
                    self.judge.read(user, held, !has_stepped && !is_poisoned, &settings, now)?;
                    self.seen.reads += 1;
                }
                Told::ReadFailed(why) => {
                    if !has_fault {
                        return Err(format!("a read failed: {why}"));
                    }
                }
                Told::Caps(wrong) => {
                    judged_caps |= self.redis.is_none();
                    if let (Some(wrong), None) = (wrong, &self.damaged) {
                        return Err(wrong.clone());
                    }
                }
                Told::Redis(wrong) => {
                    judged_caps = true;
                    if let Some(wrong) = wrong {
                        return Err(wrong.clone());
                    }
                }
                Told::Stopped(error) => {
                    ended = true;
                    if let (Some(error), false) = (error, has_fault) {
                        return Err(format!("it does not stop: {error}"));
                    }
                }
            }
        }
        if let Some((step, answered)) = pending {
            for (op, _) in self.plan.steps[step].ops.iter().zip(answered).filter(|(_, answered)| !answered) {
                self.judge.unanswered(op, &settings, now);
            }
        }
        let is_last = number + 1 == self.plan.lives.len();
        let as_planned = match status.signal() {
            Some(9) => life.end == End::Kill || has_fault,
            Some(_) => false,
            None => status.success() && ended && (judged_caps || !is_last || has_fault),
        };
        if as_planned { Ok(()) } else { Err(format!("it ended with {status}")) }
    }
}

/// A clock that is right is believed, and one that is wrong is not: then the service goes by an earlier time than it is.
fn believed(at: Now, time: u64, wrong_ms: i64) -> Result<Now, String> {
    let is_well = if wrong_ms == 0 { at.is_believed && at.now == time } else { !at.is_believed && at.now <= time };
    if is_well { Ok(at) } else { Err(format!("it is {time}, the clock is wrong by {wrong_ms} ms: {at:?}")) }
}

fn mark(pending: &mut Option<(usize, Vec<bool>)>, place: usize) {
    if let Some((_, answered)) = pending {
        answered[place] = true;
    }
}

fn variables(fault: Fault) -> Vec<(&'static str, String)> {
    match fault {
        Fault::None => Vec::new(),
        Fault::Kill { at } => vec![("FREQCAP_SHIM_KILL_AT", at.to_string())],
        Fault::Short { at } => vec![("FREQCAP_SHIM_SHORT_AT", at.to_string())],
        Fault::Fail { at, calls, errno, stays } => vec![
            ("FREQCAP_SHIM_FAIL_AT", at.to_string()),
            ("FREQCAP_SHIM_FAIL_CALLS", calls.to_string()),
            ("FREQCAP_SHIM_ERRNO", errno.to_string()),
            ("FREQCAP_SHIM_STAYS", u8::from(stays).to_string()),
        ],
    }
}

/// Waits for the end of a process; one that does not end is killed.
fn wait(mut command: Command) -> Option<ExitStatus> {
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + LIFE_TAKES_AT_MOST;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// In memory, where there is such a place: a run syncs hundreds of times.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// The shim, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/simulation/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&path).arg(source).args(["-ldl", "-lpthread"]);
        let done = compiler.output().expect("a C compiler is at hand: RocksDB needs one, too");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        (dir, path)
    });
    path
}

/// What happens in the first lives of a run, for whoever reads why it failed.
pub fn told(seed: u64, lives: usize) -> String {
    let plan = Plan::new(seed);
    let mut out = format!(
        "seed {seed}: {:?}, writers: {}, overlay: {} bytes, a sync keeps a file's name: {}\n",
        plan.durability, plan.writers, plan.overlay_bytes, plan.sync_keeps_name
    );
    for (number, life) in plan.lives.iter().enumerate().take(lives) {
        let Life { starts_at, wrong_ms, fault, end, loss, .. } = life;
        out += &format!("life {number} at {starts_at}, wrong by {wrong_ms}: {fault:?}, else {end:?}, then {loss:?}\n");
        for number in life.steps.clone() {
            let Step { time, wrong_ms, ops, .. } = &plan.steps[number];
            out += &format!("  {number}. at {time}, wrong by {wrong_ms}: {ops:?}\n");
        }
    }
    out.replace(USERS[3], "u4")
}
