//! How many instructions the hot pure functions need: figures that a busy machine does not move. `script/instructions`
//! runs this under Callgrind, which counts while [`measured`] runs, and compares with `benches/instructions.txt`.
//!
//! Every case is called [`CALLS`] times, each time with an input of its own, after as many calls that are not counted:
//! what happens once (CPU features looked up, memory taken from the system) is no part of it. What a call allocates and
//! gives back is.

use freqcap::engine::{KeyLog, Logs, Policy, Question, admit, capped_until, count, judge};
use freqcap::http::answer_bytes;
use freqcap::input::EventReader;
use freqcap::model::{
    CalendarUnit, DaId, Entry, EventId, KeyPattern, Kind, Log, Mode, Rule, RuleId, RuleSet, ShardId, TsMs, Window,
    Zone, event_hash,
};
use freqcap::store::{RowKey, decode_log, encode_log};
use std::hint::black_box;

/// As in the binary: allocating is part of what is counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLS: usize = 64;

/// How many events the logs hold: seen once, at the default limit, full.
const LENGTHS: [usize; 3] = [1, 5, HISTORY_LIMIT];

const HISTORY_LIMIT: usize = 256;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const NOW: TsMs = TsMs(1_795_370_447_571);

fn main() {
    let policy = policy();
    for length in LENGTHS {
        engine(&policy, length);
        codec(length);
    }
    judging(&policy);
    reading();
    places();
    answers();
}

/// Counts the instructions of `body` and says under which name, for the script to put the two together.
fn case<I, R>(name: &str, input: impl Fn() -> I, body: impl Fn(&mut I) -> R) {
    let inputs = || (0..CALLS).map(|_| input()).collect::<Vec<I>>();
    let calls = |inputs: &mut [I]| {
        for input in inputs {
            black_box(body(black_box(input)));
        }
    };
    calls(&mut inputs());
    let mut inputs = inputs();
    measured(&mut || calls(&mut inputs));
    println!("{name} {CALLS}");
}

/// Callgrind knows this function by its name, and counts until it returns: it must be called, not inlined, and not end
/// in a jump.
#[inline(never)]
fn measured(calls: &mut dyn FnMut()) {
    calls();
    black_box(());
}

/// Two rules on every ad: 5 in 5 days, and 3 a calendar day.
fn policy() -> Policy {
    let seoul = Zone::new("Asia/Seoul").expect("a zone of the IANA database");
    let rule = |id, limit, window| Rule {
        id: RuleId::new(id).expect("a rule id"),
        key: KeyPattern::new("da:*").expect("a pattern"),
        kind: Kind::IMPRESSION,
        limit: Some(limit),
        window,
        mode: Mode::Enforce,
    };
    let rules = RuleSet::new([
        rule("default", 5, Window::Rolling("5d".parse().expect("a span"))),
        rule("daily", 3, Window::calendar(CalendarUnit::Day, seoul)),
    ]);
    Policy::new(rules, HISTORY_LIMIT, 7 * DAY_MS, 400 * DAY_MS, MINUTE_MS)
}

/// One event a minute, the newest a minute ago, each with an id.
fn log(length: usize) -> Log {
    let mut log = Log::default();
    for minutes in (1..=length as u64).rev() {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(NOW.0 - minutes * MINUTE_MS), hash: minutes }, length);
    }
    log
}

/// The one log that an event without other keys touches.
struct OneLog(Log);

impl Logs for OneLog {
    type At = ();

    fn log(&self, _at: ()) -> &Log {
        &self.0
    }

    fn change(&mut self, _at: (), change: impl FnOnce(&mut Log)) {
        change(&mut self.0);
    }

    fn capped_until(&self, _at: ()) -> Option<TsMs> {
        None
    }

    fn sibling(&self, _at: (), _key: &str) -> Option<()> {
        None
    }
}

fn engine(policy: &Policy, length: usize) {
    case(
        &format!("engine::count/{length}"),
        || OneLog(log(length)),
        |logs| {
            let ts = admit(policy, None, NOW, NOW).expect("now is not ahead of now");
            let entry = Entry { ts, hash: u64::MAX };
            count(policy, logs, &[()], (Kind::IMPRESSION, entry), None, NOW)
        },
    );
    case(&format!("engine::capped_until/{length}"), || log(length), |log| capped_until(policy, "da:77", log, NOW));
}

fn codec(length: usize) {
    let bytes = || {
        let mut bytes = Vec::new();
        encode_log(&mut bytes, &log(length), false);
        bytes
    };
    case(
        &format!("store::encode_log/{length}"),
        || (log(length), Vec::with_capacity(16 * 1024)),
        |(log, out)| encode_log(out, log, false),
    );
    case(&format!("store::decode_log/{length}"), bytes, |bytes| decode_log(bytes));
}

fn judging(policy: &Policy) {
    let question = Question::default();
    case("engine::judge/5", || log(5), |log| judge(policy, &[KeyLog { key: "da:77", log }], question, NOW, |_| {}));
}

fn reading() {
    let reader = EventReader::default();
    let small = r#"{"user":"u0123456","da":"77","id":"1-2-3f"}"#;
    let whole = r#"{"user":"u0123456","da":"77","ts":1795370447571,"id":"8f14e45f-ceea-467f-a0e6-1f2b3c4d5e6f",
        "kind":"impression","keys":["campaign:42","advertiser:7"]}"#
        .replace('\n', "");
    case("input::event/small", || small.as_bytes().to_vec(), |line| drop(black_box(reader.event(line))));
    case("input::event/whole", || whole.as_bytes().to_vec(), |line| drop(black_box(reader.event(line))));
}

/// Where a user and a row are.
fn places() {
    let (short, uuid) = ("u0123456", "8f14e45f-ceea-467f-a0e6-1f2b3c4d5e6f");
    for user in [short, uuid] {
        let name = format!("model::shard_of_user/{}", user.len());
        case(&name, || user.to_owned(), |user| ShardId::of_user(user.as_bytes()));
    }
    case(
        "model::event_hash/36",
        || (DaId::new("77").expect("an id"), EventId::new(uuid).expect("an id")),
        |(da, id)| event_hash(da, id),
    );
    case("store::row_key", || Vec::with_capacity(64), |out| RowKey::write_da(out, short, "77"));
}

/// Answers as long as those to `/check`, written as handlers write them.
fn answers() {
    #[derive(Clone, serde::Serialize)]
    struct Verdict {
        da: &'static str,
        capped: bool,
        capped_until: Option<u64>,
        rule: &'static str,
        key: &'static str,
        count: u32,
        limit: u32,
        remaining: u32,
    }
    let verdict = Verdict {
        da: "77",
        capped: false,
        capped_until: None,
        rule: "default",
        key: "da:77",
        count: 2,
        limit: 5,
        remaining: 3,
    };
    for verdicts in [1, 100] {
        let input = || vec![verdict.clone(); verdicts];
        case(&format!("http::answer/{verdicts}"), input, |verdicts| answer_bytes(verdicts));
    }
}
