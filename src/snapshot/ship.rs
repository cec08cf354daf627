//! Ships the writes between snapshots, so that with the disk no more is lost than came since the last segment.
//!
//! A run of the store has a chain, which every manifest of the run names: with the first segment that may have writes after the
//! snapshot. A segment is numbered when it is in the bucket, so there is never a gap. Where writes came faster than they could be
//! shipped, the chain ends; a new one is begun right before the next checkpoint, which is then due at once.

use super::catalog::Catalog;
use super::chain::{SEGMENT_BYTES, encode};
use super::chain_run::Chain;
use super::error::SnapshotError;
use super::source::{Now, Source};
use super::status::{Report, count_error};
use super::steps::{Step, Steps};
use super::upload::blocking;
use crate::bucket::Created;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// After a failure it is tried again so soon.
const RETRY: Duration = Duration::from_millis(200);

/// Ships what is kept, as it comes.
pub(super) struct Shipper {
    pub catalog: Catalog,
    pub source: Arc<dyn Source>,
    pub chain: Chain,
    /// Within this time a write is to be in the bucket.
    pub lag: Duration,
    pub now: Now,
    pub report: Arc<Report>,
    pub steps: Steps,
    /// Up to then everything is in the bucket.
    pub shipped_to: Instant,
    /// A segment that is not known to be in the bucket yet.
    pub pending: Option<Pending>,
}

/// A segment on its way.
pub(super) struct Pending {
    chain: String,
    object: String,
    bytes: Bytes,
    hash: String,
    taken_at: Instant,
    /// There may be more.
    is_full: bool,
}

impl Shipper {
    /// Until `stop`. What fails is tried again, for ever.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Self {
        // Half of it to collect, half of it for the upload.
        let every = self.lag / 2;
        let mut next = Instant::now() + every;
        let mut is_failing = false;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next.into()) => {}
            }
            next = Instant::now() + every;
            let shipped = self.ship().await;
            self.report.lag(self.shipped_to.elapsed());
            match shipped {
                Ok(()) if is_failing => {
                    is_failing = false;
                    tracing::info!("writes are shipped again");
                }
                Ok(()) => {}
                Err(error) => {
                    count_error("ship", error.code());
                    if !is_failing {
                        tracing::warn!(%error, code = error.code(), "writes could not be shipped; it is tried again");
                    }
                    is_failing = true;
                    next = Instant::now() + RETRY.max(every);
                }
            }
        }
        self
    }

    /// Ships all that is kept. Called again after an error it goes on where it was.
    pub(super) async fn ship(&mut self) -> Result<(), SnapshotError> {
        loop {
            let pending = match self.pending.take() {
                Some(pending) => Some(pending),
                None => self.collect().await?,
            };
            let Some(pending) = pending else { return Ok(()) };
            // A chain that was begun anew meanwhile has all of it in its snapshot.
            if self.chain.name().as_ref() != Some(&pending.chain) {
                continue;
            }
            let is_full = pending.is_full;
            self.upload(pending).await?;
            if !is_full {
                return Ok(());
            }
        }
    }

    async fn collect(&mut self) -> Result<Option<Pending>, SnapshotError> {
        let taken_at = Instant::now();
        let Some(header) = self.chain.header((self.now)().0) else { return Ok(None) };
        let source = self.source.clone();
        let Ok(batches) = source.take_tail(SEGMENT_BYTES) else {
            tracing::warn!(
                chain = header.chain,
                "writes came faster than they were shipped: a snapshot is taken instead"
            );
            count_error("ship", "shipping_too_slow");
            self.chain.end();
            return Ok(None);
        };
        if batches.is_empty() {
            self.shipped_to = taken_at;
            return Ok(None);
        }
        let is_full = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() >= SEGMENT_BYTES;
        let object = self.catalog.layout.segment(&header.chain, header.number);
        let chain = header.chain.clone();
        let (bytes, hash) = blocking(move || encode(&header, &batches)).await?;
        Ok(Some(Pending { chain, object, bytes: Bytes::from(bytes), hash, taken_at, is_full }))
    }

    async fn upload(&mut self, pending: Pending) -> Result<(), SnapshotError> {
        self.steps.reached(Step::SegmentMade)?;
        match self.catalog.bucket.create(&pending.object, pending.bytes.clone()).await {
            Ok(Created::Ours) => {}
            Ok(Created::Theirs(_)) => {
                // Nobody else writes a chain of this name.
                self.chain.end();
                return Err(SnapshotError::Damaged {
                    object: pending.object,
                    what: "another process wrote it".to_owned(),
                });
            }
            Err(error) => {
                self.pending = Some(pending);
                return Err(error.into());
            }
        }
        self.steps.reached(Step::SegmentShipped)?;
        self.report.shipped(pending.bytes.len() as u64);
        self.chain.shipped(pending.hash);
        if !pending.is_full {
            self.shipped_to = pending.taken_at;
        }
        Ok(())
    }
}
