//! Takes a snapshot: checkpoint, upload of what is new, manifest.
//!
//! Killed at any step it leaves either the snapshot before it or the new one. What was uploaded is used by the next try of
//! this epoch, and collected as garbage otherwise.

use super::chain::ChainAt;
use super::chain_run::Chain;
use super::data_dir::{CHECKPOINT, MARK, Mark, remove_checkpoint};
use super::error::SnapshotError;
use super::layout::FORMAT;
use super::manifest::{File, Manifest};
use super::plan::{Known, Planned};
use super::source::Source;
use super::steps::{Step, Steps};
use super::upload::{blocking, upload};
use super::writer::Writer;
use crate::bucket::{Created, Object};
use crate::model::TsMs;
use crate::random::random_id;
use crate::store::{Checkpoint, RESTORING};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Takes the snapshots of one epoch.
pub(super) struct Taker {
    pub(super) writer: Arc<Writer>,
    source: Arc<dyn Source>,
    dir: PathBuf,
    mark: Mark,
    known: Arc<Mutex<Known>>,
    has_base: bool,
    /// The chain that manifests name, and how many bytes may wait to be shipped.
    shipping: Option<(Chain, usize)>,
    /// Files that are uploaded at once. Each holds one part in memory.
    uploads: usize,
    /// Bytes that were uploaded and not yet reported, whatever became of their snapshot.
    sent: Arc<AtomicU64>,
    steps: Steps,
}

/// A snapshot that was taken.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub manifest: Manifest,
    /// What was in the bucket already.
    pub spared_bytes: u64,
    pub took: Duration,
}

impl Taker {
    /// The writer must have been attached to the directory.
    pub(super) fn new(
        writer: Arc<Writer>,
        source: Arc<dyn Source>,
        dir: PathBuf,
        uploads: usize,
        steps: Steps,
    ) -> Result<Self, SnapshotError> {
        let missing = || SnapshotError::Internal("the data directory is not attached to its snapshots".to_owned());
        let mark = Mark::read(&dir)?.filter(|mark| mark.epoch == writer.epoch).ok_or_else(missing)?;
        let (known, sent) = (Arc::default(), Arc::default());
        Ok(Self { writer, source, dir, mark, known, has_base: false, shipping: None, uploads, sent, steps })
    }

    /// Manifests name this chain from now on.
    pub(super) fn ship(&mut self, chain: Chain, keep_bytes: usize) {
        self.shipping = Some((chain, keep_bytes));
    }

    /// The chain that manifests name.
    pub(super) fn chain(&self) -> Option<Chain> {
        self.shipping.as_ref().map(|(chain, _)| chain.clone())
    }

    /// Objects that the next snapshot may name without uploading them.
    pub(super) fn known(&self) -> Arc<Mutex<Known>> {
        self.known.clone()
    }

    /// Bytes uploaded since this was last asked.
    pub(super) fn take_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    /// One snapshot, given up after `longest`.
    pub(super) async fn take(
        &mut self,
        now: TsMs,
        longest: Duration,
        stop: &CancellationToken,
    ) -> Result<Taken, SnapshotError> {
        let begun = Instant::now();
        let stop = stop.child_token();
        let give_up = stop.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(longest).await;
            give_up.cancel();
        });
        let taken = self.attempt(now, begun, &stop).await;
        timer.abort();
        let dir = self.dir.clone();
        let removed = blocking(move || remove_checkpoint(&dir)).await;
        match taken {
            Err(SnapshotError::Stopped) if begun.elapsed() >= longest => {
                Err(SnapshotError::Abandoned(longest.as_secs()))
            }
            Ok(taken) => removed.map(|()| taken),
            Err(error) => Err(error),
        }
    }

    async fn attempt(&mut self, now: TsMs, begun: Instant, stop: &CancellationToken) -> Result<Taken, SnapshotError> {
        self.writer.check().await?;
        self.read_base().await?;
        // Before the checkpoint: what is shipped from here on may be missing in it.
        let chain = self.shipping.as_ref().map(|(chain, bytes)| chain.at(&*self.source, *bytes));
        let checkpoint = self.checkpoint().await?;
        self.steps.reached(Step::Checkpointed)?;
        let planned = self.plan(&checkpoint).await?;
        let planned_bytes: u64 = planned.iter().map(|planned| planned.file.bytes).sum();
        let files = self.upload(planned, stop).await?;
        self.steps.reached(Step::Uploaded)?;
        let manifest = self.publish(now, checkpoint, chain, files).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).keep(&manifest);
        Ok(Taken { spared_bytes: planned_bytes, took: begun.elapsed(), manifest })
    }

    /// The files of the snapshot that the directory stands at are in the bucket: they need not be uploaded again.
    async fn read_base(&mut self) -> Result<(), SnapshotError> {
        if self.has_base {
            return Ok(());
        }
        let catalog = &self.writer.catalog;
        if self.mark.sequence > 0 {
            match catalog.read(self.mark.sequence).await {
                Ok(base) if base.nonce == self.mark.nonce => {
                    let mut listed: Vec<Object> = catalog.bucket.list(&catalog.layout.files()).await?;
                    listed.extend(catalog.bucket.list(&catalog.layout.pieces()).await?);
                    *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::of(&base, &listed);
                }
                Err(error @ SnapshotError::Bucket(_)) => return Err(error),
                // Not ours any more: all is uploaded anew.
                Ok(_) | Err(_) => {}
            }
        }
        self.has_base = true;
        Ok(())
    }

    async fn checkpoint(&self) -> Result<Checkpoint, SnapshotError> {
        let (source, dir) = (self.source.clone(), self.dir.clone());
        let mut checkpoint = blocking(move || {
            remove_checkpoint(&dir)?;
            source.checkpoint(&dir.join(CHECKPOINT)).map_err(SnapshotError::Checkpoint)
        })
        .await?;
        checkpoint.files.retain(|file| file.name != MARK && file.name != RESTORING);
        Ok(checkpoint)
    }

    async fn plan(&self, checkpoint: &Checkpoint) -> Result<Vec<Planned>, SnapshotError> {
        let (known, checkpoint) = (self.known.clone(), checkpoint.clone());
        let (layout, epoch) = (self.writer.catalog.layout.clone(), self.writer.epoch);
        blocking(move || known.lock().unwrap_or_else(PoisonError::into_inner).plan(&checkpoint, &layout, epoch)).await
    }

    /// Uploads what is missing, several files at once. What was uploaded when one fails is known to the next try.
    async fn upload(&self, planned: Vec<Planned>, stop: &CancellationToken) -> Result<Vec<File>, SnapshotError> {
        let (permits, stop) = (Arc::new(Semaphore::new(self.uploads)), stop.child_token());
        let (mut uploads, mut files) = (JoinSet::new(), Vec::new());
        for Planned { mut file, upload: wanted } in planned {
            let Some(wanted) = wanted else {
                files.push(file);
                continue;
            };
            let (bucket, permits) = (self.writer.catalog.bucket.clone(), permits.clone());
            let (known, stop, steps) = (self.known.clone(), stop.clone(), self.steps.clone());
            let sent = self.sent.clone();
            uploads.spawn(async move {
                let _permit = permits.acquire().await;
                if stop.is_cancelled() {
                    return Err(SnapshotError::Stopped);
                }
                let part = upload(&bucket, &wanted, &stop).await?;
                sent.fetch_add(part.bytes, Ordering::Relaxed);
                file.bytes += part.bytes;
                file.parts.push(part);
                known.lock().unwrap_or_else(PoisonError::into_inner).add(file.clone());
                steps.reached(Step::FileUploaded)?;
                Ok(file)
            });
        }
        let mut failed = None;
        while let Some(done) = uploads.join_next().await {
            match done? {
                Ok(file) => files.push(file),
                // The first is the cause of the others.
                Err(error) => {
                    stop.cancel();
                    failed = failed.or(Some(error));
                }
            }
        }
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        failed.map_or(Ok(files), Err)
    }

    /// Writes the manifest under the next number: from then on there is the snapshot.
    async fn publish(
        &mut self,
        now: TsMs,
        checkpoint: Checkpoint,
        chain: Option<ChainAt>,
        files: Vec<File>,
    ) -> Result<Manifest, SnapshotError> {
        let writer = self.writer.clone();
        let mut manifest = Manifest {
            format: FORMAT,
            store_id: self.mark.store_id.clone(),
            unit: writer.catalog.layout.unit().to_owned(),
            sequence: 0,
            epoch: writer.epoch,
            nonce: random_id(),
            taken_ms: now.0,
            store_sequence: checkpoint.sequence,
            rules_revision: checkpoint.rules_revision,
            clock_ms: checkpoint.clock.map(|clock| clock.0),
            chain,
            kafka: checkpoint.kafka,
            files,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // Whatever becomes of the manifest, the directory knows that it is its own.
        self.mark.add_pending(&manifest.nonce);
        self.write_mark().await?;
        let mut sequence = writer.catalog.last_sequence().await?.max(self.mark.sequence);
        loop {
            writer.check().await?;
            sequence += 1;
            manifest.sequence = sequence;
            let bytes = Bytes::from(manifest.encode()?);
            self.steps.reached(Step::BeforeManifest)?;
            match writer.catalog.bucket.create(&writer.catalog.layout.manifest(sequence), bytes).await? {
                Created::Ours => break,
                // Of an older epoch, or of a try of ours whose answer was lost. A newer epoch is found above.
                Created::Theirs(_) => {
                    tracing::warn!(sequence, "the number of a snapshot is taken; the next one is used")
                }
            }
        }
        self.steps.reached(Step::ManifestWritten)?;
        // An epoch that began meanwhile may have made it void.
        writer.check().await?;
        self.mark.set_last(&manifest);
        self.write_mark().await?;
        self.steps.reached(Step::Marked)?;
        Ok(manifest)
    }

    async fn write_mark(&self) -> Result<(), SnapshotError> {
        let (mark, dir) = (self.mark.clone(), self.dir.clone());
        blocking(move || mark.write(&dir)).await
    }
}
