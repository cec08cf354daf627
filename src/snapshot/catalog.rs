//! Which snapshots a prefix has.

use super::chain::ChainAt;
use super::claim::{Begin, Bound, Claim, is_void};
use super::error::SnapshotError;
use super::layout::{Layout, number};
use super::manifest::{Manifest, OBJECT_BYTES_MAX};
use crate::bucket::{Bucket, BucketError, Cause, Object};
use crate::model::TsMs;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Small objects that are read at once.
const READS_AT_ONCE: usize = 16;

/// A claim or a lease of more is not one of ours.
const CLAIM_BYTES_MAX: usize = 64 << 10;

/// The snapshots of one unit under a prefix; cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) bucket: Bucket,
    pub(super) layout: Layout,
    /// What was read of manifests that are listed: they never change, so each is read once.
    read: Arc<Mutex<HashMap<u64, (Object, Details)>>>,
}

/// Which snapshot is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Newest,
    /// The one of this number.
    Sequence(u64),
    /// The newest that was taken at this time or before.
    At(TsMs),
}

/// A snapshot in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its number; the highest is the newest.
    pub sequence: u64,
    /// When its manifest was written, in ms since 1970 by the bucket's clock.
    pub written_ms: u64,
    /// What its manifest says.
    pub state: State,
    /// How far the writes after it are in the bucket, if they are shipped and this was asked for.
    pub reach: Option<Reach>,
}

/// How far the writes after a snapshot are in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Segments after it.
    pub segments: u64,
    /// When the last of them was written, in ms since 1970 by the bucket's clock.
    pub to_ms: Option<u64>,
}

/// What a manifest says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can be restored, as far as the manifest tells.
    Listed(Details),
    /// A superseded writer made it after its epoch had ended: it is no part of the history.
    Void(Details),
    /// The manifest cannot be read.
    Unreadable {
        /// The stable code.
        code: &'static str,
        /// Why.
        why: String,
    },
}

/// Of what is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The store.
    pub store_id: String,
    /// Which writer took it.
    pub epoch: u64,
    /// When it was begun, in ms since 1970 by the service's clock.
    pub taken_ms: u64,
    /// The size of the data directory.
    pub bytes: u64,
    /// How many files it has.
    pub files: usize,
    /// The revision of the rules.
    pub rules_revision: u64,
    /// Where the writes after it are, if they are shipped.
    pub chain: Option<ChainAt>,
}

impl Details {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            store_id: manifest.store_id.clone(),
            epoch: manifest.epoch,
            taken_ms: manifest.taken_ms,
            bytes: manifest.bytes(),
            files: manifest.files.len(),
            rules_revision: manifest.rules_revision,
            chain: manifest.chain.clone(),
        }
    }
}

impl Summary {
    /// Of a manifest that was read.
    pub fn of(manifest: &Manifest) -> Self {
        let (sequence, written_ms) = (manifest.sequence, manifest.taken_ms);
        Self { sequence, written_ms, state: State::Listed(Details::of(manifest)), reach: None }
    }
}

impl Catalog {
    /// The snapshots of the unit `unit`.
    pub fn new(bucket: Bucket, unit: &str) -> Self {
        Self { bucket, layout: Layout::new(unit), read: Arc::default() }
    }

    /// How the prefix is called in messages.
    pub fn prefix(&self) -> String {
        format!("{}/{}", self.bucket.name(), self.layout.unit())
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The newest snapshot. One that cannot be read is an error: it does not mean that there is none.
    pub async fn newest(&self) -> Result<Option<Manifest>, SnapshotError> {
        let bounds = self.bounds().await?;
        for (sequence, _) in self.numbered(&self.layout.manifests()).await?.into_iter().rev() {
            let manifest = match self.read(sequence).await {
                Err(error) if error.is_of_the_snapshot() => return Err(self.with_hint(sequence, error).await),
                read => read?,
            };
            if !is_void(manifest.epoch, manifest.sequence, &bounds) {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// What is wrong with a snapshot, and which one is before it.
    pub(super) async fn with_hint(&self, sequence: u64, source: SnapshotError) -> SnapshotError {
        let hint = match self.before(sequence).await {
            Ok(Some(older)) => format!("snapshot {} of {} ms since 1970 is before it", older.sequence, older.taken_ms),
            Ok(None) => "there is none before it that can be read".to_owned(),
            Err(error) => format!("whether there is one before it is not known: {error}"),
        };
        SnapshotError::DamagedSnapshot { sequence, source: Box::new(source), hint }
    }

    /// The snapshot that is meant.
    pub async fn find(&self, which: Which) -> Result<Manifest, SnapshotError> {
        match which {
            Which::Newest => {
                let none = || SnapshotError::NoSnapshot(format!("under {}", self.prefix()));
                self.newest().await?.ok_or_else(none)
            }
            Which::Sequence(sequence) => self.read(sequence).await,
            Which::At(time) => {
                let found = self.list().await?.into_iter().rev().find(|summary| match &summary.state {
                    State::Listed(details) => details.taken_ms <= time.0,
                    State::Void(_) | State::Unreadable { .. } => false,
                });
                let Some(found) = found else {
                    return Err(SnapshotError::NoSnapshot(format!("of {} ms since 1970 or before", time.0)));
                };
                self.read(found.sequence).await
            }
        }
    }

    /// The newest snapshot before `sequence` whose manifest can be read.
    pub async fn before(&self, sequence: u64) -> Result<Option<Manifest>, SnapshotError> {
        let bounds = self.bounds().await?;
        let listed = self.numbered(&self.layout.manifests()).await?;
        for (older, _) in listed.into_iter().rev().filter(|(older, _)| *older < sequence) {
            match self.read(older).await {
                Ok(manifest) if !is_void(manifest.epoch, manifest.sequence, &bounds) => return Ok(Some(manifest)),
                Err(error) if !error.is_of_the_snapshot() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// All snapshots, the oldest first.
    pub async fn list(&self) -> Result<Vec<Summary>, SnapshotError> {
        let bounds = self.bounds().await?;
        let listed = self.numbered(&self.layout.manifests()).await?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).retain(|sequence, (read, _)| {
            listed.binary_search_by_key(sequence, |(listed, _)| *listed).is_ok_and(|at| listed[at].1 == *read)
        });
        let all_details = self.all_details(&listed).await;
        let mut summaries = Vec::new();
        for ((sequence, object), details) in listed.into_iter().zip(all_details) {
            let state = match details {
                Ok(details) if is_void(details.epoch, sequence, &bounds) => State::Void(details),
                Ok(details) => State::Listed(details),
                // Removed since it was listed.
                Err(SnapshotError::NoSnapshot(_)) => continue,
                Err(error @ SnapshotError::Bucket(_)) => return Err(error),
                Err(error) => State::Unreadable { code: error.code(), why: error.to_string() },
            };
            summaries.push(Summary { sequence, written_ms: object.modified_ms, state, reach: None });
        }
        Ok(summaries)
    }

    /// The manifest of one snapshot.
    pub async fn read(&self, sequence: u64) -> Result<Manifest, SnapshotError> {
        let object = self.layout.manifest(sequence);
        let bytes = self.bucket.get(&object, OBJECT_BYTES_MAX).await.map_err(|error| match error.cause {
            Cause::Missing => SnapshotError::NoSnapshot(sequence.to_string()),
            _ => SnapshotError::of_object(error, sequence),
        })?;
        Manifest::decode(&object, sequence, &bytes)
    }

    /// What is in each of the snapshots, in their order. A manifest is let go of once it was read: together they are large.
    async fn all_details(&self, listed: &[(u64, Object)]) -> Vec<Result<Details, SnapshotError>> {
        let permits = Arc::new(Semaphore::new(READS_AT_ONCE));
        let mut reads = JoinSet::new();
        for (place, (sequence, object)) in listed.iter().cloned().enumerate() {
            let (catalog, permits) = (self.clone(), permits.clone());
            reads.spawn(async move {
                let _permit = permits.acquire().await;
                (place, catalog.details(sequence, object).await)
            });
        }
        let mut found = reads.join_all().await;
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, details)| details).collect()
    }

    async fn details(&self, sequence: u64, object: Object) -> Result<Details, SnapshotError> {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&sequence).cloned();
        if let Some((_, details)) = known.filter(|(read, _)| *read == object) {
            return Ok(details);
        }
        let details = Details::of(&self.read(sequence).await?);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(sequence, (object, details.clone()));
        Ok(details)
    }

    /// The numbered objects of a folder, in order.
    pub(super) async fn numbered(&self, folder: &str) -> Result<Vec<(u64, Object)>, BucketError> {
        let objects = self.bucket.list(folder).await?;
        Ok(objects.into_iter().filter_map(|object| Some((number(&object.name)?, object))).collect())
    }

    /// Those of a folder behind the object of a name, in order.
    pub(super) async fn numbered_after(&self, folder: &str, after: &str) -> Result<Vec<(u64, Object)>, BucketError> {
        let objects = self.bucket.list_after(folder, after).await?;
        Ok(objects.into_iter().filter_map(|object| Some((number(&object.name)?, object))).collect())
    }

    /// The highest number of a manifest, void ones as well; 0 where there is none.
    pub(super) async fn last_sequence(&self) -> Result<u64, BucketError> {
        Ok(self.numbered(&self.layout.manifests()).await?.last().map_or(0, |(sequence, _)| *sequence))
    }

    /// The claim of the highest epoch with its listing, if there is any.
    pub(super) async fn newest_claim(&self) -> Result<Option<(Claim, Object)>, SnapshotError> {
        let Some((epoch, object)) = self.numbered(&self.layout.epochs()).await?.pop() else { return Ok(None) };
        let bytes = self.bucket.get(&object.name, CLAIM_BYTES_MAX).await?;
        Ok(Some((Claim::decode(&object.name, epoch, &bytes)?, object)))
    }

    /// Where epochs began. Read before anything is listed that they bound: what is written behind a beginning is void, however
    /// late it is seen.
    pub(super) async fn bounds(&self) -> Result<Vec<Bound>, SnapshotError> {
        let mut claims = self.numbered(&self.layout.epochs()).await?;
        let begins = self.begins().await?;
        let mut bounds: Vec<Bound> = begins.iter().filter_map(Begin::bound).collect();
        // The claim says so only in version 1.
        claims.retain(|(epoch, _)| !bounds.iter().any(|bound| bound.epoch == *epoch));
        let claims = self.read_small(claims, Claim::decode).await?;
        bounds.extend(claims.iter().filter_map(Claim::bound));
        Ok(bounds)
    }

    /// Every beginning, in the order of their epochs.
    pub(super) async fn begins(&self) -> Result<Vec<Begin>, SnapshotError> {
        let listed = self.numbered(&self.layout.begins()).await?;
        self.read_small(listed, Begin::decode).await
    }

    /// Small objects that are listed, in order; what was collected since is left out.
    async fn read_small<T>(
        &self,
        listed: Vec<(u64, Object)>,
        decode: fn(&str, u64, &[u8]) -> Result<T, SnapshotError>,
    ) -> Result<Vec<T>, SnapshotError> {
        let mut all = Vec::with_capacity(listed.len());
        for some in listed.chunks(READS_AT_ONCE) {
            let reads = some.iter().map(|(_, object)| self.bucket.get(&object.name, CLAIM_BYTES_MAX));
            for (read, (number, object)) in futures_util::future::join_all(reads).await.into_iter().zip(some) {
                match read {
                    Ok(bytes) => all.push(decode(&object.name, *number, &bytes)?),
                    Err(error) if error.cause == Cause::Missing => {}
                    Err(error) => return Err(SnapshotError::of_object(error, 0)),
                }
            }
        }
        Ok(all)
    }
}
