//! What consumers of the change log are promised.

use super::*;
use crate::model::{CapKey, CapPlan, CapRow, TsMs, UserId};
use crate::store::{RowKey, Store, StoreOptions};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const ROOMY: Bounds = Bounds { total: 1_000, of_shard: 1_000 };

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(&StoreOptions { data_dir: dir.path().to_owned(), keep_changes: true, ..StoreOptions::default() })
        .unwrap()
}

/// Makes a change of the user's cap, and returns the shard.
fn change(store: &Store) -> ShardId {
    let row_key = RowKey::new(&UserId::new("u1").unwrap(), &CapKey::new("da:1").unwrap());
    let row = Some(CapRow { until: TsMs(2), due: TsMs(2), began: None });
    let mut commit = store.begin_commit();
    commit.put_cap(
        row_key.as_bytes(),
        &CapPlan { row, row_changes: true, notify: true, ..CapPlan::default() },
        TsMs(1),
    );
    store.changes().publish(commit.write().unwrap());
    ShardId(row_key.as_bytes()[0])
}

fn seqs(store: &Store, shard: ShardId) -> Vec<u64> {
    store.changes().after(shard, store.changes().trimmed_to(shard), 100).unwrap().iter().map(|it| it.seq).collect()
}

#[test]
fn changes_go_once_every_consumer_has_acknowledged_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let shard = (0..5).map(|_| change(&store)).last().unwrap();
    store.changes().trim().unwrap();
    assert_eq!(seqs(&store, shard), [1, 2, 3, 4, 5], "nobody has subscribed");
    let (one, other) = (store.changes().subscribe("one", ROOMY), store.changes().subscribe("other", ROOMY));
    one.ack(shard, 4);
    store.changes().trim().unwrap();
    assert_eq!(seqs(&store, shard), [1, 2, 3, 4, 5], "the other wants them all");
    other.ack(shard, 2);
    store.changes().trim().unwrap();
    assert_eq!((seqs(&store, shard), one.trimmed_to(shard)), (vec![3, 4, 5], 2));
    // Who has left wants nothing.
    drop(other);
    store.changes().trim().unwrap();
    assert_eq!(seqs(&store, shard), [5]);
    // Who comes later wants what is there.
    let late = store.changes().subscribe("late", ROOMY);
    one.ack(shard, 5);
    store.changes().trim().unwrap();
    assert_eq!((seqs(&store, shard), late.trimmed_to(shard)), (vec![5], 4));
}

#[test]
fn a_consumer_for_which_too_much_waits_lags_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (slow, quick) =
        (store.changes().subscribe("slow", Bounds { total: 3, ..ROOMY }), store.changes().subscribe("quick", ROOMY));
    let shard = (0..3).map(|_| change(&store)).last().unwrap();
    store.changes().trim().unwrap();
    assert_eq!(slow.trimmed_to(shard), 0, "within its bounds");
    change(&store);
    quick.ack(shard, 1);
    store.changes().trim().unwrap();
    assert_eq!((slow.trimmed_to(shard), quick.trimmed_to(shard)), (4, 1));
    assert_eq!(seqs(&store, shard), [2, 3, 4], "the quick one has not had them yet");
    // It began anew, and follows again.
    slow.advance(shard, 4);
    change(&store);
    quick.ack(shard, 5);
    store.changes().trim().unwrap();
    assert_eq!((slow.trimmed_to(shard), seqs(&store, shard)), (4, vec![5]));
}

#[test]
fn what_a_consumer_has_confirmed_is_known_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let shard = change(&store);
    assert!(store.is_mirrored(shard, 1), "there is no mirror");
    let mirror = store.changes().subscribe(crate::store::MIRROR, ROOMY);
    assert!(!store.is_mirrored(shard, 1));
    mirror.confirm(shard, 1, None);
    assert!(store.is_mirrored(shard, 1) && !store.is_mirrored(shard, 2));
    drop(mirror);
    assert!(store.is_mirrored(shard, 2));
}

/// A thread and a task, each woken by each change.
#[test]
fn every_consumer_is_woken_by_what_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let long = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut of_thread, mut of_task) = (store.changes().subscribe("a", ROOMY), store.changes().subscribe("b", ROOMY));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            for _ in 0..20 {
                of_thread.wait(long);
                runtime.block_on(async { tokio::time::timeout(long, of_task.changed()).await }).unwrap();
            }
            assert!(start.elapsed() < long, "it was not woken");
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            change(&store);
        }
    });
}
