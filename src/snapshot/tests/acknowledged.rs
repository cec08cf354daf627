//! Answers wait for the bucket: what is said to be there is restored, whatever fails and whoever takes over.

use super::shipping::{Writes, follow, shipping};
use super::*;
use crate::bucket::faulty::{Call, Fault, Faulty};
use crate::store::Shipped;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// `FREQCAP_SNAPSHOT_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("FREQCAP_SNAPSHOT_SEEDS").map_or(3, |seeds| seeds.parse().unwrap())
}

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A process whose store has so many writes.
struct Process {
    writes: Writes,
    running: Running,
    /// The highest write that was said to be in the bucket.
    said: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Process {
    fn begin(writer: Writer, dir: &Path, written: u64) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        writer.attach(dir, "store").unwrap();
        let shipped = Arc::new(Shipped::new(Duration::from_secs(60)));
        let writes = Writes { shipped: Some(shipped.clone()), ..Writes::new() };
        writes.state.lock().unwrap().written = written;
        let retry = Duration::from_millis(20);
        let options = Options { retry, every: Duration::from_millis(150), ..shipping(dir) };
        let snapshots = Snapshots::new(writer, Arc::new(writes.clone()), options).unwrap();
        let (said, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (writing, told, ended) = (writes.clone(), said.clone(), stop.clone());
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                let number = writing.write();
                // One after another, as by a client that waits for its answer.
                let until = std::time::Instant::now() + Duration::from_millis(50);
                let (shipped, asked) = (shipped.clone(), told.clone());
                let waited = tokio::task::spawn_blocking(move || {
                    if shipped.wait(number, until) {
                        asked.fetch_max(number, Ordering::Relaxed);
                    }
                });
                waited.await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        Self { writes, running: Running::new(snapshots), said, stop }
    }

    fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Processes take over from each other while the bucket fails in every way. Whoever is told that a write is in the bucket finds it in
/// what the next one restores, even if it was told after that.
async fn run(seed: u64, faults: bool) {
    let is_calm = Arc::new(AtomicBool::new(true));
    let (calm, random) = (is_calm.clone(), Mutex::new(Random(seed)));
    let rule = move |call: Call, _: &str| {
        let mut random = random.lock().unwrap();
        if calm.load(Ordering::Relaxed) || random.below(16) > 0 {
            return Fault::None;
        }
        match random.below(3) {
            0 => Fault::Hang,
            1 if matches!(call, Call::Put | Call::Create) => Fault::LoseAnswer,
            _ => Fault::Fail,
        }
    };
    let mut place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
    place.bucket = place.bucket.clone().with_call_timeout(Duration::from_millis(300));
    let mut random = Random(seed ^ 0x5EED);
    let mut held = 0;
    let mut before: Option<Process> = None;
    let mut told = 0;
    for round in 0..6 {
        is_calm.store(true, Ordering::Relaxed);
        let takeover = WriterOptions { takeover: true, ..quick("next") };
        let writer = place.acquire_as(&takeover, Local::Nothing).await.unwrap();
        let dir = place.dir(&format!("data-{round}"));
        if let Some(newest) = writer.newest().cloned() {
            held = follow(&place, &newest).await.unwrap();
            let into = RestoreOptions { epoch: writer.epoch(), ..RestoreOptions::new(dir.clone()) };
            restore(&place.catalog(), newest, &into).await.unwrap();
        }
        if let Some(before) = before.take() {
            // It goes on for a while, and is told nothing that is not held.
            let until = std::time::Instant::now() + Duration::from_millis(random.below(60));
            while std::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            before.running.task.abort();
            told += before.said();
            assert!(before.said() <= held, "seed {seed}, round {round}: {} was told, {held} is held", before.said());
        }
        let process = Process::begin(writer, &dir, held);
        is_calm.store(!faults, Ordering::Relaxed);
        let wanted = held + 1 + random.below(20);
        let begun = std::time::Instant::now();
        while process.said() < wanted {
            assert!(begun.elapsed() < Duration::from_secs(60), "seed {seed}, round {round}: nothing is acknowledged");
            if random.below(400) == 0 {
                process.writes.state.lock().unwrap().has_gap = true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before = Some(process);
    }
    assert!(told > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_said_to_be_in_the_bucket_is_restored_by_whoever_takes_over() {
    for seed in 0..seeds() {
        run(seed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn that_holds_while_the_bucket_fails_hangs_and_loses_answers() {
    for seed in 0..seeds() {
        run(1_000 + seed, true).await;
    }
}

/// Nothing is said before a snapshot names the chain: a restore would not find it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_in_the_bucket_before_the_first_snapshot_is() {
    let holds = Arc::new(AtomicBool::new(true));
    let held = holds.clone();
    let rule = move |call, path: &str| match call {
        Call::Create if path.contains("/m/") && held.load(Ordering::Relaxed) => Fault::Fail,
        _ => Fault::None,
    };
    let place = Place::on(Arc::new(Faulty::new(Arc::new(InMemory::new()), rule)));
    let writer = place.acquire(Local::Nothing).await.unwrap();
    let process = Process::begin(writer, &place.dir("data"), 0);
    let begun = std::time::Instant::now();
    while process.running.handle.figures().shipped < 3 || process.running.handle.figures().failed < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is shipped");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(process.said(), 0);
    holds.store(false, Ordering::Relaxed);
    while process.said() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is acknowledged");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // More is said while the chain is read.
    let said = process.said();
    let newest = place.catalog().newest().await.unwrap().unwrap();
    assert!(follow(&place, &newest).await.unwrap() >= said);
}
