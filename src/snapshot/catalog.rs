//! Which snapshots a prefix has.

use super::chain::ChainAt;
use super::error::SnapshotError;
use super::layout::{FORMAT, Layout, number};
use super::manifest::{Manifest, OBJECT_BYTES_MAX};
use crate::bucket::{Bucket, BucketError, Cause, Created, Object};
use crate::model::TsMs;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
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
}

/// Who began an epoch, and after which snapshot: what an older epoch writes beyond that is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub format: u32,
    pub epoch: u64,
    pub nonce: String,
    /// For people: host and process.
    pub holder: String,
    /// The number of the newest snapshot when the epoch began, 0 where there was none.
    pub after: u64,
}

/// After which segment of the chain before it an epoch begins: what is shipped behind that is void. Written once the epoch is
/// claimed, so an older one that finds no newer claim after it has shipped a segment knows that this segment counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub format: u32,
    pub epoch: u64,
    pub nonce: String,
    pub chain: String,
    /// The last segment that counts.
    pub last: u64,
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
        }
    }
}

impl Summary {
    /// Of a manifest that was read.
    pub fn of(manifest: &Manifest) -> Self {
        let (sequence, written_ms) = (manifest.sequence, manifest.taken_ms);
        Self { sequence, written_ms, state: State::Listed(Details::of(manifest)) }
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
        let claims = self.claims().await?;
        for (sequence, _) in self.numbered(&self.layout.manifests()).await?.into_iter().rev() {
            let manifest = match self.read(sequence).await {
                Err(error) if error.is_of_the_snapshot() => return Err(self.with_hint(sequence, error).await),
                read => read?,
            };
            if !is_void(manifest.epoch, manifest.sequence, &claims) {
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
        let claims = self.claims().await?;
        let listed = self.numbered(&self.layout.manifests()).await?;
        for (older, _) in listed.into_iter().rev().filter(|(older, _)| *older < sequence) {
            match self.read(older).await {
                Ok(manifest) if !is_void(manifest.epoch, manifest.sequence, &claims) => return Ok(Some(manifest)),
                Err(error) if !error.is_of_the_snapshot() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// All snapshots, the oldest first.
    pub async fn list(&self) -> Result<Vec<Summary>, SnapshotError> {
        let claims = self.claims().await?;
        let listed = self.numbered(&self.layout.manifests()).await?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).retain(|sequence, (read, _)| {
            listed.binary_search_by_key(sequence, |(listed, _)| *listed).is_ok_and(|at| listed[at].1 == *read)
        });
        let all_details = self.all_details(&listed).await;
        let mut summaries = Vec::new();
        for ((sequence, object), details) in listed.into_iter().zip(all_details) {
            let state = match details {
                Ok(details) if is_void(details.epoch, sequence, &claims) => State::Void(details),
                Ok(details) => State::Listed(details),
                // Removed since it was listed.
                Err(SnapshotError::NoSnapshot(_)) => continue,
                Err(error @ SnapshotError::Bucket(_)) => return Err(error),
                Err(error) => State::Unreadable { code: error.code(), why: error.to_string() },
            };
            summaries.push(Summary { sequence, written_ms: object.modified_ms, state });
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

    /// The highest number of a manifest, void ones as well; 0 where there is none.
    pub(super) async fn last_sequence(&self) -> Result<u64, BucketError> {
        Ok(self.numbered(&self.layout.manifests()).await?.last().map_or(0, |(sequence, _)| *sequence))
    }

    /// Every claim, in the order of their epochs.
    pub(super) async fn claims(&self) -> Result<Vec<Claim>, SnapshotError> {
        let listed = self.numbered(&self.layout.epochs()).await?;
        let mut claims = Vec::with_capacity(listed.len());
        for (epoch, object) in listed {
            match self.bucket.get(&object.name, CLAIM_BYTES_MAX).await {
                Ok(bytes) => claims.push(Claim::decode(&object.name, epoch, &bytes)?),
                // Collected since it was listed.
                Err(error) if error.cause == Cause::Missing => {}
                Err(error) => return Err(SnapshotError::of_object(error, 0)),
            }
        }
        Ok(claims)
    }

    /// The claim of the highest epoch with its listing, if there is any.
    pub(super) async fn newest_claim(&self) -> Result<Option<(Claim, Object)>, SnapshotError> {
        let Some((epoch, object)) = self.numbered(&self.layout.epochs()).await?.pop() else { return Ok(None) };
        let bytes = self.bucket.get(&object.name, CLAIM_BYTES_MAX).await?;
        Ok(Some((Claim::decode(&object.name, epoch, &bytes)?, object)))
    }

    /// The last segment that counts of a chain, for a snapshot of `epoch` that names it; and up to which one none is missing. One
    /// less than the first that is named where there is none.
    pub(super) async fn last_segment(&self, epoch: u64, chain: &ChainAt) -> Result<(u64, u64), SnapshotError> {
        // First: what is shipped behind the beginning of an epoch is void, however late it is seen.
        let bound = self.begins().await?.into_iter().filter(|begin| begin.epoch > epoch && begin.chain == chain.name);
        let bound = bound.map(|begin| begin.last).min();
        let listed = self.numbered(&self.layout.chain(&chain.name)).await?;
        let before = chain.from.saturating_sub(1);
        let newest = listed.last().map_or(before, |(number, _)| *number);
        let last = bound.unwrap_or(newest).max(before);
        let mut whole = before;
        for (number, _) in listed.iter().filter(|(number, _)| *number >= chain.from) {
            whole += u64::from(*number == whole + 1);
        }
        Ok((last, whole.min(last)))
    }

    /// Where each epoch began that had a chain before it.
    async fn begins(&self) -> Result<Vec<Begin>, SnapshotError> {
        let mut begins = Vec::new();
        for (_, object) in self.numbered(&self.layout.begins()).await? {
            match self.bucket.get(&object.name, CLAIM_BYTES_MAX).await {
                Ok(bytes) => begins.push(serde_json::from_slice(&bytes).map_err(|error| SnapshotError::Damaged {
                    object: object.name.clone(),
                    what: error.to_string(),
                })?),
                // Collected since it was listed.
                Err(error) if error.cause == Cause::Missing => {}
                Err(error) => return Err(SnapshotError::of_object(error, 0)),
            }
        }
        Ok(begins)
    }

    /// Says after which segment of the chain of `newest` the epoch of a claim begins.
    pub(super) async fn begin(&self, claim: &Claim, newest: &Manifest) -> Result<(), SnapshotError> {
        let Some(chain) = &newest.chain else { return Ok(()) };
        // Should one be missing, a restore says so.
        let (last, _) = self.last_segment(newest.epoch, chain).await?;
        let (epoch, nonce, chain) = (claim.epoch, claim.nonce.clone(), chain.name.clone());
        let begin = Begin { format: FORMAT, epoch, nonce, chain, last };
        let json = serde_json::to_vec(&begin).map_err(|error| SnapshotError::Internal(error.to_string()))?;
        match self.bucket.create(&self.layout.begin(epoch), Bytes::from(json)).await? {
            Created::Ours => Ok(()),
            Created::Theirs(_) => Err(SnapshotError::Internal(format!("somebody else has epoch {epoch}"))),
        }
    }

    /// Creates the claim of an epoch; `None` if somebody else has it.
    pub(super) async fn claim(&self, claim: &Claim) -> Result<bool, SnapshotError> {
        let json = serde_json::to_vec(claim).map_err(|error| SnapshotError::Internal(error.to_string()))?;
        Ok(self.bucket.create(&self.layout.epoch(claim.epoch), Bytes::from(json)).await? == Created::Ours)
    }
}

impl Claim {
    fn decode(object: &str, epoch: u64, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
        let claim: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if claim.format > FORMAT {
            return Err(SnapshotError::NewerFormat { object: object.to_owned(), found: claim.format });
        }
        if claim.epoch == epoch { Ok(claim) } else { Err(damaged(format!("it says that it is epoch {}", claim.epoch))) }
    }
}

/// Whether a later epoch had begun, after an earlier snapshot, when this one was written.
pub(super) fn is_void(epoch: u64, sequence: u64, claims: &[Claim]) -> bool {
    claims.iter().any(|claim| claim.epoch > epoch && sequence > claim.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_epoch_writes_after_a_newer_began_is_void() {
        let claim = |epoch, after| Claim { format: 1, epoch, nonce: String::new(), holder: String::new(), after };
        let claims = [claim(1, 0), claim(2, 10), claim(4, 20)];
        for (epoch, sequence, void) in [
            (1, 10, false),
            (1, 11, true),
            (2, 11, false),
            (2, 20, false),
            (2, 21, true),
            (3, 21, true),
            (4, 21, false),
        ] {
            assert_eq!(is_void(epoch, sequence, &claims), void, "epoch {epoch}, snapshot {sequence}");
        }
    }
}
