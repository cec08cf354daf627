//! Beside the service: snapshots at their interval, the end of a process that was superseded, a last snapshot.

use super::before::{BUCKET_WAIT, Before, Options, may_come_later, writer_options};
use super::{SnapshotsError, StoreSource};
use crate::api::SnapshotAnswer;
use crate::clock::Clock;
use crate::service::{Audit, Snapshots as Calls};
use crate::shard::Health;
use crate::snapshot::{self, Catalog, Handle, Local, OnTaken, SnapshotError, Snapshots, Summary, Waiting, Writer};
use crate::store::{AuditEntry, Store};
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// After a failure to become the writer it is tried again so soon.
const RETRY: Duration = Duration::from_secs(10);
/// The bucket must be told that the lease is free within this, whatever the last snapshot took.
const RELEASE_MAX: Duration = Duration::from_secs(1);

/// The snapshots of a service whose store is open.
pub struct Beside {
    runtime: Runtime,
    stop: CancellationToken,
    listener: AbortHandle,
    calls: Calls,
    work: Work,
    writer: Option<Writer>,
}

/// What takes the snapshots.
struct Work {
    options: Options,
    catalog: Catalog,
    store: Arc<Store>,
    calls: Calls,
}

/// What a process that was superseded gives up.
#[derive(Clone)]
pub struct Superseding {
    pub health: Health,
    /// Cancelled then: nothing more is told to Redis, not even what waits, and nothing more is read from Kafka.
    pub told: CancellationToken,
}

/// Whether the process was told to end while it started.
pub struct Signalled {
    stop: CancellationToken,
    listener: AbortHandle,
}

impl Signalled {
    /// From here on somebody else hears signals.
    pub fn hand_over(self) -> bool {
        self.listener.abort();
        self.stop.is_cancelled()
    }
}

impl Before {
    /// Becomes the writer with the store that is open now. Refuses a directory that the bucket has overtaken, and another
    /// store's prefix. A bucket that is away keeps no store from being served.
    pub(in crate::cli) fn attach(mut self, store: &Arc<Store>) -> Result<Beside, SnapshotsError> {
        let (dir, id) = (self.options.data_dir.clone(), store.info().id.clone());
        let mut writer = self.writer.take();
        let mut waits = None;
        while writer.is_none() && waits.is_none() {
            match self.acquire(Local::Store(&dir, &id), Some(BUCKET_WAIT)) {
                Ok(acquired) => writer = Some(acquired),
                // Whoever holds it is waited for, for as long as it takes.
                Err(SnapshotError::LeaseHeld { .. }) => {}
                Err(error) if may_come_later(&error) => {
                    tracing::error!(%error, "the service starts without the bucket: no snapshots are taken until it answers");
                    waits = Some(error.to_string());
                }
                Err(SnapshotError::Stopped) => return Err(SnapshotsError::Stopped),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(writer) = &writer {
            writer.attach(&dir, &id)?;
        }
        Ok(Beside::new(self, store.clone(), writer, waits))
    }
}

impl Beside {
    fn new(before: Before, store: Arc<Store>, writer: Option<Writer>, waits: Option<String>) -> Self {
        let Before { options, runtime, catalog, stop, listener, .. } = before;
        let calls = Calls::new(runtime.handle().clone());
        if let Some(why) = waits {
            calls.set_waiting(why);
        }
        let work = Work { options, catalog, store, calls: calls.clone() };
        Self { runtime, stop, listener, calls, work, writer }
    }

    /// What the calls of the HTTP interface go to.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// What was heard of signals so far.
    pub fn signalled(&self) -> Signalled {
        Signalled { stop: self.stop.clone(), listener: self.listener.clone() }
    }

    /// How long the end may take, from when requests are no longer taken.
    pub fn at_end(&self) -> Duration {
        self.work.options.settings.snapshot_at_end.as_duration() + RELEASE_MAX
    }

    /// The runtime on which the bucket is talked to, and the work for it, which goes on until `drain` and takes a last snapshot
    /// then: nothing that was acknowledged may come after that. `stopped_at` has by then when requests were no longer taken.
    pub fn into_parts(
        self,
        clock: Clock,
        superseding: Superseding,
        stopped_at: Arc<OnceLock<Instant>>,
        drain: CancellationToken,
    ) -> (Runtime, impl Future<Output = ()> + Send + 'static) {
        let at_end = self.at_end();
        let is_waiting = self.writer.is_none();
        // Before requests are taken: the first of them may ask for a snapshot.
        let begun = self.writer.and_then(|writer| self.work.begin(writer, &clock));
        let work = self.work.run(begun, is_waiting, clock, superseding, drain.clone());
        (self.runtime, end_in_time(work, at_end, stopped_at, drain))
    }
}

/// Runs until `drain`, and then no longer than `at_end`.
async fn end_in_time(
    work: impl Future<Output = ()>,
    at_end: Duration,
    stopped_at: Arc<OnceLock<Instant>>,
    drain: CancellationToken,
) {
    let too_late = async {
        drain.cancelled().await;
        let since = stopped_at.get().map_or(Duration::ZERO, Instant::elapsed);
        tokio::time::sleep(at_end.saturating_sub(since)).await;
    };
    tokio::select! {
        () = work => {}
        () = too_late => tracing::error!(
            "the last snapshot was not done within --snapshot-at-end: what was counted since the one before is on the disk \
             alone, and the lease runs out by itself"
        ),
    }
}

impl Work {
    /// The snapshots of a writer, which calls may ask for from now on. `None`, and told, where there can be none.
    fn begin(&self, writer: Writer, clock: &Clock) -> Option<Snapshots> {
        let source = Arc::new(StoreSource(self.store.clone()));
        match Snapshots::new(writer, source, self.snapshot_options(clock.clone())) {
            Ok(snapshots) => {
                self.calls.begin(snapshots.handle());
                Some(snapshots)
            }
            Err(error) => {
                tracing::error!(%error, "no snapshots are taken");
                self.calls.set_waiting(error.to_string());
                None
            }
        }
    }

    /// Takes snapshots until `drain`. `is_waiting`: this process is yet to become the writer.
    async fn run(
        self,
        begun: Option<Snapshots>,
        is_waiting: bool,
        clock: Clock,
        superseding: Superseding,
        drain: CancellationToken,
    ) {
        let begun = if is_waiting {
            match self.acquire(&drain).await {
                Ok(writer) => writer.and_then(|writer| self.begin(writer, &clock)),
                Err(error) => {
                    tracing::error!(%error, code = error.code(), "this process must not go on: it is not the one that writes");
                    superseding.give_up();
                    return;
                }
            }
        } else {
            begun
        };
        let Some(snapshots) = begun else { return };
        tokio::spawn(watch_for_superseding(snapshots.handle(), superseding));
        match snapshots.run(drain).await {
            Ok(()) => tracing::info!("the lease of the snapshots is released"),
            Err(error) => tracing::error!(%error, code = error.code(), "snapshots have ended"),
        }
    }

    /// Becomes the writer of a bucket that was away when the service started. `None`: the service ends first.
    async fn acquire(&self, drain: &CancellationToken) -> Result<Option<Writer>, SnapshotError> {
        let (dir, id) = (&self.options.data_dir, &self.store.info().id);
        let tell = |waiting: Waiting| match waiting {
            Waiting::Lease { by, epoch } => self.calls.set_waiting(format!("{by} (epoch {epoch}) holds the lease")),
            Waiting::Bucket(why) => self.calls.set_waiting(why),
        };
        loop {
            let options = writer_options(&self.options);
            let local = Local::Store(dir, id);
            let acquired = Writer::acquire(self.catalog.clone(), &options, local, &tell, drain).await;
            match acquired.and_then(|writer| writer.attach(dir, id).map(|()| writer)) {
                Ok(writer) => return Ok(Some(writer)),
                Err(SnapshotError::Stopped) => return Ok(None),
                Err(error) if is_not_ours(&error) => return Err(error),
                Err(error) => self.calls.set_waiting(error.to_string()),
            }
            tokio::select! {
                () = drain.cancelled() => return Ok(None),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn snapshot_options(&self, clock: Clock) -> snapshot::Options {
        let settings = &self.options.settings;
        let audit = Audit::new([self.store.clone()].into(), clock.clone());
        let mut options = snapshot::Options::new(self.options.data_dir.clone(), Arc::new(move || clock.now()));
        options.on_taken = Some(tells_audit(audit));
        options.lag = settings.snapshot_lag.0.map(|lag| lag.as_duration());
        options.set_memory(self.options.memory.0);
        options.every = settings.snapshot_every.as_duration();
        options.keep = settings.snapshots_keep.as_duration();
        options.last_longest = settings.snapshot_at_end.as_duration();
        options
    }
}

/// Tells the audit of snapshots that no call asked for; a call's has its own line.
fn tells_audit(audit: Audit) -> OnTaken {
    Arc::new(move |taken: Summary| {
        let audit = audit.clone();
        Box::pin(async move {
            let after = serde_json::to_value(SnapshotAnswer::from(taken)).unwrap_or_default();
            let entry = AuditEntry::without_call("snapshot by --snapshot-every", Value::Null, after);
            if let Err(error) = audit.record(entry).await {
                tracing::error!(%error, "the audit failed");
            }
        })
    })
}

/// Whether another process writes what this one should.
fn is_not_ours(error: &SnapshotError) -> bool {
    use SnapshotError as E;
    matches!(error, E::DataDirSuperseded { .. } | E::OtherStore { .. } | E::Superseded { .. })
}

impl Superseding {
    fn give_up(self) {
        self.health.set_superseded();
        self.told.cancel();
    }
}

async fn watch_for_superseding(handle: Handle, superseding: Superseding) {
    let mut superseded = handle.superseded();
    // Ends without, where the process ends first.
    if let Ok(newer) = superseded.wait_for(Option::is_some).await.map(|newer| newer.clone())
        && let Some(newer) = newer
    {
        let (epoch, by) = (newer.epoch, newer.by);
        tracing::error!(
            epoch,
            by,
            "superseded: everything that would write is refused from now on, reads grow old; stop this process"
        );
        superseding.give_up();
    }
}
