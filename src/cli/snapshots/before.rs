//! Before the store opens: who writes under the prefix, and what the data directory is to hold.

use super::super::signals::Signals;
use super::SnapshotsError;
use super::source::{Shipped, prepare};
use crate::bucket::{self, Access, BucketUrl};
use crate::http::{StartProgress, StartStep};
use crate::model::TsMs;
use crate::priority::lower_priority;
use crate::snapshot::{
    Catalog, Contents, Local, Manifest, Progress, Restore, RestoreOptions, STANDALONE, Settings, SnapshotError,
    Waiting, Which, Writer, WriterOptions, contents, restore,
};
use crate::store::{ByteSize, StoreOptions};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// What snapshots are set up with.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) url: BucketUrl,
    pub(super) settings: Settings,
    pub(super) data_dir: PathBuf,
    /// How the store is opened.
    pub(super) store: StoreOptions,
    /// For uploads under way.
    pub(super) memory: ByteSize,
}

/// The snapshots of a service whose store is not open yet.
pub struct Before {
    pub(super) options: Options,
    pub(super) runtime: Runtime,
    pub(super) catalog: Catalog,
    /// Of a directory that was empty or is replaced: it is restored by now.
    pub(super) writer: Option<Writer>,
    pub(super) progress: StartProgress,
    pub(super) stop: CancellationToken,
    /// Cancels it at the first signal.
    pub(super) listener: AbortHandle,
}

/// How long a service that has a store waits for a bucket that is away before it takes events all the same.
pub(super) const BUCKET_WAIT: Duration = Duration::from_secs(5);

impl Options {
    /// `None` without `--snapshots`.
    pub fn new(settings: &Settings, store: StoreOptions, memory: ByteSize) -> Option<Self> {
        let url = settings.snapshots.clone()?;
        Some(Self { url, settings: settings.clone(), data_dir: store.data_dir.clone(), store, memory })
    }
}

impl Before {
    /// Restores what is to be restored. `stop` ends the waiting.
    pub fn prepare(options: Options, progress: StartProgress, stop: CancellationToken) -> Result<Self, SnapshotsError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("snapshots")
            .max_blocking_threads(16)
            .on_thread_start(lower_priority)
            .enable_all()
            .build()
            .map_err(SnapshotsError::Runtime)?;
        let listener = runtime.spawn(stop_on_signal(stop.clone())).abort_handle();
        let bucket = bucket::open(&options.url, Access::Write).map_err(SnapshotError::from)?;
        let catalog = Catalog::new(bucket, STANDALONE);
        let mut before = Self { options, runtime, catalog, writer: None, progress, stop, listener };
        before.restore_if_due()?;
        Ok(before)
    }

    fn restore_if_due(&mut self) -> Result<(), SnapshotsError> {
        let dir = self.options.data_dir.clone();
        let wanted = self.options.settings.restore;
        match (contents(&dir)?, wanted) {
            (Contents::Something(_), Restore::Auto | Restore::Never) => return Ok(()),
            (Contents::Unfinished(sequence), Restore::Never) => {
                return Err(SnapshotError::Unfinished { dir, sequence }.into());
            }
            (Contents::Something(_), Restore::Snapshot(_))
            | (Contents::Empty, _)
            | (Contents::Unfinished(_), Restore::Auto | Restore::Snapshot(_)) => {}
        }
        let is_there = matches!(contents(&dir)?, Contents::Something(_));
        let asked = match wanted {
            // A number that is wrong is told before an epoch begins.
            Restore::Snapshot(sequence) => Some(self.wait_for(Which::Sequence(sequence))?),
            Restore::Auto | Restore::Never => None,
        };
        let writer = self.acquire(Local::Nothing, None).map_err(|error| self.offer_older(error))?;
        if is_there && !writer.is_overtaking(&dir)? {
            tracing::warn!("the data directory is as new as the bucket: --restore leaves it as it is");
            self.writer = Some(writer);
            return Ok(());
        }
        let manifest = asked.or_else(|| writer.newest().cloned());
        if let Some(manifest) = manifest {
            if wanted == Restore::Never {
                let (prefix, store, taken) = (self.catalog.prefix(), manifest.store_id, TsMs(manifest.taken_ms));
                self.release(writer);
                return Err(SnapshotsError::NotRestored { dir, prefix, store, taken });
            }
            if let Err(error) = self.restore(manifest, &writer, is_there) {
                self.release(writer);
                return Err(error);
            }
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn restore(&self, manifest: Manifest, writer: &Writer, replace: bool) -> Result<(), SnapshotsError> {
        let (sequence, epoch) = (manifest.sequence, manifest.epoch);
        tracing::info!(
            sequence,
            epoch,
            bytes = manifest.bytes(),
            "restoring a snapshot from {}",
            self.catalog.prefix()
        );
        let told = self.progress.clone();
        let is_newest = writer.newest().is_some_and(|newest| newest.sequence == sequence);
        let shipped = match self.options.settings.restore {
            Restore::Auto | Restore::Never => Shipped::All,
            Restore::Snapshot(_) if is_newest => Shipped::Readable,
            Restore::Snapshot(_) => Shipped::None,
        };
        let store = self.options.store.clone();
        let prepare =
            self.runtime.block_on(prepare(&self.catalog, &manifest, writer.newest(), shipped, store, false))?;
        let mut options = RestoreOptions::new(self.options.data_dir.clone());
        options.epoch = writer.epoch();
        options.replace = replace;
        options.prepare = Some(prepare);
        options.progress = Arc::new(move |progress| {
            told.set(step_of(progress));
        });
        let begun = std::time::Instant::now();
        let restoring = restore(&self.catalog, manifest, &options);
        let restored = self.runtime.block_on(async {
            tokio::select! {
                restored = restoring => Some(restored),
                () = self.stop.cancelled() => None,
            }
        });
        match restored {
            None => Err(SnapshotsError::Stopped),
            Some(Ok(restored)) => {
                let took = begun.elapsed();
                tracing::info!(sequence = restored.sequence, ?took, "the snapshot is restored, every hash agrees");
                Ok(())
            }
            Some(Err(error)) => Err(self.offer_older(error)),
        }
    }

    /// Says which snapshot to take in place of one that is damaged.
    fn offer_older(&self, error: SnapshotError) -> SnapshotsError {
        let SnapshotError::DamagedSnapshot { sequence, .. } = error else { return error.into() };
        match self.runtime.block_on(self.catalog.before(sequence)) {
            Ok(Some(older)) => SnapshotsError::Damaged { error, older: older.sequence },
            Ok(None) | Err(_) => error.into(),
        }
    }

    /// Finds a manifest; a bucket that is away is waited for.
    fn wait_for(&self, which: Which) -> Result<Manifest, SnapshotsError> {
        self.runtime.block_on(async {
            loop {
                match self.catalog.find(which).await {
                    Err(error) if error.is_passing() => self.tell(Waiting::Bucket(error.to_string())),
                    found => return Ok(found?),
                }
                tokio::select! {
                    () = self.stop.cancelled() => return Err(SnapshotsError::Stopped),
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                }
            }
        })
    }

    pub(super) fn acquire(&self, local: Local<'_>, wait_max: Option<Duration>) -> Result<Writer, SnapshotError> {
        let options = WriterOptions { wait_max, ..writer_options(&self.options) };
        let tell = |waiting| self.tell(waiting);
        self.runtime.block_on(Writer::acquire(self.catalog.clone(), &options, local, &tell, &self.stop))
    }

    fn tell(&self, waiting: Waiting) {
        let step = step_of_waiting(waiting, &self.catalog.prefix());
        let (code, detail) = (step.code, step.detail.clone());
        if self.progress.set(step) {
            tracing::warn!(code, "{detail}");
        }
    }

    fn release(&self, writer: Writer) {
        if let Err(error) = self.runtime.block_on(writer.release()) {
            tracing::warn!(%error, "the lease is not released; it runs out by itself");
        }
    }
}

/// Until the service hears signals itself: a start that waits ends at once.
async fn stop_on_signal(stop: CancellationToken) {
    match Signals::new() {
        Ok(mut signals) => {
            signals.next().await;
            stop.cancel();
        }
        Err(error) => tracing::warn!(%error, "signals cannot be heard before the service has started"),
    }
}

/// Whether a bucket may well do later what it does not do now.
pub(super) fn may_come_later(error: &SnapshotError) -> bool {
    error.is_passing() || error.code() == bucket::Cause::Full.code()
}

pub(super) fn writer_options(options: &Options) -> WriterOptions {
    WriterOptions {
        takeover: options.settings.takeover,
        pass_over_damage: matches!(options.settings.restore, Restore::Snapshot(_)),
        ..WriterOptions::new(holder())
    }
}

/// Host and process, for people.
pub fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this machine" } else { host.trim() };
    format!("process {} on {host}", std::process::id())
}

fn step_of_waiting(waiting: Waiting, prefix: &str) -> StartStep {
    match waiting {
        Waiting::Lease { by, epoch } => StartStep {
            code: "waiting_for_lease",
            detail: format!(
                "{by} (epoch {epoch}) writes snapshots under {prefix}: it is waited for until it ends, or has given no sign of \
                 life for 30 s; --takeover does not wait"
            ),
            restore: Value::Null,
        },
        Waiting::Bucket(why) => {
            StartStep { code: "waiting_for_bucket", detail: format!("{why}; it is tried again"), restore: Value::Null }
        }
    }
}

fn step_of(progress: Progress) -> StartStep {
    let Progress { sequence, objects_done, objects, bytes_done, bytes } = progress;
    let detail =
        format!("snapshot {sequence} is restored: {objects_done} of {objects} objects, {bytes_done} of {bytes} bytes");
    let restore = json!({
        "snapshot": sequence, "objects": objects, "objects_done": objects_done, "bytes": bytes, "bytes_done": bytes_done,
    });
    StartStep { code: "restoring", detail, restore }
}
