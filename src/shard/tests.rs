//! What only the inside can set up: rows that compaction took, a clock of our own.

use super::*;
use crate::clock::Clock;
use crate::engine::{Policy, plan_cap};
use crate::model::*;
use crate::settings::Defaults;
use crate::store::{ChangedBy, RowKey, Store, StoreOptions};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const DAY: u64 = 86_400_000;
const NOW: u64 = 1_732_233_600_000;

struct Running {
    store: Arc<Store>,
    shards: Shards,
    runtime: tokio::runtime::Runtime,
}

fn rule(id: &str, limit: u64, window: &str) -> Rule {
    Rule {
        id: RuleId::new(id).unwrap(),
        key: KeyPattern::new("da:*").unwrap(),
        kind: Kind::IMPRESSION,
        limit: Some(limit),
        window: Window::Rolling(window.parse().unwrap()),
        mode: Mode::Enforce,
    }
}

fn event(user: &str, ts: u64) -> Event<'_> {
    Event {
        user: UserId::new(user).unwrap(),
        da: DaId::new("a").unwrap(),
        ts: Some(TsMs(ts)),
        id: None,
        kind: Kind::IMPRESSION,
        keys: [].into_iter().collect(),
    }
}

impl Running {
    fn start(dir: &std::path::Path, rules: &[Rule], clock: &Arc<AtomicU64>) -> Self {
        let options = StoreOptions { data_dir: dir.to_owned(), keep_changes: true, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&options).unwrap());
        let base = Policy::new(RuleSet::new([]), 256, 7 * DAY, 400 * DAY, 60_000);
        let rules = rules.iter().map(|rule| (rule.clone(), Source::File)).collect();
        let defaults = Settings::read(&Defaults).unwrap().options(64 << 20);
        let options = Options { writers: 2, min_free_disk: 0, ..defaults };
        let shards = Shards::start(store.clone(), &base, rules, Clock::manual(clock.clone()), &options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store, shards, runtime }
    }

    fn count(&self, user: &str, ts: u64) -> usize {
        let mut block = self.shards.router().builder();
        block.push(0, &event(user, ts)).unwrap();
        self.runtime.block_on(self.shards.router().count(block)).counted
    }

    fn erase(&self, user: &str) -> u64 {
        self.runtime
            .block_on(self.shards.router().erase(&UserId::new(user).unwrap(), ChangedBy::default()))
            .unwrap()
            .until
            .0
    }

    /// Whether the caps of every shard are judged by the rules in force.
    fn is_judged(&self) -> bool {
        let mark = self.store.rules().in_force().unwrap().unwrap().revision;
        ShardId::all().all(|shard| self.store.meta().rules_revision(shard).unwrap() == Some(mark))
    }

    fn caps(&self) -> usize {
        self.store.caps().after(None, 10_000).unwrap().caps.len()
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(30), "waited for {what}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn stop(self) {
        self.shards.stop().unwrap();
    }
}

#[test]
fn a_cap_whose_log_compaction_took_ends_with_the_rule_that_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let running = Running::start(dir.path(), &[rule("month", 1, "30d")], &clock);
    let users: Vec<String> = (0..600).map(|n| format!("u{n}")).collect();
    for user in &users {
        assert_eq!(running.count(user, NOW - 10 * DAY), 1);
    }
    assert_eq!(running.caps(), 600);
    // Without the rule the logs are void; before anybody comes to judge them, compaction may take them.
    let mut commit = running.store.begin_commit();
    for user in users.iter().step_by(2) {
        let row_key = RowKey::new(&UserId::new(user.as_str()).unwrap(), &CapKey::new("da:a").unwrap());
        commit.put_log(row_key.as_bytes(), &Log::empty(), false);
    }
    commit.write().unwrap();
    running.stop();
    let running = Running::start(dir.path(), &[], &clock);
    running.wait_for("no cap to be held any more", |running| running.caps() == 0);
    let timers = ShardId::all().filter(|shard| running.store.due().first(*shard).unwrap().is_some());
    assert_eq!(timers.count(), 0);
    running.stop();
}

#[test]
fn rules_that_change_without_end_keep_no_shard_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let running = Running::start(dir.path(), &[], &clock);
    let users: Vec<String> = (0..2_000).map(|n| format!("u{n}")).collect();
    for user in &users {
        assert_eq!(running.count(user, NOW - 1), 1);
    }
    let (book, router) = (running.shards.rulebook(), running.shards.router());
    let (_, first) = book.put(rule("first", 1, "1d"), &Precondition::Anything, ChangedBy::default(), router).unwrap();
    assert!(first.done < first.total);
    let changes = std::cell::Cell::new(0u64);
    running.wait_for("every shard to be judged by the first rule", |running| {
        changes.set(changes.get() + 1);
        book.put(rule("other", 100 + changes.get() % 2, "1d"), &Precondition::Anything, ChangedBy::default(), router)
            .unwrap();
        running.caps() == users.len()
    });
    assert!(changes.get() > 1, "it was all done at once");
    running.stop();
}

#[test]
fn rules_that_change_without_end_keep_no_large_shard_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let running = Running::start(dir.path(), &[], &clock);
    let ads: Vec<String> = (0..30_000).map(|n| format!("a{n}")).collect();
    for some in ads.chunks(5_000) {
        let mut block = running.shards.router().builder();
        for ad in some {
            block.push(0, &Event { da: DaId::new(ad.as_str()).unwrap(), ..event("u", NOW - 1) }).unwrap();
        }
        assert_eq!(running.runtime.block_on(running.shards.router().count(block)).counted, some.len());
    }
    let (book, router) = (running.shards.rulebook(), running.shards.router());
    let (_, first) = book.put(rule("first", 1, "1d"), &Precondition::Anything, ChangedBy::default(), router).unwrap();
    assert!(first.done < first.total);
    let changes = std::cell::Cell::new(0u64);
    running.wait_for("every shard to be judged by the first rule", |running| {
        changes.set(changes.get() + 1);
        book.put(rule("other", 100 + changes.get() % 2, "1d"), &Precondition::Anything, ChangedBy::default(), router)
            .unwrap();
        let first = book.get("first").unwrap();
        running.store.caps().after(None, 100_000).unwrap().caps.len() == ads.len() && first.done > 0
    });
    assert!(changes.get() > 1, "it was all done at once");
    // And without another change all is judged by the newest.
    running.wait_for("every shard to be judged by the last rule", Running::is_judged);
    running.stop();
}

#[test]
fn caps_are_judged_anew_where_that_is_asked_for_and_a_restart_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let rules = [rule("day", 1, "1d")];
    let mut running = Running::start(dir.path(), &rules, &clock);
    let users: Vec<String> = (0..600).map(|n| format!("u{n}")).collect();
    for user in &users {
        assert_eq!(running.count(user, NOW - 1), 1);
    }
    for restart in [false, true] {
        running.wait_for("all to be judged", Running::is_judged);
        // As if a clock that was days ahead had ended them all.
        let mut commit = running.store.begin_commit();
        for user in &users {
            let row_key = RowKey::new(&UserId::new(user.as_str()).unwrap(), &CapKey::new("da:a").unwrap());
            let held = running.store.caps().get_many(std::iter::once(row_key.as_bytes()), &mut Vec::new())[0];
            commit.put_cap(row_key.as_bytes(), &plan_cap(held, None, false), TsMs(NOW));
        }
        commit.write().unwrap();
        assert_eq!(running.caps(), 0);
        running.shards.rulebook().judge_anew().unwrap();
        if restart {
            running.stop();
            running = Running::start(dir.path(), &rules, &clock);
        }
        running.wait_for("every cap to be back", |running| running.caps() == users.len());
    }
    running.stop();
}

#[test]
fn a_log_that_holds_more_kinds_than_it_may_is_read_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &[rule("day", 2, "1d")], &Arc::new(AtomicU64::new(NOW)));
    let (user, kind) = (UserId::new("u").unwrap(), |n: usize| Kind::new(&format!("k{n}")).unwrap());
    let row_key = RowKey::new(&user, &CapKey::new("da:a").unwrap());
    let mut log = Log::default();
    log.insert(Kind::IMPRESSION, Entry { ts: TsMs(NOW - 2), hash: 0 }, 256);
    (0..20).for_each(|n| _ = log.insert(kind(n), Entry { ts: TsMs(NOW - 2), hash: 0 }, 256));
    let mut commit = running.store.begin_commit();
    commit.put_log(row_key.as_bytes(), &log, false);
    commit.write().unwrap();
    let count = |kind| {
        let mut block = running.shards.router().builder();
        block.push(7, &Event { kind, ..event("u", NOW - 1) }).unwrap();
        running.runtime.block_on(running.shards.router().count(block))
    };
    assert_eq!((count(kind(19)).counted, count(Kind::IMPRESSION).counted), (1, 1));
    let refused = count(kind(20));
    assert_eq!((refused.counted, refused.too_many_kinds), (0, vec![7]));
    let candidate = Candidate { da: DaId::new("a").unwrap(), keys: Default::default(), catalogue: true };
    let read = running.shards.reader().ad(&user, &candidate, Default::default(), crate::store::Unbounded);
    let verdict = running.runtime.block_on(read).unwrap();
    assert_eq!((verdict.0.count, verdict.0.capped), (2, true));
    running.stop();
}

#[test]
fn an_erasure_after_the_clock_stepped_back_takes_back_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let running = Running::start(dir.path(), &[], &clock);
    running.count("u", NOW);
    clock.store(NOW - 600_000, std::sync::atomic::Ordering::Relaxed);
    // The step is not believed: the shards go on from where they were.
    let first = running.erase("u");
    let second = running.erase("u");
    assert!(NOW <= first && first <= second, "{first} {second}");
    clock.store(second + 1_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!((running.count("u", second), running.count("u", second + 1)), (0, 1));
    running.stop();
}
