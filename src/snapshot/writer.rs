//! The one writer of a prefix: its epoch and its lease.
//!
//! Whoever writes snapshots first creates the claim of an epoch, one higher than all before, which only one process can. The
//! claim says after which snapshot the epoch begins: what an older epoch writes beyond that is void, so a stale writer cannot
//! add to the history, however late its manifest comes. The lease is an object of the epoch that its owner alone writes, again
//! and again: nobody needs to compare and set it, and its age is told by the bucket's own clock on both sides.

use super::catalog::{Catalog, Claim};
use super::data_dir::{Mark, place};
use super::error::SnapshotError;
use super::layout::FORMAT;
use super::manifest::Manifest;
use crate::bucket::{BucketClock, BucketError, Cause, probe};
use crate::random::random_id;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The lease of another process is looked at this often at least.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// How a process becomes the writer.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Who this is, for people who read messages: host and process.
    pub holder: String,
    /// Does not wait for the lease of a live writer, which is thereby superseded.
    pub takeover: bool,
    /// Begins an epoch though the newest manifest cannot be read: which snapshot to restore was chosen by hand.
    pub pass_over_damage: bool,
    /// How long a lease holds without being renewed, by the bucket's clock.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How long to wait, for the lease or for a bucket that is away; `None`: for ever.
    pub wait_max: Option<Duration>,
}

impl WriterOptions {
    /// As in production: a lease of 30 s, renewed every 10 s, waited for without end.
    pub fn new(holder: String) -> Self {
        Self {
            holder,
            takeover: false,
            pass_over_damage: false,
            lease: Duration::from_secs(30),
            renew: Duration::from_secs(10),
            wait_max: None,
        }
    }
}

/// What is being waited for, for `/readyz` and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Another process has the lease.
    Lease {
        /// Who.
        by: String,
        /// Its epoch.
        epoch: u64,
    },
    /// The bucket does not answer.
    Bucket(String),
}

/// A newer epoch was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// Which.
    pub epoch: u64,
    /// Who began it.
    pub by: String,
}

/// An epoch of ours, and its lease for as long as this lives. Dropped without [`Writer::release`], the lease runs out.
#[derive(Debug)]
pub struct Writer {
    pub(super) catalog: Catalog,
    pub(super) epoch: u64,
    pub(super) clock: BucketClock,
    /// The newest snapshot when the epoch began.
    pub(super) began_after: Option<Manifest>,
    lease: Lease,
    superseded: watch::Sender<Option<Newer>>,
    _renewing: DropGuard,
}

/// The lease as it is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    epoch: u64,
    nonce: String,
    holder: String,
    /// Given up by its owner, after its last snapshot.
    released: bool,
}

/// What the data directory was before it was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local<'a> {
    /// It is empty, or is to be replaced: a snapshot is restored into it, or a new store begins.
    Nothing,
    /// It has the store of this id, which is open: nobody else has the directory. It must not be behind the bucket.
    Store(&'a Path, &'a str),
}

impl Writer {
    /// Waits until no other process writes under this prefix and begins a new epoch. Refuses a data directory that the
    /// bucket has overtaken, or of another store, without beginning one.
    pub async fn acquire(
        catalog: Catalog,
        options: &WriterOptions,
        local: Local<'_>,
        tell: &(dyn Fn(Waiting) + Send + Sync),
        stop: &CancellationToken,
    ) -> Result<Self, SnapshotError> {
        let mut wait = Wait { since: Instant::now(), seen: None };
        loop {
            let error = match attempt(&catalog, options, local, &mut wait).await {
                Ok(Attempt::Began(begun)) => return Self::begin(catalog, options, *begun).await,
                Ok(Attempt::Held(by, epoch)) => {
                    tell(Waiting::Lease { by: by.clone(), epoch });
                    SnapshotError::LeaseHeld { by, epoch }
                }
                // Somebody else was quicker.
                Ok(Attempt::Lost) => continue,
                Err(error) if error.is_passing() => {
                    tell(Waiting::Bucket(error.to_string()));
                    error
                }
                Err(error) => return Err(error),
            };
            if options.wait_max.is_some_and(|wait_max| wait.since.elapsed() >= wait_max) {
                return Err(error);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(SnapshotError::Stopped),
                () = tokio::time::sleep((options.lease / 15).min(POLL_INTERVAL_MAX)) => {}
            }
        }
    }

    async fn begin(catalog: Catalog, options: &WriterOptions, begun: Begun) -> Result<Self, SnapshotError> {
        if let Some(newest) = &begun.after {
            catalog.begin(&begun.claim, newest).await?;
        }
        let Begun { claim: Claim { epoch, nonce, holder, after, .. }, after: began_after, clock } = begun;
        tracing::info!(epoch, after, prefix = catalog.prefix(), "began an epoch of snapshots");
        let lease = Lease { epoch, nonce, holder, released: false };
        // The claim is as good as a first renewal.
        if let Err(error) = write_lease(&catalog, &lease).await {
            tracing::warn!(%error, "the lease could not be written; it is tried again");
        }
        let (superseded, _) = watch::channel(None);
        let stop = CancellationToken::new();
        let renewing = Renewing { catalog: catalog.clone(), lease: lease.clone(), superseded: superseded.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(renewing.run(options.renew)));
        Ok(Self { catalog, epoch, clock, began_after, lease, superseded, _renewing: stop.drop_guard() })
    }

    /// Our epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The snapshots of its prefix.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The newest snapshot when the epoch began: what an empty data directory is restored from.
    pub fn newest(&self) -> Option<&Manifest> {
        self.began_after.as_ref()
    }

    /// Tells when a newer epoch is found: then this process must stop its mirror and answer events with 503 `superseded`.
    pub fn superseded(&self) -> watch::Receiver<Option<Newer>> {
        self.superseded.subscribe()
    }

    /// Looks whether a newer epoch has begun.
    pub async fn check(&self) -> Result<(), SnapshotError> {
        if let Some(newer) = find_newer(&self.catalog, self.epoch, &self.superseded).await? {
            return Err(SnapshotError::Superseded { ours: self.epoch, newer: newer.epoch, by: newer.by });
        }
        Ok(())
    }

    /// Writes what the directory has to know before its first snapshot: the store is open by now, so its id is known. Refuses
    /// a store that the prefix is not of, and a directory that the bucket has overtaken.
    pub fn attach(&self, dir: &Path, store_id: &str) -> Result<(), SnapshotError> {
        let prefix = self.catalog.prefix();
        let found = Mark::read(dir)?.filter(|mark| mark.prefix == prefix && mark.store_id == store_id);
        check_local(&self.catalog, self.began_after.as_ref(), found.as_ref(), dir, store_id)?;
        let new = Mark { prefix, store_id: store_id.to_owned(), ..Mark::default() };
        let (claim, place) = (self.lease.nonce.clone(), place(dir)?);
        Mark { epoch: self.epoch, claim, place, ..found.unwrap_or(new) }.write(dir)
    }

    /// Whether another process wrote to the bucket after the store in this directory did.
    pub fn is_overtaking(&self, dir: &Path) -> Result<bool, SnapshotError> {
        let prefix = self.catalog.prefix();
        let Some(mark) = Mark::read(dir)?.filter(|mark| mark.prefix == prefix) else { return Ok(false) };
        match check_local(&self.catalog, self.began_after.as_ref(), Some(&mark), dir, &mark.store_id) {
            Err(SnapshotError::DataDirSuperseded { .. }) => Ok(true),
            checked => checked.map(|()| false),
        }
    }

    /// Gives the lease up: another process need not wait until it has run out.
    pub async fn release(self) -> Result<(), BucketError> {
        if self.superseded.borrow().is_some() {
            return Ok(());
        }
        write_lease(&self.catalog, &Lease { released: true, ..self.lease.clone() }).await
    }
}

/// An epoch that was just begun.
struct Begun {
    claim: Claim,
    after: Option<Manifest>,
    clock: BucketClock,
}

enum Attempt {
    Began(Box<Begun>),
    Held(String, u64),
    Lost,
}

/// What was seen while waiting.
struct Wait {
    since: Instant,
    /// The lease that was seen last, when it had been written, and since when it has not been written again.
    seen: Option<(u64, u64, Instant)>,
}

async fn attempt(
    catalog: &Catalog,
    options: &WriterOptions,
    local: Local<'_>,
    wait: &mut Wait,
) -> Result<Attempt, SnapshotError> {
    let clock = probe(&catalog.bucket).await?;
    let prefix = catalog.prefix();
    let mark = match local {
        Local::Nothing => None,
        Local::Store(dir, store_id) => {
            Mark::read(dir)?.filter(|mark| mark.prefix == prefix && mark.store_id == store_id)
        }
    };
    let held = catalog.newest_claim().await?;
    let last = held.as_ref().map_or(0, |(claim, _)| claim.epoch);
    if let Some((claim, object)) = held
        && !options.takeover
        && !was_here(local, mark.as_ref(), &claim)?
        && is_held(catalog, options, &clock, &claim, object.modified_ms, wait).await?
    {
        // A directory that was overtaken is so whoever goes on: nobody need wait to be told.
        if let Local::Store(dir, store_id) = local {
            check_local(catalog, catalog.newest().await?.as_ref(), mark.as_ref(), dir, store_id)?;
        }
        return Ok(Attempt::Held(claim.holder, claim.epoch));
    }
    let (newest, after) = match catalog.newest().await {
        Err(error @ SnapshotError::DamagedSnapshot { sequence, .. }) if options.pass_over_damage => {
            tracing::error!(
                %error,
                "the newest snapshot is passed over: users who were erased since the one before it are not known, so erase them again"
            );
            (catalog.before(sequence).await?, sequence)
        }
        newest => {
            let newest = newest?;
            let after = newest.as_ref().map_or(0, |newest| newest.sequence);
            (newest, after)
        }
    };
    if let Local::Store(dir, store_id) = local {
        check_local(catalog, newest.as_ref(), mark.as_ref(), dir, store_id)?;
    }
    let claim = Claim { format: FORMAT, epoch: last + 1, nonce: random_id(), holder: options.holder.clone(), after };
    if catalog.claim(&claim).await? {
        Ok(Attempt::Began(Box::new(Begun { claim, after: newest, clock })))
    } else {
        Ok(Attempt::Lost)
    }
}

/// Whether the holder of a claim was a process on this very directory, which we have locked: then it is dead, and a restart
/// after a crash need not wait for its lease.
fn was_here(local: Local<'_>, mark: Option<&Mark>, claim: &Claim) -> Result<bool, SnapshotError> {
    let (Local::Store(dir, _), Some(mark)) = (local, mark) else { return Ok(false) };
    Ok(mark.claim == claim.nonce && mark.place == place(dir)?)
}

/// Whether the lease of a claim still holds: by the bucket's clock, or, should that clock jump, because it is seen to be
/// written.
async fn is_held(
    catalog: &Catalog,
    options: &WriterOptions,
    clock: &BucketClock,
    claim: &Claim,
    claimed_ms: u64,
    wait: &mut Wait,
) -> Result<bool, SnapshotError> {
    let name = catalog.layout.lease(claim.epoch);
    let written_ms = match catalog.bucket.get(&name, 64 << 10).await {
        Ok(bytes) => {
            if serde_json::from_slice(&bytes).is_ok_and(|lease: Lease| lease.released && lease.nonce == claim.nonce) {
                return Ok(false);
            }
            catalog.bucket.head(&name).await?.modified_ms.max(claimed_ms)
        }
        Err(error) if error.cause == Cause::Missing => claimed_ms,
        Err(error) => return Err(error.into()),
    };
    let since = match wait.seen {
        Some((epoch, seen_ms, since)) if (epoch, seen_ms) == (claim.epoch, written_ms) => since,
        _ => Instant::now(),
    };
    wait.seen = Some((claim.epoch, written_ms, since));
    Ok(clock.age(written_ms) <= options.lease && since.elapsed() <= options.lease + options.renew)
}

/// Refuses a data directory that the bucket has overtaken, or of another store.
fn check_local(
    catalog: &Catalog,
    newest: Option<&Manifest>,
    mark: Option<&Mark>,
    dir: &Path,
    store_id: &str,
) -> Result<(), SnapshotError> {
    let Some(newest) = newest else { return Ok(()) };
    if newest.store_id != store_id {
        return Err(SnapshotError::OtherStore {
            prefix: catalog.prefix(),
            found: newest.store_id.clone(),
            ours: store_id.to_owned(),
        });
    }
    let ours = mark.map_or(0, |mark| mark.epoch);
    let is_ours = mark.is_some_and(|mark| mark.has_written(newest));
    // Nothing was written since the epoch of the directory began; or the bucket has lost what we wrote last.
    let is_behind = mark.is_some_and(|mark| {
        newest.epoch < mark.epoch || (newest.epoch == mark.epoch && newest.sequence < mark.sequence)
    });
    if is_ours || is_behind {
        return Ok(());
    }
    Err(SnapshotError::DataDirSuperseded { dir: PathBuf::from(dir), ours, newer: newest.epoch })
}

/// Renews the lease, and looks for a newer epoch before each time.
struct Renewing {
    catalog: Catalog,
    lease: Lease,
    superseded: watch::Sender<Option<Newer>>,
}

impl Renewing {
    async fn run(self, every: Duration) {
        let mut is_away = false;
        loop {
            tokio::time::sleep(every).await;
            match find_newer(&self.catalog, self.lease.epoch, &self.superseded).await {
                Ok(Some(newer)) => {
                    let Newer { epoch, by } = newer;
                    tracing::error!(
                        ours = self.lease.epoch,
                        newer = epoch,
                        by,
                        "superseded: another process writes here"
                    );
                    return;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot look for a newer epoch");
                }
            }
            let renewed = write_lease(&self.catalog, &self.lease).await;
            if let Err(error) = &renewed {
                let code = error.cause.code();
                metrics::counter!("freqcap_snapshot_errors_total", "during" => "lease", "code" => code).increment(1);
            }
            match renewed {
                Ok(()) if is_away => {
                    is_away = false;
                    tracing::info!("the lease of the snapshots is renewed again");
                }
                Ok(()) => {}
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "the lease of the snapshots cannot be renewed; it is tried again");
                }
                Err(_) => {}
            }
        }
    }
}

/// A newer epoch, if there is one; whoever listens is told.
async fn find_newer(
    catalog: &Catalog,
    ours: u64,
    superseded: &watch::Sender<Option<Newer>>,
) -> Result<Option<Newer>, SnapshotError> {
    if let Some(newer) = superseded.borrow().clone() {
        return Ok(Some(newer));
    }
    let Some((epoch, _)) = catalog.numbered(&catalog.layout.epochs()).await?.pop().filter(|(epoch, _)| *epoch > ours)
    else {
        return Ok(None);
    };
    // Who it is matters to people alone.
    let by = match catalog.newest_claim().await {
        Ok(Some((claim, _))) => claim.holder,
        Ok(None) | Err(_) => "another process".to_owned(),
    };
    let newer = Newer { epoch, by };
    superseded.send_replace(Some(newer.clone()));
    Ok(Some(newer))
}

async fn write_lease(catalog: &Catalog, lease: &Lease) -> Result<(), BucketError> {
    // A lease of our own types is JSON for certain; an empty one holds as well.
    let json = serde_json::to_vec(lease).unwrap_or_default();
    catalog.bucket.put(&catalog.layout.lease(lease.epoch), Bytes::from(json)).await
}
