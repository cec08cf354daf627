//! What comes first of all: two units that applied the same log are the same, however they came there.

use super::command::{Claim, Command, EraseUser, Policy, PolicySettings, ReleaseReservation};
use super::digest::Digest;
use super::epoch::{Epoch, RunId};
use super::record::{HEADER, Head, encode};
use super::record_error::RecordError;
use super::replica::{Applied, Effect, LogRecord, Replica, ReplicaError};
use crate::input::FieldsConfig;
use crate::model::{Candidate, CapKey, DaId, EventId, Kind, TsMs, UserId};
use crate::shard::{LogOutcome, Reserve, ReserveOutcome};
use crate::store::{ChangedBy, Durability, Store, StoreOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

const NOW: u64 = 1_732_233_600_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A record that owns its bytes.
#[derive(Debug, Clone)]
struct Owned {
    offset: u64,
    appended: TsMs,
    header: Option<String>,
    payload: Vec<u8>,
}

impl Owned {
    fn borrowed(&self) -> LogRecord<'_> {
        let header = self.header.as_ref().map(|header| (HEADER, Some(header.as_bytes())));
        LogRecord {
            offset: self.offset,
            appended: self.appended,
            headers: header.into_iter().collect(),
            payload: Some(&self.payload),
        }
    }
}

fn settings(history_limit: usize) -> PolicySettings {
    PolicySettings {
        history_limit,
        retention_ms: 7 * DAY,
        lifetime_retention_ms: 400 * DAY,
        max_skew_ms: 60_000,
        max_kinds: 16,
        duplicate_window_ms: u64::MAX,
        nobody: "builtin".to_owned(),
        fields: FieldsConfig::default(),
    }
}

fn policy(revision: u64, history_limit: usize, limit: u64, window: &str) -> Policy {
    let rules = vec![
        json!({"id": "ad", "key": "da:*", "limit": limit, "window": window}),
        json!({"id": "campaign", "key": "campaign:*", "limit": limit + 2, "window": "1d"}),
    ];
    Policy { revision, engine: super::policy::ENGINE, settings: settings(history_limit), rules }
}

fn first_policy() -> Policy {
    policy(1, 256, 3, "2d")
}

/// A unit in a directory, with the thread that flushes it.
struct Unit {
    dir: tempfile::TempDir,
    replica: Replica,
    flusher: JoinHandle<()>,
}

impl Unit {
    fn open(dir: tempfile::TempDir) -> Self {
        let options =
            StoreOptions { data_dir: dir.path().join("unit"), durability: Durability::Wal, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&options).unwrap());
        let flushed = store.clone();
        let flusher = std::thread::spawn(move || flushed.flusher().run());
        let replica = Replica::open(store, "log", 3, first_policy()).unwrap();
        Self { dir, replica, flusher }
    }

    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn apply(&mut self, records: &[Owned]) -> Vec<Applied> {
        let records: Vec<_> = records.iter().map(Owned::borrowed).collect();
        self.replica.apply(&records).unwrap()
    }

    fn end(self) -> tempfile::TempDir {
        let store = self.replica.store().clone();
        drop(self.replica);
        store.flusher().end();
        self.flusher.join().unwrap();
        store.close().unwrap();
        self.dir
    }

    fn stopped_and_started(self) -> Self {
        Self::open(self.end())
    }

    /// What another process finds after this one was killed: the files as they are now.
    fn killed_and_started(self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_all(self.dir.path(), copy.path());
        self.end();
        Self::open(copy)
    }

    fn digest(&self) -> Digest {
        let policy = self.replica.policy().policy.clone();
        Digest::of(self.replica.store(), &policy, self.replica.position().clock.now()).unwrap()
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A log of so many records, with everything in it that there is.
struct LogMaker {
    random: Random,
    offset: u64,
    appended: u64,
    claims: Vec<u64>,
    revision: u64,
    request: u64,
}

impl LogMaker {
    fn make(seed: u64, records: usize) -> Vec<Owned> {
        let mut maker =
            Self { random: Random(seed), offset: 0, appended: NOW, claims: Vec::new(), revision: 1, request: 0 };
        let mut log = vec![maker.claim()];
        log.extend((1..records).map(|_| maker.record()));
        log
    }

    fn record(&mut self) -> Owned {
        // Many records of one instant, some later, few much later, and a broker whose clock went back.
        let step = match self.random.below(100) {
            0..60 => 0,
            60..90 => self.random.below(2_000),
            90..97 => self.random.below(30 * 60_000),
            97..98 => self.random.below(5 * DAY),
            _ => 0,
        };
        self.appended += step;
        match self.random.below(100) {
            0..55 => self.event(),
            55..75 => self.reserve(),
            75..85 => self.release(),
            85..88 => self.erase(),
            88..91 => self.policy(),
            91..94 => self.claim(),
            94..95 => self.release_partition(),
            95..97 => self.add(None, b"{\"user\":".to_vec()),
            _ => self.add(Some("1 reserve 0 0000000000000001 1".to_owned()), b"[]".to_vec()),
        }
    }

    fn add(&mut self, header: Option<String>, payload: Vec<u8>) -> Owned {
        let offset = self.offset;
        // Ends of transactions take offsets, too.
        self.offset += 1 + u64::from(self.random.below(20) == 0);
        let back = if self.random.below(30) == 0 { self.random.below(5_000) } else { 0 };
        Owned { offset, appended: TsMs(self.appended - back), header, payload }
    }

    fn command(&mut self, epoch: Option<u64>, command: &Command) -> Owned {
        self.request += 1;
        let head = Head { epoch: epoch.map(Epoch), run: RunId(1 + self.random.below(3)), request: self.request };
        let encoded = encode(head, command);
        self.add(Some(encoded.header), encoded.payload)
    }

    /// Mostly the owner's.
    fn epoch(&mut self) -> Option<u64> {
        let claims = self.claims.len() as u64;
        let back = if self.random.below(6) == 0 { self.random.below(claims) } else { 0 };
        self.claims.get((claims - 1 - back) as usize).copied()
    }

    fn user(&mut self) -> String {
        let users = ["u1", "u2", "u3", "u4", "u5", "null"];
        self.random.one_of(&users).to_owned()
    }

    fn event(&mut self) -> Owned {
        let mut event = json!({"user": self.user(), "da": self.random.one_of(&["a", "b", "c"])});
        if self.random.below(2) == 0 {
            event["id"] = json!(format!("e{}", self.random.below(40)));
        }
        if self.random.below(3) == 0 {
            let (back, ahead) = (self.random.below(9 * DAY), self.random.below(120_000));
            event["ts"] = json!(if self.random.below(4) == 0 { self.appended + ahead } else { self.appended - back });
        }
        if self.random.below(3) == 0 {
            event["keys"] = json!([self.random.one_of(&["campaign:1", "campaign:2"])]);
        }
        if self.random.below(5) == 0 {
            event["kind"] = json!("click");
        }
        self.add(None, event.to_string().into_bytes())
    }

    fn id(&mut self) -> EventId<'static> {
        EventId::new(format!("e{}", self.random.below(40))).unwrap()
    }

    fn reserve(&mut self) -> Owned {
        let candidates = ["a", "b", "c"].map(|da| Candidate {
            da: DaId::new(da).unwrap(),
            keys: [CapKey::extra(self.random.one_of(&["campaign:1", "campaign:2"])).unwrap()].into_iter().collect(),
        });
        let call = Reserve {
            user: UserId::new(self.user()).unwrap(),
            candidates: candidates.into_iter().collect(),
            want: 1 + self.random.below(2) as usize,
            ttl_ms: self.random.one_of(&[None, Some(1_000), Some(60_000), Some(15 * 60_000)]),
            id: self.id(),
            body_hash: self.random.one_of(&[None, Some(1), Some(2)]),
            kind: Kind::IMPRESSION,
        };
        let epoch = self.epoch();
        self.command(epoch, &Command::Reserve(call))
    }

    fn release(&mut self) -> Owned {
        let da = self.random.one_of(&[None, Some("a")]).map(|da| DaId::new(da).unwrap());
        let call = ReleaseReservation { user: UserId::new(self.user()).unwrap(), id: self.id(), da };
        let epoch = self.epoch();
        self.command(epoch, &Command::ReleaseReservation(call))
    }

    fn erase(&mut self) -> Owned {
        let call = EraseUser { user: UserId::new(self.user()).unwrap(), by: ChangedBy::default() };
        let epoch = self.epoch();
        self.command(epoch, &Command::Erase(call))
    }

    fn policy(&mut self) -> Owned {
        self.revision += self.random.below(3);
        let revision = self.revision - self.random.below(self.revision.min(2));
        let history_limit = self.random.one_of(&[2, 8, 256]);
        let limit = 1 + self.random.below(4);
        let policy = policy(revision, history_limit, limit, self.random.one_of(&["1h", "2d", "20d"]));
        let epoch = self.epoch();
        self.command(epoch, &Command::Policy(policy))
    }

    fn claim(&mut self) -> Owned {
        self.claims.push(self.offset);
        self.command(None, &Command::Claim(Claim { node: "n".to_owned(), url: "http://n:1".to_owned() }))
    }

    fn release_partition(&mut self) -> Owned {
        let epoch = self.epoch();
        self.command(epoch, &Command::Release)
    }
}

#[test]
fn two_units_that_applied_the_same_log_are_the_same_whatever_happened_on_the_way() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    let (mut logs, mut calls) = (0, 0);
    for seed in 1..=6 {
        let log = LogMaker::make(seed, 600);
        let mut random = Random(seed ^ 0xabcd);
        // One record at a time, without a stop.
        let mut steady = Unit::new();
        // Chunks of any size, with stops and kills.
        let mut shaken = Unit::new();
        let mut at = 0;
        let mut effects = BTreeMap::new();
        while at < log.len() {
            let to = (at + 1 + random.below(120) as usize).min(log.len());
            for record in &log[at..to] {
                let applied = steady.apply(std::slice::from_ref(record));
                effects.extend(applied.into_iter().map(|applied| (applied.offset, applied)));
            }
            shake(&mut random, &mut shaken, &log[..to], &effects);
            let digest = steady.digest();
            assert_eq!(shaken.digest(), digest, "seed {seed} at offset {}", log[to - 1].offset);
            (logs, calls) = (logs.max(digest.logs), calls.max(digest.calls));
            assert_eq!(shaken.replica.position(), steady.replica.position(), "seed {seed}");
            shaken = match random.below(3) {
                0 => shaken.stopped_and_started(),
                1 => shaken.killed_and_started(),
                _ => shaken,
            };
            at = to;
        }
        effects.values().for_each(|applied| *seen.entry(kind(&applied.effect)).or_default() += 1);
        steady.end();
        shaken.end();
    }
    // It was a log with everything in it, and the digests had something to compare.
    assert!(logs > 10 && calls > 5, "{logs} logs, {calls} calls");
    for kind in KINDS {
        assert!(seen.get(kind).is_some_and(|count| *count >= 3), "{kind}: {seen:?}");
    }
}

/// Applies what is left up to the end in pieces, some of them twice, and compares what the records did.
fn shake(random: &mut Random, unit: &mut Unit, log: &[Owned], effects: &BTreeMap<u64, Applied>) {
    while let Some(first) = log.iter().position(|record| record.offset >= unit.replica.position().next) {
        // It may be given what it has already.
        let from = first - (random.below(8) as usize).min(first);
        let to = (first + 1 + random.below(30) as usize).min(log.len());
        for applied in unit.apply(&log[from..to]) {
            assert_eq!(Some(&applied), effects.get(&applied.offset));
        }
    }
}

const KINDS: [&str; 17] = [
    "counted",
    "duplicate",
    "late",
    "erased",
    "ignored",
    "in_future",
    "reserve",
    "id_reused",
    "released",
    "erase",
    "claim",
    "release",
    "policy",
    "void",
    "unreadable",
    "capped",
    "nothing_released",
];

fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Done(LogOutcome::Counted) => "counted",
        Effect::Done(LogOutcome::Duplicate) => "duplicate",
        Effect::Done(LogOutcome::Late) => "late",
        Effect::Done(LogOutcome::Erased) => "erased",
        Effect::Done(LogOutcome::Ignored) => "ignored",
        Effect::Done(LogOutcome::InFuture) => "in_future",
        Effect::Done(LogOutcome::Reserve(ReserveOutcome::IdReused)) => "id_reused",
        Effect::Done(LogOutcome::Reserve(ReserveOutcome::Answer(answer))) if contains(answer, b"capped_until") => {
            "capped"
        }
        Effect::Done(LogOutcome::Reserve(_)) => "reserve",
        Effect::Done(LogOutcome::Released(0)) => "nothing_released",
        Effect::Done(LogOutcome::Released(_)) => "released",
        Effect::Done(LogOutcome::TooManyKinds | LogOutcome::Elsewhere) => "other",
        Effect::Erased(_) => "erase",
        Effect::Claimed(..) => "claim",
        Effect::Released => "release",
        Effect::Policy(_) => "policy",
        Effect::Void => "void",
        Effect::Unreadable(_) => "unreadable",
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_digest_tells_units_apart_that_differ_in_one_event() {
    let log = LogMaker::make(1, 200);
    let mut other = log.clone();
    let last = log.last().unwrap();
    let event =
        |offset| Owned { offset, appended: last.appended, header: None, payload: br#"{"user":"x","da":"a"}"#.to_vec() };
    other.push(event(last.offset + 10));
    let (mut one, mut two) = (Unit::new(), Unit::new());
    one.apply(&log);
    two.apply(&other);
    assert_ne!(one.digest(), two.digest());
    one.apply(&[event(last.offset + 10)]);
    assert_eq!(one.digest(), two.digest());
    one.end();
    two.end();
}

#[test]
fn a_command_of_a_newer_version_or_engine_stops_the_unit_where_it_is() {
    let mut unit = Unit::new();
    let event = Owned { offset: 0, appended: TsMs(NOW), header: None, payload: br#"{"user":"u","da":"a"}"#.to_vec() };
    unit.apply(std::slice::from_ref(&event));
    let newer = Owned { offset: 1, header: Some("2 whatever".to_owned()), ..event.clone() };
    let error = unit.replica.apply(&[newer.borrowed()]).unwrap_err();
    assert!(matches!(error, ReplicaError::Record(RecordError::Newer { version: 2 })), "{error}");
    let engine = Policy { engine: super::policy::ENGINE + 1, ..policy(9, 256, 3, "2d") };
    let encoded = encode(Head { epoch: Some(Epoch(0)), run: RunId(1), request: 1 }, &Command::Policy(engine));
    let newer = Owned { offset: 1, header: Some(encoded.header), payload: encoded.payload, ..event };
    let error = unit.replica.apply(&[newer.borrowed()]).unwrap_err();
    assert!(error.to_string().starts_with("cluster_engine_newer"), "{error}");
    let unit = unit.stopped_and_started();
    assert_eq!((unit.replica.position().next, unit.digest().logs), (1, 1));
    assert!(unit.replica.check_reach(1).is_ok());
    let gap = unit.replica.check_reach(2).unwrap_err();
    assert!(gap.to_string().starts_with("cluster_log_gap"), "{gap}");
    unit.end();
}

#[test]
fn a_slot_is_granted_once_however_many_believe_to_be_the_owner() {
    let mut unit = Unit::new();
    let mut maker =
        LogMaker { random: Random(1), offset: 0, appended: NOW, claims: Vec::new(), revision: 1, request: 0 };
    let mut log = vec![maker.claim(), maker.claim()];
    let (old, new) = (maker.claims[0], maker.claims[1]);
    for number in 0..20 {
        let call = Reserve {
            user: UserId::new("u").unwrap(),
            candidates: vec![Candidate { da: DaId::new("a").unwrap(), keys: Default::default() }],
            want: 1,
            ttl_ms: Some(60_000),
            id: EventId::new(format!("call-{number}")).unwrap(),
            body_hash: Some(number),
            kind: Kind::IMPRESSION,
        };
        let epoch = if number % 2 == 0 { old } else { new };
        log.push(maker.command(Some(epoch), &Command::Reserve(call)));
    }
    let effects: Vec<_> = unit.apply(&log).into_iter().map(|applied| applied.effect).collect();
    let granted = effects.iter().filter(|effect| match effect {
        Effect::Done(LogOutcome::Reserve(ReserveOutcome::Answer(answer))) => contains(answer, b"\"reserved\":[{"),
        _ => false,
    });
    // The limit is 3, and the calls of the owner before are void.
    assert_eq!(granted.count(), 3, "{effects:?}");
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Void).count(), 10);
    unit.end();
}
