//! Writes that are shipped between snapshots: in order, whole, and not beyond the end of an epoch.

use super::*;
use crate::bucket::faulty::{Call, Fault, Faulty};
use crate::store::{Checkpoint, Shipped, TailBatch, TailGap};
use std::sync::Mutex;

/// A store of numbered writes.
#[derive(Clone)]
pub(super) struct Writes {
    pub files: FakeStore,
    pub state: Arc<Mutex<State>>,
    /// Answers wait for the bucket.
    pub shipped: Option<Arc<Shipped>>,
}

#[derive(Default)]
pub(super) struct State {
    pub written: u64,
    kept: Vec<u64>,
    pub has_gap: bool,
}

impl Writes {
    pub fn new() -> Self {
        Self { files: FakeStore::new("store"), state: Arc::default(), shipped: None }
    }

    /// Returns its number.
    pub fn write(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.written += 1;
        let written = state.written;
        state.kept.push(written);
        if let Some(shipped) = &self.shipped {
            shipped.want();
        }
        written
    }
}

impl Source for Writes {
    fn store_id(&self) -> String {
        self.files.id()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        let sequence = self.state.lock().unwrap().written;
        Ok(Checkpoint { sequence, ..self.files.checkpoint(dir)? })
    }

    fn keep_tail(&self, _: usize) {
        let mut state = self.state.lock().unwrap();
        state.kept.clear();
        state.has_gap = false;
    }

    fn take_tail(&self, _: usize) -> Result<Vec<TailBatch>, TailGap> {
        let mut state = self.state.lock().unwrap();
        if state.has_gap {
            return Err(TailGap);
        }
        Ok(state.kept.drain(..).map(|first| TailBatch { first, count: 1, bytes: vec![7; 20] }).collect())
    }

    fn shipped(&self) -> Option<Arc<Shipped>> {
        self.shipped.clone()
    }
}

pub(super) fn shipping(dir: &Path) -> Options {
    Options { lag: Some(Duration::from_millis(20)), ..options(dir) }
}

async fn start(place: &Place, store: &Writes, dir: &Path) -> Running {
    let id = store.store_id();
    let is_new = !dir.join(MARK).exists();
    let local = if is_new { Local::Nothing } else { Local::Store(dir, &id) };
    let writer = place.acquire_as(&WriterOptions { takeover: true, ..quick("one") }, local).await.unwrap();
    std::fs::create_dir_all(dir).unwrap();
    writer.attach(dir, &id).unwrap();
    Running::new(Snapshots::new(writer, Arc::new(store.clone()), shipping(dir)).unwrap())
}

/// Up to which write the newest snapshot and its chain go.
async fn restored_to(place: &Place) -> Result<u64, SnapshotError> {
    let newest = place.catalog().newest().await?.unwrap();
    follow(place, &newest).await
}

pub(super) async fn follow(place: &Place, manifest: &Manifest) -> Result<u64, SnapshotError> {
    let mut to = manifest.store_sequence;
    let Some(mut follow) = Follow::begin(&place.catalog(), manifest, None, false).await? else { return Ok(to) };
    while let Some(batches) = follow.next().await? {
        for batch in &batches {
            assert!(batch.first <= to + 1, "a write is missing");
            to = batch.first.max(to);
        }
    }
    Ok(to)
}

async fn is_restored_to(place: &Place, wanted: u64) {
    let begun = std::time::Instant::now();
    while place.catalog().newest().await.unwrap().is_none() || restored_to(place).await.unwrap() < wanted {
        assert!(begun.elapsed() < Duration::from_secs(20), "write {wanted} is not shipped");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_between_snapshots_is_shipped_and_snapshots_do_not_interrupt_it() {
    for place in [Place::in_memory(), Place::in_directory()] {
        let (store, dir) = (Writes::new(), place.dir("data"));
        let running = start(&place, &store, &dir).await;
        for round in 1..=30 {
            store.write();
            if round % 10 == 5 {
                running.handle.take().await.unwrap();
            }
            is_restored_to(&place, round).await;
        }
        assert!(running.handle.figures().shipped > 0);
        // Every snapshot of the run leads to the end.
        for summary in place.catalog().list().await.unwrap() {
            let manifest = place.catalog().read(summary.sequence).await.unwrap();
            assert_eq!(follow(&place, &manifest).await.unwrap(), 30);
        }
        running.kill().await;
        // A run goes on in a chain of its own, from a snapshot of its own.
        let again = start(&place, &store, &dir).await;
        store.write();
        is_restored_to(&place, 31).await;
        again.stop().await.unwrap();
        assert_eq!(restored_to(&place).await.unwrap(), 31);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_writes_come_too_fast_a_snapshot_is_taken_at_once() {
    let place = Place::in_memory();
    let (store, dir) = (Writes::new(), place.dir("data"));
    let running = start(&place, &store, &dir).await;
    store.write();
    is_restored_to(&place, 1).await;
    let chain = place.catalog().newest().await.unwrap().unwrap().chain.unwrap().name;
    for _ in 0..5 {
        store.write();
    }
    store.state.lock().unwrap().has_gap = true;
    is_restored_to(&place, 6).await;
    store.write();
    is_restored_to(&place, 7).await;
    assert_ne!(place.catalog().newest().await.unwrap().unwrap().chain.unwrap().name, chain);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_missing_or_damaged_is_an_error_that_names_it() {
    let place = Place::in_memory();
    let (store, dir) = (Writes::new(), place.dir("data"));
    let running = start(&place, &store, &dir).await;
    is_restored_to(&place, 0).await;
    for round in 1..=3 {
        store.write();
        is_restored_to(&place, round).await;
    }
    running.kill().await;
    let newest = place.catalog().newest().await.unwrap().unwrap();
    let chain = newest.chain.clone().unwrap();
    let segment = |number| place.catalog().layout.segment(&chain.name, number);
    let bytes = place.bucket.get(&segment(chain.from + 1), 1 << 20).await.unwrap();
    place.bucket.delete(&segment(chain.from + 1)).await.unwrap();
    let error = restored_to(&place).await.unwrap_err();
    assert!(error.to_string().contains(&segment(chain.from + 1)), "{error}");
    // Whoever wants what can be read gets that.
    let mut readable = Follow::begin(&place.catalog(), &newest, None, true).await.unwrap().unwrap();
    assert!(readable.next().await.unwrap().is_some());
    assert!(readable.next().await.unwrap_err().is_of_the_snapshot());
    let mut damaged = bytes.to_vec();
    damaged[40] ^= 1;
    for wrong in
        [damaged, bytes[..50].to_vec(), place.bucket.get(&segment(chain.from), 1 << 20).await.unwrap().to_vec()]
    {
        place.bucket.put(&segment(chain.from + 1), wrong.into()).await.unwrap();
        let error = restored_to(&place).await.unwrap_err();
        assert_eq!(error.code(), "snapshot_damaged");
        assert!(error.to_string().contains(&segment(chain.from + 1)), "{error}");
    }
    place.bucket.put(&segment(chain.from + 1), bytes).await.unwrap();
    assert_eq!(restored_to(&place).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_superseded_process_ships_later_is_void() {
    for place in [Place::in_memory(), Place::in_directory()] {
        let (old, dir) = (Writes::new(), place.dir("old"));
        let running = start(&place, &old, &dir).await;
        is_restored_to(&place, 0).await;
        let stop = CancellationToken::new();
        let (writing, ended) = (old.clone(), stop.clone());
        let writes = tokio::spawn(async move {
            while !ended.is_cancelled() {
                writing.write();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        is_restored_to(&place, 5).await;
        // It ships all the while.
        let takeover = WriterOptions { takeover: true, ..quick("two") };
        let newer = place.acquire_as(&takeover, Local::Nothing).await.unwrap();
        let held = follow(&place, newer.newest().unwrap()).await.unwrap();
        assert!(held >= 5);
        let before = old.state.lock().unwrap().written;
        let begun = std::time::Instant::now();
        while old.state.lock().unwrap().written < before + 100 && begun.elapsed() < Duration::from_secs(20) {
            assert_eq!(follow(&place, newer.newest().unwrap()).await.unwrap(), held);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        writes.await.unwrap();
        running.kill().await;
        assert_eq!(follow(&place, newer.newest().unwrap()).await.unwrap(), held);
    }
}

/// Another process has listed that there is no snapshot, and then claims an epoch. What was shipped in between counts.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_shipped_before_a_claim_counts_whatever_was_listed_before_it() {
    let inner = Arc::new(InMemory::new());
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let rule = move |call, path: &str| {
        if call == Call::Create && path.contains("/e/0000000002") {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| may_go.recv().unwrap());
        }
        Fault::None
    };
    let (place, late) = (Place::on(inner.clone()), Place::on(Arc::new(Faulty::new(inner, rule))));
    let (old, dir) = (Writes::new(), place.dir("old"));
    let writer = place.acquire(Local::Nothing).await.unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    writer.attach(&dir, "store").unwrap();
    let second = tokio::spawn(async move {
        let takeover = WriterOptions { takeover: true, ..quick("two") };
        late.acquire_as(&takeover, Local::Nothing).await
    });
    tokio::task::block_in_place(|| is_reached.recv()).unwrap();
    let running = Running::new(Snapshots::new(writer, Arc::new(old.clone()), shipping(&dir)).unwrap());
    for round in 1..=5 {
        old.write();
        is_restored_to(&place, round).await;
    }
    go.send(()).unwrap();
    let newer = second.await.unwrap().unwrap();
    let newest = newer.newest().unwrap().clone();
    let held = follow(&place, &newest).await.unwrap();
    assert!((newest.sequence, newest.epoch) == (1, 1) && held >= 5, "{held}");
    // The old one cannot add to its chain, and finds out by that.
    old.write();
    assert_eq!(running.task.await.unwrap().unwrap_err().code(), "superseded");
    assert_eq!(follow(&place, &newest).await.unwrap(), held);
}

/// Killed after it had the epoch, before it said where that begins: the epoch says nothing, and the next one does.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_was_claimed_and_never_began_voids_nothing() {
    let inner = Arc::new(InMemory::new());
    let rule = |call, path: &str| match call {
        Call::Create if path.contains("/b/0000000002") => Fault::Hang,
        _ => Fault::None,
    };
    let (place, mut dies) = (Place::on(inner.clone()), Place::on(Arc::new(Faulty::new(inner, rule))));
    dies.bucket = dies.bucket.clone().with_call_timeout(Duration::from_millis(300));
    let (old, dir) = (Writes::new(), place.dir("old"));
    let running = start(&place, &old, &dir).await;
    old.write();
    is_restored_to(&place, 1).await;
    let takeover = WriterOptions { takeover: true, wait_max: Some(Duration::ZERO), ..quick("two") };
    // What it asks hangs until it gives up.
    assert_eq!(dies.acquire_as(&takeover, Local::Nothing).await.unwrap_err().code(), "bucket_slow");
    assert_eq!(place.catalog().newest().await.unwrap().unwrap().sequence, 1);
    running.kill().await;
    let third = place.acquire_as(&takeover, Local::Nothing).await.unwrap();
    assert_eq!((third.epoch(), third.newest().unwrap().sequence), (3, 1));
    assert_eq!(follow(&place, third.newest().unwrap()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_how_far_what_was_shipped_reaches_beyond_each_snapshot() {
    let place = Place::in_memory();
    let (store, dir) = (Writes::new(), place.dir("data"));
    let running = start(&place, &store, &dir).await;
    is_restored_to(&place, 0).await;
    for round in 1..=2 {
        store.write();
        is_restored_to(&place, round).await;
    }
    running.handle.take().await.unwrap();
    for round in 3..=5 {
        store.write();
        is_restored_to(&place, round).await;
    }
    let reaches = |listed: Vec<Summary>| listed.iter().map(|summary| summary.reach.unwrap()).collect::<Vec<_>>();
    let found = reaches(running.handle.list().await.unwrap());
    assert_eq!(found.iter().map(|reach| reach.segments).collect::<Vec<_>>(), [5, 3]);
    assert!(found[0].to_ms.is_some() && found[0].to_ms == found[1].to_ms, "{found:?}");
    running.kill().await;
    // What ends the chain is no part of it.
    let takeover = WriterOptions { takeover: true, ..quick("two") };
    place.acquire_as(&takeover, Local::Nothing).await.unwrap();
    assert_eq!(reaches(list(&place.catalog()).await.unwrap()), found);
    // Without shipping there is nothing to say.
    let place = Place::in_memory();
    place.take_once(&FakeStore::new("store"), &place.dir("data")).await.unwrap();
    assert_eq!(list(&place.catalog()).await.unwrap()[0].reach, None);
}
