//! Removes what is too old, then what nobody names.
//!
//! Only the current epoch collects. Manifests go first, so that none ever names what is gone; then the objects that no manifest
//! names, that no snapshot under way may name, and that are older than any upload under way. What is gone already is removed.

use super::catalog::{Catalog, is_void};
use super::error::SnapshotError;
use super::manifest::Manifest;
use super::plan::Known;
use super::steps::{Step, Steps};
use super::writer::Writer;
use crate::bucket::{BucketClock, Object};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Objects that are removed before the epoch is looked at again.
const BATCH: usize = 500;

/// Collects the garbage of one unit.
pub(super) struct Collector {
    pub writer: Arc<Writer>,
    /// What the next snapshot may name.
    pub known: Arc<Mutex<Known>>,
    /// How long manifests are kept.
    pub keep: Duration,
    /// How old an object must be that no manifest names: older than any upload under way.
    pub unnamed: Duration,
    pub steps: Steps,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Collected {
    pub snapshots: usize,
    pub objects: usize,
    pub bytes: u64,
}

impl Collector {
    pub(super) async fn collect(&self) -> Result<Collected, SnapshotError> {
        let writer = &self.writer;
        let catalog = &writer.catalog;
        writer.check().await?;
        let (kept, old) = self.manifests(catalog, &writer.clock).await?;
        let mut collected = Collected { snapshots: old.len(), ..Collected::default() };
        self.remove(old).await?;
        self.steps.reached(Step::ManifestsCollected)?;
        let Some(kept) = kept else {
            // What a manifest names that cannot be read is unknown: nothing is removed until it is too old itself.
            return Ok(collected);
        };
        let garbage = self.garbage(catalog, &kept).await?;
        collected.objects = garbage.len();
        collected.bytes = garbage.iter().map(|object| object.bytes).sum();
        self.remove(garbage).await?;
        self.claims(catalog, &kept).await?;
        Ok(collected)
    }

    /// The manifests that stay, and the objects of those that go. `None` in place of the first if one that stays cannot be
    /// read.
    async fn manifests(
        &self,
        catalog: &Catalog,
        clock: &BucketClock,
    ) -> Result<(Option<Vec<Manifest>>, Vec<Object>), SnapshotError> {
        let claims = catalog.claims().await?;
        let listed = catalog.numbered(&catalog.layout.manifests()).await?;
        let read = catalog.read_all(listed.iter().map(|(sequence, _)| *sequence)).await;
        let newest = read.iter().rposition(|manifest| matches!(manifest, Ok(manifest) if !is_void(manifest, &claims)));
        let (mut kept, mut old, mut is_blind) = (Vec::new(), Vec::new(), false);
        for (place, ((_, object), manifest)) in listed.into_iter().zip(read).enumerate() {
            let is_old = clock.age(object.modified_ms) > self.keep && newest.is_some_and(|newest| place < newest);
            match manifest {
                // A try of a stale writer may be under way, but what it uploads is garbage in any case.
                Ok(manifest) if is_old || is_void(&manifest, &claims) => old.push(object),
                Ok(manifest) => kept.push(manifest),
                Err(SnapshotError::NoSnapshot(_)) => {}
                Err(SnapshotError::Damaged { .. }) if is_old => old.push(object),
                Err(error @ SnapshotError::Damaged { .. }) => {
                    tracing::warn!(%error, "no garbage is collected while a manifest cannot be read");
                    is_blind = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(((!is_blind).then_some(kept), old))
    }

    async fn garbage(&self, catalog: &Catalog, kept: &[Manifest]) -> Result<Vec<Object>, SnapshotError> {
        let mut listed = catalog.bucket.list(&catalog.layout.files()).await?;
        listed.extend(catalog.bucket.list(&catalog.layout.pieces()).await?);
        let clock = &self.writer.clock;
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let named: HashSet<&str> = kept.iter().flat_map(Manifest::objects).chain(known.objects()).collect();
            listed.retain(|object| !named.contains(object.name.as_str()));
        }
        listed.extend(catalog.bucket.list("probe").await?);
        listed.retain(|object| clock.age(object.modified_ms) > self.unnamed);
        Ok(listed)
    }

    /// The claims and leases of epochs before the oldest manifest say nothing any more. The newest claim stays.
    async fn claims(&self, catalog: &Catalog, kept: &[Manifest]) -> Result<(), SnapshotError> {
        let oldest = kept.iter().map(|manifest| manifest.epoch).min().unwrap_or(0).min(self.writer.epoch);
        let mut old = Vec::new();
        for folder in [catalog.layout.epochs(), catalog.layout.leases()] {
            let numbered = catalog.numbered(&folder).await?;
            old.extend(numbered.into_iter().filter(|(epoch, _)| *epoch < oldest).map(|(_, object)| object));
        }
        self.remove(old).await
    }

    async fn remove(&self, mut objects: Vec<Object>) -> Result<(), SnapshotError> {
        while !objects.is_empty() {
            let batch = objects.split_off(objects.len().saturating_sub(BATCH));
            self.writer.check().await?;
            let names = batch.into_iter().map(|object| object.name).collect();
            self.writer.catalog.bucket.delete_all(names).await?;
            self.steps.reached(Step::BatchCollected)?;
        }
        Ok(())
    }
}
