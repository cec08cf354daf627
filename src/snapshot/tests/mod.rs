//! Tests of snapshots on stores in memory and in directories.

mod collecting;
mod failing;
mod racing;
mod restoring;
mod rocks;
mod shipping;
mod store;
mod taking;

use super::steps::{Step, Steps};
use super::*;
use crate::bucket::Bucket;
use crate::model::TsMs;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::FakeStore;
use tokio_util::sync::CancellationToken;

/// A prefix with a data directory, and the writer of both.
struct Place {
    root: tempfile::TempDir,
    bucket: Bucket,
}

impl Place {
    fn in_memory() -> Self {
        if let Some(place) = Self::on_server() {
            return place;
        }
        Self::on(Arc::new(InMemory::new()))
    }

    fn on(store: Arc<dyn ObjectStore>) -> Self {
        let bucket = Bucket::new(store, "caps/prod", "memory://caps/prod".to_owned());
        Self { root: tempfile::tempdir().unwrap(), bucket: bucket.with_call_timeout(Duration::from_secs(2)) }
    }

    /// `FREQCAP_TEST_BUCKET=s3://bucket` runs the same on a server, under a prefix of its own.
    fn on_server() -> Option<Self> {
        let url = std::env::var("FREQCAP_TEST_BUCKET").ok()?;
        let url = format!("{url}/{}", crate::random::random_id()).parse().unwrap();
        let bucket = crate::bucket::open(&url, crate::bucket::Access::Write).unwrap();
        Some(Self { root: tempfile::tempdir().unwrap(), bucket })
    }

    fn in_directory() -> Self {
        if let Some(place) = Self::on_server() {
            return place;
        }
        let root = tempfile::tempdir().unwrap();
        let url = format!("file://{}/bucket", root.path().display()).parse().unwrap();
        let bucket = crate::bucket::open(&url, crate::bucket::Access::Write).unwrap();
        Self { root, bucket }
    }

    fn catalog(&self) -> Catalog {
        Catalog::new(self.bucket.clone(), STANDALONE)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn acquire(&self, local: Local<'_>) -> Result<Writer, SnapshotError> {
        self.acquire_as(&quick("one"), local).await
    }

    async fn acquire_as(&self, options: &WriterOptions, local: Local<'_>) -> Result<Writer, SnapshotError> {
        Writer::acquire(self.catalog(), options, local, &|_| {}, &CancellationToken::new()).await
    }

    /// A writer of a new or known directory, and the service on top of it.
    async fn snapshots(&self, store: &FakeStore, options: Options) -> Result<Snapshots, SnapshotError> {
        let id = store.id();
        let is_new = !options.dir.join(MARK).exists();
        let local = if is_new { Local::Nothing } else { Local::Store(&options.dir, &id) };
        // The process before is dead, or has given way: its lease need not be waited for.
        let writer = self.acquire_as(&WriterOptions { takeover: true, ..quick("one") }, local).await?;
        std::fs::create_dir_all(&options.dir).unwrap();
        writer.attach(&options.dir, &id)?;
        Snapshots::new(writer, Arc::new(store.clone()), options)
    }

    /// A snapshot by a process that then dies without a word.
    async fn take_once(&self, store: &FakeStore, dir: &Path) -> Result<Summary, Arc<SnapshotError>> {
        let running = self.start(store, dir).await;
        let taken = running.handle.take().await;
        running.kill().await;
        taken
    }

    async fn start(&self, store: &FakeStore, dir: &Path) -> Running {
        Running::new(self.snapshots(store, options(dir)).await.unwrap())
    }
}

/// A service that runs.
struct Running {
    handle: Handle,
    drain: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SnapshotError>>,
}

impl Running {
    fn new(snapshots: Snapshots) -> Self {
        let (handle, drain) = (snapshots.handle(), CancellationToken::new());
        Self { handle, drain: drain.clone(), task: tokio::spawn(snapshots.run(drain)) }
    }

    async fn stop(self) -> Result<(), SnapshotError> {
        self.drain.cancel();
        self.task.await.unwrap()
    }

    /// As kill -9: the lease stays.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A lease that a test can wait for. Servers tell whole seconds only.
fn quick(holder: &str) -> WriterOptions {
    let is_server = std::env::var_os("FREQCAP_TEST_BUCKET").is_some();
    WriterOptions {
        lease: Duration::from_millis(if is_server { 3_000 } else { 600 }),
        renew: Duration::from_millis(100),
        wait_max: Some(Duration::from_secs(20)),
        ..WriterOptions::new(holder.to_owned())
    }
}

/// Snapshots only when asked for.
fn options(dir: &Path) -> Options {
    let now: Now = Arc::new(|| TsMs(1_700_000_000_000));
    Options { every: Duration::from_secs(3_600), ..Options::new(dir.to_owned(), now) }
}
