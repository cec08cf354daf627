//! Killed at each request to the bucket in turn, of a start, an upload, a manifest, a collection and a restore: before the bucket
//! does it, and after.

use super::collecting::{at_once, until};
use super::store::{FakeStore, files_in};
use super::*;
use crate::bucket::faulty::{Call, Fault, Faulty};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A process that dies at its n-th request. From then on it asks for nothing.
struct Mortal {
    place: Place,
    is_dead: Arc<AtomicBool>,
}

impl Mortal {
    /// `after`: the bucket still does what it was asked.
    fn on(inner: &Arc<InMemory>, at: u32, after: bool) -> Self {
        let (count, is_dead) = (AtomicU32::new(0), Arc::new(AtomicBool::new(false)));
        let dead = is_dead.clone();
        let rule = move |call: Call, _: &str| {
            if dead.load(Ordering::Relaxed) {
                return Fault::Forbid;
            }
            if count.fetch_add(1, Ordering::Relaxed) < at {
                return Fault::None;
            }
            dead.store(true, Ordering::Relaxed);
            if after && matches!(call, Call::Put | Call::Create) { Fault::LoseAnswer } else { Fault::Forbid }
        };
        Self { place: Place::on(Arc::new(Faulty::new(inner.clone(), rule))), is_dead }
    }

    fn has_died(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_it_dies_at_there_is_a_whole_snapshot() {
    for after in [false, true] {
        let inner = Arc::new(InMemory::new());
        let healthy = Place::on(inner.clone());
        let (store, dir) = (FakeStore::new("store"), healthy.dir("data"));
        healthy.take_once(&store, &dir).await.unwrap();
        let mut states = vec![store.files()];
        let mut at = 0;
        loop {
            let old = store.table(1_000);
            store.log(b"row");
            states.push(store.files());
            let mortal = Mortal::on(&inner, at, after);
            let mut is_taken = false;
            if let Ok(snapshots) = mortal.place.snapshots(&store, at_once(&dir)).await {
                let running = Running::new(snapshots);
                // The collection after the first runs beside the second.
                is_taken = running.handle.take().await.is_ok() && running.handle.take().await.is_ok();
                running.kill().await;
            }
            assert!(is_taken || mortal.has_died(), "request {at}");
            let newest = healthy.catalog().newest().await.unwrap().unwrap();
            let copy = healthy.dir(&format!("copy-{after}-{at}"));
            restore(&healthy.catalog(), newest, &RestoreOptions::new(copy.clone())).await.unwrap();
            let restored = files_in(&copy);
            assert!(states.contains(&restored), "request {at}, {after}");
            assert!(!is_taken || restored == *states.last().unwrap(), "request {at}, {after}");
            store.remove(&old);
            states.push(store.files());
            // What it left is collected, so that each process begins with as much.
            let running = Running::new(healthy.snapshots(&store, at_once(&dir)).await.unwrap());
            until(async || {
                running.handle.take().await.unwrap();
                let claims = healthy.bucket.list("p-000/e").await.unwrap();
                healthy.catalog().list().await.unwrap().len() <= 2 && claims.len() == 1
            })
            .await;
            running.kill().await;
            if !mortal.has_died() {
                break;
            }
            at += 1;
        }
        assert!(at > 20, "only {at} requests were made");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_a_restore_dies_at_the_next_one_ends_it() {
    let inner = Arc::new(InMemory::new());
    let healthy = Place::on(inner.clone());
    let store = FakeStore::new("store");
    for bytes in [5_000, 300, 9_000_000] {
        store.table(bytes);
        store.log(b"row");
    }
    healthy.take_once(&store, &healthy.dir("data")).await.unwrap();
    let mut at = 0;
    loop {
        let mortal = Mortal::on(&inner, at, false);
        let into = RestoreOptions::new(healthy.dir(&format!("copy-{at}")));
        let restored = match mortal.place.catalog().newest().await {
            Ok(newest) => restore(&mortal.place.catalog(), newest.unwrap(), &into).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(restored.is_err(), mortal.has_died(), "request {at}");
        if restored.is_err() {
            // What is not whole is never opened.
            let found = contents(&into.dir).unwrap();
            assert!(matches!(found, Contents::Empty | Contents::Unfinished(1)), "request {at}: {found:?}");
            let newest = healthy.catalog().newest().await.unwrap().unwrap();
            restore(&healthy.catalog(), newest, &into).await.unwrap();
        }
        assert_eq!(files_in(&into.dir), store.files(), "request {at}");
        if !mortal.has_died() {
            break;
        }
        at += 1;
    }
    let objects = healthy.catalog().newest().await.unwrap().unwrap().objects().count();
    assert!(at as usize > objects, "only {at} requests were made for {objects} objects");
}
