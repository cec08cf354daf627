//! Removes what is too old, then what nobody names.
//!
//! Only the current epoch collects. Manifests go first, so that none ever names what is gone; then the objects that no manifest
//! names, that no snapshot under way may name, and that are older than any upload under way. What is gone already is removed.

use super::catalog::is_void;
use super::chain::ChainAt;
use super::chain_run::Chain;
use super::error::SnapshotError;
use super::layout::number;
use super::manifest::Manifest;
use super::plan::Known;
use super::steps::{Step, Steps};
use super::writer::Writer;
use crate::bucket::Object;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
    /// The chain that is being written, whether a manifest names it yet or not.
    pub chain: Option<Chain>,
    pub seen: tokio::sync::Mutex<Seen>,
    pub steps: Steps,
}

/// What stays of the manifests, and what goes.
#[derive(Debug, Default)]
struct Manifests {
    kept: BTreeSet<u64>,
    old: Vec<Object>,
    /// One that stays cannot be read.
    is_blind: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Collected {
    pub snapshots: usize,
    pub objects: usize,
    pub bytes: u64,
}

/// What manifests name, so that each is read once. They never change.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By number: which epoch it is of.
    epochs: BTreeMap<u64, u64>,
    /// Of each object the last manifest that names it.
    objects: HashMap<String, u64>,
    /// Where the writes after each are.
    chains: BTreeMap<u64, ChainAt>,
}

impl Seen {
    fn add(&mut self, manifest: &Manifest) {
        self.epochs.insert(manifest.sequence, manifest.epoch);
        if let Some(chain) = &manifest.chain {
            self.chains.insert(manifest.sequence, chain.clone());
        }
        for object in manifest.objects() {
            let last = self.objects.entry(object.to_owned()).or_default();
            *last = manifest.sequence.max(*last);
        }
    }

    /// Forgets what only older manifests name.
    fn keep(&mut self, kept: &BTreeSet<u64>) {
        let oldest = kept.first().copied().unwrap_or(u64::MAX);
        self.epochs.retain(|sequence, _| kept.contains(sequence));
        self.objects.retain(|_, last| *last >= oldest);
        self.chains.retain(|sequence, _| kept.contains(sequence));
    }

    /// The first segment of each chain that a manifest needs.
    fn first_segments(&self) -> HashMap<&str, u64> {
        let mut first = HashMap::new();
        for chain in self.chains.values() {
            let needed = first.entry(chain.name.as_str()).or_insert(chain.from);
            *needed = chain.from.min(*needed);
        }
        first
    }
}

impl Collector {
    pub(super) async fn collect(&self) -> Result<Collected, SnapshotError> {
        let writer = &self.writer;
        writer.check().await?;
        let mut seen = self.seen.lock().await;
        let Manifests { kept, old, is_blind } = self.manifests(&mut seen).await?;
        let mut collected = Collected { snapshots: old.len(), ..Collected::default() };
        self.remove(old).await?;
        self.steps.reached(Step::ManifestsCollected)?;
        if is_blind {
            // What a manifest names that cannot be read is unknown: nothing is removed until it is too old itself.
            return Ok(collected);
        }
        seen.keep(&kept);
        let garbage = self.garbage(&seen).await?;
        collected.objects = garbage.len();
        collected.bytes = garbage.iter().map(|object| object.bytes).sum();
        self.remove(garbage).await?;
        self.claims(&seen).await?;
        let (clock, unnamed) = (writer.clock, self.unnamed);
        let is_old = move |modified_ms| clock.age(modified_ms) > unnamed;
        collected.objects += writer.catalog.bucket.remove_unfinished(writer.catalog.layout.unit(), is_old).await?;
        Ok(collected)
    }

    /// Which manifests stay, and the objects of those that go.
    async fn manifests(&self, seen: &mut Seen) -> Result<Manifests, SnapshotError> {
        let catalog = &self.writer.catalog;
        let claims = catalog.claims().await?;
        let listed = catalog.numbered(&catalog.layout.manifests()).await?;
        let mut found = Manifests::default();
        let mut newest_is_kept = false;
        for (sequence, object) in listed.into_iter().rev() {
            if !seen.epochs.contains_key(&sequence) {
                match catalog.read(sequence).await {
                    // What a stale writer uploads is garbage, whoever wants it.
                    Ok(manifest) if is_void(manifest.epoch, sequence, &claims) => {
                        found.old.push(object);
                        continue;
                    }
                    Ok(manifest) => seen.add(&manifest),
                    Err(SnapshotError::NoSnapshot(_)) => continue,
                    Err(error @ SnapshotError::Damaged { .. }) if !self.is_old(&object) || !newest_is_kept => {
                        tracing::warn!(%error, "no garbage is collected while a manifest cannot be read");
                        found.is_blind = true;
                        continue;
                    }
                    Err(SnapshotError::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if self.is_old(&object) && newest_is_kept {
                found.old.push(object);
            } else {
                found.kept.insert(sequence);
                newest_is_kept = true;
            }
        }
        Ok(found)
    }

    fn is_old(&self, manifest: &Object) -> bool {
        self.writer.clock.age(manifest.modified_ms) > self.keep
    }

    async fn garbage(&self, seen: &Seen) -> Result<Vec<Object>, SnapshotError> {
        let Writer { catalog, clock, .. } = &*self.writer;
        let mut listed = catalog.bucket.list(&catalog.layout.files()).await?;
        listed.extend(catalog.bucket.list(&catalog.layout.pieces()).await?);
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let known: HashSet<&str> = known.objects().collect();
            listed.retain(|object| {
                let name = object.name.as_str();
                !seen.objects.contains_key(name) && !known.contains(name)
            });
        }
        listed.extend(self.old_segments(seen).await?);
        listed.extend(catalog.bucket.list("probe").await?);
        listed.retain(|object| clock.age(object.modified_ms) > self.unnamed);
        Ok(listed)
    }

    /// Segments that no snapshot needs.
    async fn old_segments(&self, seen: &Seen) -> Result<Vec<Object>, SnapshotError> {
        let catalog = &self.writer.catalog;
        let mut first = seen.first_segments();
        let current = self.chain.as_ref().and_then(Chain::name);
        if let Some(name) = &current {
            // Before its first manifest all of it may be needed.
            first.entry(name).or_insert(0);
        }
        let mut listed = catalog.bucket.list(&catalog.layout.segments()).await?;
        listed.retain(|object| {
            let chain = object.name.rsplit('/').nth(1).unwrap_or_default();
            let is_needed = first.get(chain).is_some_and(|first| number(&object.name).is_none_or(|at| at >= *first));
            !is_needed
        });
        Ok(listed)
    }

    /// The claims and leases of epochs before the oldest manifest say nothing any more. The newest claim stays.
    async fn claims(&self, seen: &Seen) -> Result<(), SnapshotError> {
        let catalog = &self.writer.catalog;
        let oldest = seen.epochs.values().min().copied().unwrap_or(0).min(self.writer.epoch);
        let mut old = Vec::new();
        for folder in [catalog.layout.epochs(), catalog.layout.leases(), catalog.layout.begins()] {
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
