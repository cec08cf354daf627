//! Writes that are shipped between snapshots: in order, whole, and not beyond the end of an epoch.

use super::*;
use crate::store::{Checkpoint, TailBatch, TailGap};
use std::sync::Mutex;

/// A store of numbered writes.
#[derive(Clone)]
struct Writes {
    files: FakeStore,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    written: u64,
    kept: Vec<u64>,
    has_gap: bool,
}

impl Writes {
    fn new() -> Self {
        Self { files: FakeStore::new("store"), state: Arc::default() }
    }

    fn write(&self) {
        let mut state = self.state.lock().unwrap();
        state.written += 1;
        let written = state.written;
        state.kept.push(written);
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
}

fn shipping(dir: &Path) -> Options {
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

async fn follow(place: &Place, manifest: &Manifest) -> Result<u64, SnapshotError> {
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
