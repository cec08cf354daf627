//! A bucket that fails, hangs, is full or forbids.

use super::store::{FakeStore, files_in};
use super::*;
use crate::bucket::faulty::{Call, Fault, Faulty};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn what_ails_the_bucket_is_told_by_a_code_and_passes() {
    for (fault, code) in [
        (Fault::Fail, "bucket_away"),
        (Fault::Hang, "bucket_slow"),
        (Fault::Full, "bucket_full"),
        (Fault::Forbid, "bucket_forbidden"),
    ] {
        let is_ill = Arc::new(AtomicBool::new(false));
        let ill = is_ill.clone();
        let rule = move |call, _: &str| match call {
            Call::Put | Call::Multipart if ill.load(Ordering::Relaxed) => fault,
            _ => Fault::None,
        };
        let place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
        let store = FakeStore::new("store");
        let running = place.start(&store, &place.dir("data")).await;
        is_ill.store(true, Ordering::Relaxed);
        assert_eq!(running.handle.take().await.unwrap_err().code(), code);
        let figures = running.handle.figures();
        assert_eq!((figures.failed, figures.taken, figures.error.unwrap().0), (1, 0, code));
        assert!(place.catalog().list().await.unwrap().is_empty());
        is_ill.store(false, Ordering::Relaxed);
        assert_eq!(running.handle.take().await.unwrap().sequence, 1);
        assert_eq!(running.handle.figures().error, None);
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_try_uploaded_is_not_uploaded_again() {
    let fails = Arc::new(AtomicBool::new(true));
    let (does_fail, puts) = (fails.clone(), Arc::new(AtomicU32::new(0)));
    let count = puts.clone();
    let rule = move |call, path: &str| match call {
        Call::Put if path.contains("/f/") && path.ends_with("13.sst") && does_fail.load(Ordering::Relaxed) => {
            Fault::Fail
        }
        Call::Put if path.contains("/f/") => {
            count.fetch_add(1, Ordering::Relaxed);
            Fault::None
        }
        _ => Fault::None,
    };
    let place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
    let store = FakeStore::new("store");
    for _ in 0..10 {
        store.table(1_000);
    }
    let running = place.start(&store, &place.dir("data")).await;
    running.handle.take().await.unwrap_err();
    fails.store(false, Ordering::Relaxed);
    running.handle.take().await.unwrap();
    // Each once, whichever of them were under way when one failed.
    assert_eq!(puts.load(Ordering::Relaxed), 10);
    let newest = place.catalog().newest().await.unwrap().unwrap();
    assert_eq!(running.handle.figures().uploaded_bytes, newest.bytes());
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_takes_too_long_is_given_up() {
    let place = Place::in_memory();
    let store = FakeStore::new("store");
    for _ in 0..20 {
        store.table(1_000);
    }
    let is_slow = Arc::new(AtomicBool::new(true));
    let (slow, longest) = (is_slow.clone(), Duration::from_millis(100));
    let steps = Steps::new(move |step| {
        if step == Step::FileUploaded && slow.load(Ordering::Relaxed) {
            tokio::task::block_in_place(|| std::thread::park_timeout(2 * longest));
        }
        Ok(())
    });
    let options = Options { steps, longest, ..options(&place.dir("data")) };
    let running = Running::new(place.snapshots(&store, options).await.unwrap());
    assert_eq!(running.handle.take().await.unwrap_err().code(), "snapshot_abandoned");
    is_slow.store(false, Ordering::Relaxed);
    // The next one has less to do; on a slow machine it may need a few tries.
    while running.handle.take().await.is_err() {}
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    let place = Place::in_memory();
    place.take_once(&FakeStore::new("store"), &place.dir("data")).await.unwrap();
    let mut huge = place.catalog().newest().await.unwrap().unwrap();
    huge.files[0].bytes = 1 << 60;
    huge.files[0].parts[0].bytes = 1 << 60;
    let refused = restore(&place.catalog(), huge, &RestoreOptions::new(place.dir("copy"))).await.unwrap_err();
    assert_eq!(refused.code(), "disk_full");
    assert_eq!(contents(&place.dir("copy")).unwrap(), Contents::Unfinished(1));
}

/// The store is changed, snapshotted, killed and lost with its disk, in an order that a seed decides, while calls fail and
/// answers are lost. Whatever is restored is a state that the store had, and none before the last snapshot that was promised.
#[tokio::test(flavor = "multi_thread")]
async fn after_any_loss_what_was_promised_is_there() {
    let seed = std::env::var("FREQCAP_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let random = Arc::new(Random(AtomicU64::new(seed)));
    let is_ill = Arc::new(AtomicBool::new(false));
    let (dice, ill) = (random.clone(), is_ill.clone());
    let rule = move |call, _: &str| match (ill.load(Ordering::Relaxed), call, dice.below(40)) {
        (true, _, 0) => Fault::Fail,
        (true, Call::Put | Call::Create, 1) => Fault::LoseAnswer,
        _ => Fault::None,
    };
    let place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
    let store = FakeStore::new("store");
    let states = Mutex::new(vec![store.files()]);
    let (mut dir, mut promised, mut restored) = (place.dir("data"), 0, 0);
    for round in 0..40 {
        let at_once =
            Options { keep: Duration::ZERO, unnamed: Duration::ZERO, collect_every: Duration::ZERO, ..options(&dir) };
        is_ill.store(false, Ordering::Relaxed);
        let running = Running::new(place.snapshots(&store, at_once).await.unwrap());
        is_ill.store(true, Ordering::Relaxed);
        for _ in 0..1 + random.below(4) {
            match random.below(3) {
                0 => drop(store.table(random.below(5_000) as usize)),
                _ => store.log(&[round; 30]),
            }
            let at = {
                let mut states = states.lock().unwrap();
                states.push(store.files());
                states.len() - 1
            };
            if running.handle.take().await.is_ok() {
                promised = at;
            }
        }
        is_ill.store(false, Ordering::Relaxed);
        if random.below(4) == 0 {
            running.stop().await.unwrap();
            promised = states.lock().unwrap().len() - 1;
        } else {
            running.kill().await;
        }
        let Some(newest) = place.catalog().newest().await.unwrap() else { continue };
        let copy = place.dir(&format!("copy-{round}"));
        restore(&place.catalog(), newest, &RestoreOptions::new(copy.clone())).await.unwrap();
        let found = files_in(&copy);
        let is_there = states.lock().unwrap().iter().rposition(|state| *state == found);
        assert!(
            is_there.is_some_and(|at| at >= promised),
            "seed {seed}, round {round}: {is_there:?}, {promised} was promised"
        );
        restored += 1;
        // The disk is lost: the next process stands on the copy.
        if random.below(3) == 0 {
            dir = copy;
        }
    }
    assert!(restored > 20, "{restored}");
}

struct Random(AtomicU64);

impl Random {
    fn below(&self, bound: u64) -> u64 {
        // splitmix64
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}
