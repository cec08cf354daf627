//! Several processes on one prefix: one of them writes.

use super::store::{FakeStore, files_in};
use super::*;
use crate::bucket::Created;
use crate::bucket::faulty::{Call, Fault, Faulty};
use crate::snapshot::layout::Layout;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn of_three_who_race_for_an_epoch_each_gets_another() {
    for place in [Place::in_memory(), Place::in_directory()] {
        let takeover = WriterOptions { takeover: true, ..quick("racer") };
        let (a, b, c) = tokio::join!(
            place.acquire_as(&takeover, Local::Nothing),
            place.acquire_as(&takeover, Local::Nothing),
            place.acquire_as(&takeover, Local::Nothing),
        );
        let writers = [a.unwrap(), b.unwrap(), c.unwrap()];
        let mut epochs = writers.each_ref().map(Writer::epoch);
        epochs.sort_unstable();
        assert_eq!(epochs, [1, 2, 3]);
        for writer in &writers {
            let checked = writer.check().await;
            assert_eq!(checked.is_ok(), writer.epoch() == 3, "{checked:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_who_race_for_a_manifest_one_has_it() {
    for place in [Place::in_memory(), Place::in_directory()] {
        for round in 0..20 {
            let name = Layout::new(STANDALONE).manifest(round);
            let create = |nonce: &'static str| place.bucket.create(&name, nonce.into());
            let (a, b, c) = tokio::join!(create("a"), create("b"), create("c"));
            let found = place.bucket.get(&name, 10).await.unwrap();
            for (created, nonce) in [(a.unwrap(), "a"), (b.unwrap(), "b"), (c.unwrap(), "c")] {
                let expected = if found == nonce { Created::Ours } else { Created::Theirs(found.clone()) };
                assert_eq!(created, expected);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_writer_is_waited_for_until_it_gives_way() {
    let place = Place::in_memory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    let first = place.start(&store, &dir).await;
    // Not even when it waits longer than a lease: it is renewed.
    let impatient = WriterOptions { wait_max: Some(Duration::from_secs(2)), ..quick("two") };
    let waited = Mutex::new(Vec::new());
    let tell = |waiting| waited.lock().unwrap().push(waiting);
    let stop = CancellationToken::new();
    let held = Writer::acquire(place.catalog(), &impatient, Local::Nothing, &tell, &stop).await.unwrap_err();
    assert_eq!(held.code(), "lease_held");
    assert_eq!(waited.lock().unwrap()[0], Waiting::Lease { by: "one".to_owned(), epoch: 1 });
    // A planned stop: the last snapshot has everything, and nothing is waited for.
    store.log(b"the last");
    let patient = WriterOptions { lease: Duration::from_secs(3_600), ..quick("two") };
    let (stopped, writer) = tokio::join!(first.stop(), place.acquire_as(&patient, Local::Nothing));
    stopped.unwrap();
    let writer = writer.unwrap();
    let newest = writer.newest().unwrap().clone();
    assert_eq!((writer.epoch(), newest.epoch, newest.sequence), (2, 1, 1));
    restore(&place.catalog(), newest, &RestoreOptions::new(place.dir("copy"))).await.unwrap();
    assert_eq!(files_in(&place.dir("copy")), store.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writers_lease_runs_out() {
    let place = Place::in_directory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    place.take_once(&store, &dir).await.unwrap();
    // A copy of its directory waits for it.
    std::fs::create_dir(place.dir("copy")).unwrap();
    std::fs::copy(dir.join(MARK), place.dir("copy").join(MARK)).unwrap();
    let waited = AtomicU32::new(0);
    let (options, stop) = (quick("two"), CancellationToken::new());
    let tell = |waiting: Waiting| {
        assert_eq!(waiting, Waiting::Lease { by: "one".to_owned(), epoch: 1 });
        waited.fetch_add(1, Ordering::Relaxed);
    };
    let copy = place.dir("copy");
    let writer = Writer::acquire(place.catalog(), &options, Local::Store(&copy, "store"), &tell, &stop).await.unwrap();
    assert_eq!(writer.epoch(), 2);
    assert!(waited.load(Ordering::Relaxed) > 0);
    drop(writer);
    // So does its own directory, once another process has begun an epoch.
    let writer = Writer::acquire(place.catalog(), &options, Local::Store(&dir, "store"), &|_| {}, &stop).await.unwrap();
    writer.attach(&dir, "store").unwrap();
    drop(writer);
    // The directory's next process knows that the one before is dead.
    let tell = |waiting| panic!("nothing is to be waited for: {waiting:?}");
    let patient = WriterOptions { lease: Duration::from_secs(3_600), ..options };
    let writer = Writer::acquire(place.catalog(), &patient, Local::Store(&dir, "store"), &tell, &stop).await.unwrap();
    assert_eq!(writer.epoch(), 4);
    drop(writer);
    // Who waits may be told to stop, and a bucket that is away is waited for.
    let is_away = Arc::new(AtomicBool::new(true));
    let away = is_away.clone();
    let store =
        Faulty::new(
            Arc::new(InMemory::new()),
            move |_, _| {
                if away.load(Ordering::Relaxed) { Fault::Fail } else { Fault::None }
            },
        );
    let place = Place::on(Arc::new(store));
    let stop = CancellationToken::new();
    let tell = |waiting: Waiting| {
        assert!(matches!(waiting, Waiting::Bucket(_)), "{waiting:?}");
        is_away.store(false, Ordering::Relaxed);
    };
    let options = quick("two");
    Writer::acquire(place.catalog(), &options, Local::Nothing, &tell, &stop).await.unwrap();
    let stops = |_| stop.cancel();
    let stopped = Writer::acquire(place.catalog(), &options, Local::Nothing, &stops, &stop).await.unwrap_err();
    assert_eq!(stopped.code(), "stopping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_writer_stops_and_says_so() {
    let place = Place::in_memory();
    let store = FakeStore::new("store");
    let old = place.start(&store, &place.dir("old")).await;
    old.handle.take().await.unwrap();
    let takeover = WriterOptions { takeover: true, ..quick("two") };
    let new = place.acquire_as(&takeover, Local::Nothing).await.unwrap();
    assert_eq!((new.epoch(), new.newest().unwrap().sequence), (2, 1));
    // Its lease's task finds out by itself.
    let mut superseded = old.handle.superseded();
    let found = tokio::time::timeout(Duration::from_secs(10), superseded.wait_for(Option::is_some)).await.unwrap();
    assert_eq!(found.unwrap().clone(), Some(Newer { epoch: 2, by: "two".to_owned() }));
    let refused = old.handle.take().await.unwrap_err();
    assert_eq!(refused.code(), "superseded");
    assert!(old.handle.is_superseded());
    assert_eq!(old.task.await.unwrap().unwrap_err().code(), "superseded");
    assert_eq!(place.catalog().list().await.unwrap().len(), 1);
}

/// The old writer is stopped for a while between its last look for a newer epoch and its manifest.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stale_writer_adds_is_no_part_of_the_history() {
    let place = Arc::new(Place::in_memory());
    let store = FakeStore::new("store");
    place.start(&store, &place.dir("old")).await.stop().await.unwrap();
    // The old one reaches its manifest; then the new one begins, from the snapshot before.
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let steps = Steps::new(move |step| {
        if step == Step::BeforeManifest {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| may_go.lock().unwrap().recv().unwrap());
        }
        Ok(())
    });
    let stale = Options { steps, ..options(&place.dir("old")) };
    let stale = Running::new(place.snapshots(&store, stale).await.unwrap());
    let handle = stale.handle.clone();
    let taking = tokio::spawn(async move { handle.take().await });
    tokio::task::block_in_place(|| is_reached.recv()).unwrap();
    let takeover = WriterOptions { takeover: true, ..quick("new") };
    let writer = place.acquire_as(&takeover, Local::Nothing).await.unwrap();
    assert_eq!(writer.newest().unwrap().sequence, 1);
    go.send(()).unwrap();
    let refused = taking.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), "superseded");
    let listed = place.catalog().list().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(matches!(&listed[1].state, State::Void(details) if details.epoch == 2), "{listed:?}");
    assert_eq!(place.catalog().newest().await.unwrap().unwrap().sequence, 1);
    // The new one goes on beyond the void number.
    let into = RestoreOptions { epoch: writer.epoch(), ..RestoreOptions::new(place.dir("new")) };
    restore(&place.catalog(), writer.newest().unwrap().clone(), &into).await.unwrap();
    writer.attach(&place.dir("new"), "store").unwrap();
    let snapshots = Snapshots::new(writer, Arc::new(store.clone()), options(&place.dir("new"))).unwrap();
    Running::new(snapshots).stop().await.unwrap();
    let newest = place.catalog().newest().await.unwrap().unwrap();
    assert_eq!((newest.sequence, newest.epoch), (3, 3));
    stale.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_the_bucket_has_overtaken_is_refused() {
    let place = Place::in_memory();
    let store = FakeStore::new("store");
    let (old, new) = (place.dir("old"), place.dir("new"));
    place.start(&store, &old).await.stop().await.unwrap();
    // Its own snapshot is no reason to refuse it.
    place.start(&store, &old).await.stop().await.unwrap();
    // A copy of the directory that missed a snapshot of the same epoch is behind, too.
    std::fs::create_dir(place.dir("copy")).unwrap();
    std::fs::copy(old.join(MARK), place.dir("copy").join(MARK)).unwrap();
    let running = place.start(&store, &old).await;
    running.handle.take().await.unwrap();
    running.stop().await.unwrap();
    let refused = place.acquire(Local::Store(&place.dir("copy"), "store")).await.unwrap_err();
    assert_eq!(refused.code(), "data_dir_superseded");
    // Another instance, on another disk.
    let writer = place.acquire(Local::Nothing).await.unwrap();
    restore(&place.catalog(), writer.newest().unwrap().clone(), &RestoreOptions::new(new.clone())).await.unwrap();
    writer.attach(&new, "store").unwrap();
    let snapshots = Snapshots::new(writer, Arc::new(store.clone()), options(&new)).unwrap();
    Running::new(snapshots).stop().await.unwrap();
    let refused = place.acquire(Local::Store(&old, "store")).await.unwrap_err();
    assert_eq!(refused.code(), "data_dir_superseded");
    assert!(refused.to_string().contains("epoch 4"), "{refused}");
    // Whoever is refused begins no epoch, and the store of another prefix is refused by name.
    assert_eq!(place.catalog().newest_claim().await.unwrap().unwrap().0.epoch, 4);
    let refused = place.acquire(Local::Store(&place.dir("none"), "another")).await.unwrap_err();
    assert_eq!(refused.code(), "snapshots_of_another_store");
    let writer = place.acquire(Local::Nothing).await.unwrap();
    std::fs::create_dir(place.dir("none")).unwrap();
    assert_eq!(writer.attach(&place.dir("none"), "another").unwrap_err().code(), "snapshots_of_another_store");
}

/// An answer may be lost after the manifest was written: it is not written twice, and the directory knows it as its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_neither_doubles_a_snapshot_nor_locks_a_directory_out() {
    let creates = AtomicU32::new(0);
    let rule = move |call, path: &str| match call {
        Call::Create if path.contains("/m/") && creates.fetch_add(1, Ordering::Relaxed) == 0 => Fault::LoseAnswer,
        _ => Fault::None,
    };
    let place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    assert_eq!(place.take_once(&store, &dir).await.unwrap().sequence, 1);
    assert_eq!(place.catalog().list().await.unwrap().len(), 1);
    // Killed between the manifest and the mark.
    let steps = Steps::new(|step| match step {
        Step::ManifestWritten => Err(SnapshotError::Internal("killed".to_owned())),
        _ => Ok(()),
    });
    let killed = Running::new(place.snapshots(&store, Options { steps, ..options(&dir) }).await.unwrap());
    killed.handle.take().await.unwrap_err();
    killed.kill().await;
    let running = place.start(&store, &dir).await;
    assert_eq!(running.handle.take().await.unwrap().sequence, 3);
    running.stop().await.unwrap();
}
