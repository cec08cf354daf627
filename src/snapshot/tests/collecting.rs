//! What is removed, and what is left by a process that died.

use super::store::{FakeStore, files_in};
use super::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Everything in the bucket but claims and leases.
async fn objects(place: &Place) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["p-000/f", "p-000/w", "probe"] {
        found.extend(place.bucket.list(folder).await.unwrap().into_iter().map(|object| object.name));
    }
    found
}

async fn named(place: &Place) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for summary in place.catalog().list().await.unwrap() {
        named.extend(place.catalog().read(summary.sequence).await.unwrap().objects().map(str::to_owned));
    }
    named
}

fn at_once(dir: &Path) -> Options {
    Options { keep: Duration::ZERO, unnamed: Duration::ZERO, collect_every: Duration::ZERO, ..options(dir) }
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(std::time::Instant::now() < deadline, "the condition does not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_collection_there_is_what_the_manifests_name() {
    for place in [Place::in_memory(), Place::in_directory()] {
        let (store, dir) = (FakeStore::new("store"), place.dir("data"));
        for round in 0..4 {
            let table = store.table(1_000 + round);
            store.log(b"row");
            place.take_once(&store, &dir).await.unwrap();
            store.remove(&table);
        }
        store.table(50);
        // What an upload left that came to nothing, and a probe.
        place.bucket.put("p-000/f/0000000001-000999.sst", "garbage".into()).await.unwrap();
        place.bucket.put("probe/old", "garbage".into()).await.unwrap();
        assert_eq!(place.catalog().list().await.unwrap().len(), 4);
        let running = Running::new(place.snapshots(&store, at_once(&dir)).await.unwrap());
        until(async || {
            running.handle.take().await.unwrap();
            let claims = place.catalog().claims().await.unwrap();
            place.catalog().list().await.unwrap().len() <= 2 && claims.len() == 1
        })
        .await;
        let newest = running.handle.list().await.unwrap().pop().unwrap();
        running.kill().await;
        // What is kept is whole.
        let manifest = place.catalog().read(newest.sequence).await.unwrap();
        restore(&place.catalog(), manifest, &RestoreOptions::new(place.dir("copy"))).await.unwrap();
        assert_eq!(files_in(&place.dir("copy")), store.files());
        // Nothing is under way any more: now it is exact, and doing it again changes nothing.
        let running = Running::new(place.snapshots(&store, at_once(&dir)).await.unwrap());
        running.handle.take().await.unwrap();
        until(async || {
            let one = place.catalog().list().await.unwrap().len() == 1;
            one && objects(&place).await == named(&place).await
        })
        .await;
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn young_objects_and_manifests_stay() {
    let place = Place::in_memory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    let garbage = "p-000/f/0000000001-000999.sst";
    place.bucket.put(garbage, "of another upload under way".into()).await.unwrap();
    let options = Options { collect_every: Duration::ZERO, ..options(&dir) };
    let running = Running::new(place.snapshots(&store, options).await.unwrap());
    for _ in 0..3 {
        running.handle.take().await.unwrap();
    }
    running.stop().await.unwrap();
    assert_eq!(place.catalog().list().await.unwrap().len(), 4);
    assert!(place.bucket.head(garbage).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_while_a_manifest_that_stays_cannot_be_read() {
    let place = Place::in_memory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    place.take_once(&store, &dir).await.unwrap();
    let object = place.catalog().read(1).await.unwrap().objects().next().unwrap().to_owned();
    let running = Running::new(
        place.snapshots(&store, Options { keep: Duration::from_secs(60), ..at_once(&dir) }).await.unwrap(),
    );
    place.bucket.put("p-000/m/00000000000000000001.json.zst", "torn".into()).await.unwrap();
    for name in store.files().keys() {
        store.remove(name);
    }
    for _ in 0..3 {
        running.handle.take().await.unwrap();
    }
    running.stop().await.unwrap();
    assert!(place.bucket.head(&object).await.is_ok());
}

/// Killed at each step in turn, the newest snapshot is whole, and the next process takes another.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_it_dies_at_there_is_a_whole_snapshot() {
    let place = Place::in_memory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    store.table(2_000);
    place.take_once(&store, &dir).await.unwrap();
    let mut states = vec![store.files()];
    for at in 0..24 {
        let old = store.table(1_000);
        store.table(100);
        store.log(b"row");
        states.push(store.files());
        let (count, is_dead) = (AtomicU32::new(0), Arc::new(AtomicBool::new(false)));
        let dead = is_dead.clone();
        let steps = Steps::new(move |_| {
            // A dead process does nothing more.
            if dead.load(Ordering::Relaxed) || count.fetch_add(1, Ordering::Relaxed) == at {
                dead.store(true, Ordering::Relaxed);
                return Err(SnapshotError::Internal("killed".to_owned()));
            }
            Ok(())
        });
        let running = Running::new(place.snapshots(&store, Options { steps, ..at_once(&dir) }).await.unwrap());
        let mut taken = running.handle.take().await;
        if taken.is_ok() {
            // The collection runs beside it.
            until(async || {
                taken = running.handle.take().await;
                is_dead.load(Ordering::Relaxed) || at > 20
            })
            .await;
        }
        running.kill().await;
        let newest = place.catalog().newest().await.unwrap().unwrap();
        let copy = place.dir(&format!("copy-{at}"));
        restore(&place.catalog(), newest, &RestoreOptions::new(copy.clone())).await.unwrap();
        let restored = files_in(&copy);
        assert!(states.contains(&restored), "killed at step {at}");
        assert!(taken.is_err() || restored == *states.last().unwrap(), "killed at step {at}");
        store.remove(&old);
        states.push(store.files());
    }
}
