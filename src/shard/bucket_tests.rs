//! Answers that wait for the bucket, where the test says what the bucket has.

use super::*;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::*;
use crate::settings::Defaults;
use crate::store::{Durability, StorageKind, Store, StoreOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Running {
    store: Arc<Store>,
    shards: Shards,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start(bucket_wait: Duration) -> Self {
        let (storage, durability) = (StorageKind::Memory, Durability::Bucket);
        let options = StoreOptions { storage, durability, bucket_wait, keep_changes: true, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&options).unwrap());
        let rule = Rule {
            id: RuleId::new("day").unwrap(),
            key: KeyPattern::new("da:*").unwrap(),
            kind: Kind::IMPRESSION,
            limit: Some(1),
            window: Window::Rolling("24h".parse().unwrap()),
            mode: Mode::Enforce,
        };
        let base = Policy::new(RuleSet::new([]), 256, 86_400_000, 400 * 86_400_000, 60_000);
        let defaults = Settings::read(&Defaults).unwrap().options(64 << 20);
        let options = Options { writers: 2, min_free_disk: 0, ..defaults };
        let rules = vec![(rule, Source::File)];
        let shards = Shards::start(store.clone(), &base, rules, Clock::system(), &options).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        Self { store, shards, runtime }
    }

    /// Begins to count an event.
    fn send(&self, user: &str) -> tokio::task::JoinHandle<Counted> {
        let router = self.shards.router().clone();
        let mut batch = router.builder();
        let event = Event {
            user: UserId::new(user).unwrap(),
            da: DaId::new("a").unwrap(),
            ts: None,
            id: Some(EventId::new("e").unwrap()),
            kind: Kind::IMPRESSION,
            keys: [].into_iter().collect(),
        };
        batch.push(0, &event).unwrap();
        self.runtime.spawn(async move { router.count(batch).await })
    }

    fn answer(&self, sent: tokio::task::JoinHandle<Counted>) -> Counted {
        self.runtime.block_on(sent).unwrap()
    }

    /// Whether a read sees the event.
    fn is_visible(&self, user: &str) -> bool {
        let row_key = crate::store::RowKey::new(&UserId::new(user).unwrap(), &CapKey::new("da:a").unwrap());
        self.store.logs().get_many([row_key.as_bytes()]).unwrap()[0].is_some()
    }

    /// The bucket has all that was written.
    fn ship(&self) {
        self.store.shipped().advance(self.store.ship_now());
    }

    /// The answer of somebody for whom the bucket is there.
    fn answer_shipped(&self, sent: tokio::task::JoinHandle<Counted>) -> Counted {
        self.wait_for("an answer", |running| {
            running.ship();
            sent.is_finished()
        });
        self.answer(sent)
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[test]
fn an_answer_comes_once_the_bucket_has_the_write_and_reads_see_it_before() {
    let running = Running::start(Duration::from_secs(600));
    let sent = running.send("u");
    running.wait_for("the write", |running| running.is_visible("u"));
    assert!(!sent.is_finished());
    assert_eq!(running.answer_shipped(sent).counted, 1);
    let (one, two) = (running.send("v"), running.send("w"));
    running.wait_for("the writes", |running| running.is_visible("v") && running.is_visible("w"));
    assert!(!one.is_finished() && !two.is_finished());
    assert_eq!((running.answer_shipped(one).counted, running.answer_shipped(two).counted), (1, 1));
    running.shards.stop().unwrap();
}

#[test]
fn a_bucket_that_is_late_refuses_who_waits_and_who_comes_until_it_has_everything() {
    let running = Running::start(Duration::from_millis(1_500));
    let health = running.shards.router().health().clone();
    let refused = running.answer(running.send("u"));
    assert_eq!((refused.counted, refused.unavailable, refused.refusal), (0, 1, Some(Refusal::BucketLate)));
    assert_eq!(health.refusal(), Some(Refusal::BucketLate));
    // Nothing of this one is written.
    assert_eq!(running.answer(running.send("v")).refusal, Some(Refusal::BucketLate));
    assert!(running.is_visible("u") && !running.is_visible("v"));
    running.wait_for("events to be taken again", |running| {
        running.ship();
        health.refusal().is_none()
    });
    // Repeated, it is known, and that is said once the bucket has it.
    assert_eq!(running.answer_shipped(running.send("u")).duplicate, 1);
    assert_eq!(running.answer_shipped(running.send("v")).counted, 1);
    running.shards.stop().unwrap();
}

/// Redis must not have what the bucket has not.
#[test]
fn caps_are_told_once_the_bucket_has_them_even_where_the_answer_was_refused() {
    let running = Running::start(Duration::from_millis(150));
    let (shard, changes) = (ShardId::of_user(b"u"), running.store.changes().clone());
    let before = changes.durable_seq(shard);
    assert_eq!(running.answer(running.send("u")).refusal, Some(Refusal::BucketLate));
    assert_eq!((changes.durable_seq(shard), changes.last_seq(shard)), (before, before + 1));
    running.wait_for("the change", |running| {
        running.ship();
        changes.durable_seq(shard) == before + 1
    });
    running.shards.stop().unwrap();
}

/// An end does not wait for a bucket that is away.
#[test]
fn the_shards_stop_while_the_bucket_is_away() {
    let running = Running::start(Duration::from_secs(600));
    let sent = running.send("u");
    running.wait_for("the write", |running| running.is_visible("u"));
    running.store.shipped().close();
    assert_eq!(running.answer(sent).refusal, Some(Refusal::BucketLate));
    running.shards.stop().unwrap();
}
