//! Reads the chain of a snapshot: the writes after it, in order.
//!
//! Segments are numbered without gaps and created in order, so one that is missing while later ones are there, and one that is
//! not what was written, is damage: never the end. A later epoch that began says after which segment; what comes behind that is
//! of a process that was superseded, and void.

use super::catalog::Catalog;
use super::chain::{OBJECT_BYTES_MAX, Segment, decode};
use super::error::SnapshotError;
use super::manifest::Manifest;
use super::upload::blocking;
use crate::bucket::BucketError;
use crate::model::TsMs;
use crate::store::TailBatch;
use bytes::Bytes;
use std::time::Duration;

/// A segment is asked for this often, beyond the tries of one call.
const TRIES: u32 = 4;

/// The segments behind a snapshot, as they are read.
pub struct Follow {
    catalog: Catalog,
    sequence: u64,
    chain: String,
    next: u64,
    /// The last segment that counts.
    last: u64,
    until: Option<TsMs>,
    previous: Option<String>,
}

impl Follow {
    /// Looks which segments there are behind a snapshot. `until`: none that was closed later is read. `to_the_gap`: one that is
    /// missing is found by reading up to it, rather than at once.
    pub async fn begin(
        catalog: &Catalog,
        manifest: &Manifest,
        until: Option<TsMs>,
        to_the_gap: bool,
    ) -> Result<Option<Self>, SnapshotError> {
        let Some(chain) = &manifest.chain else { return Ok(None) };
        let (last, whole) = catalog.last_segment(manifest.epoch, chain).await?;
        if whole < last && !to_the_gap {
            let what = format!("it is missing, and segments up to {last} of its chain were shipped");
            return Err(SnapshotError::Damaged { object: catalog.layout.segment(&chain.name, whole + 1), what });
        }
        Ok(Some(Self {
            catalog: catalog.clone(),
            sequence: manifest.sequence,
            chain: chain.name.clone(),
            next: chain.from,
            last,
            until,
            previous: None,
        }))
    }

    /// Segments that are not read yet.
    pub fn left(&self) -> u64 {
        (self.last + 1).saturating_sub(self.next)
    }

    /// The writes of the next segment; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<TailBatch>>, SnapshotError> {
        if self.next > self.last {
            return Ok(None);
        }
        let object = self.catalog.layout.segment(&self.chain, self.next);
        let bytes = self.read(&object).await.map_err(|error| SnapshotError::of_object(error, self.sequence))?;
        let (chain, number, name) = (self.chain.clone(), self.next, object.clone());
        let segment: Segment = blocking(move || decode(&name, &chain, number, &bytes)).await?;
        if self.previous.as_ref().is_some_and(|previous| *previous != segment.header.previous) {
            let what = "it does not follow the segment before it".to_owned();
            return Err(SnapshotError::Damaged { object, what });
        }
        if self.until.is_some_and(|until| segment.header.closed_ms > until.0) {
            self.last = self.next - 1;
            return Ok(None);
        }
        self.previous = Some(segment.hash);
        self.next += 1;
        Ok(Some(segment.batches))
    }
    async fn read(&self, object: &str) -> Result<Bytes, BucketError> {
        let mut tries = 1;
        loop {
            match self.catalog.bucket.get(object, OBJECT_BYTES_MAX).await {
                Err(error) if error.cause.is_passing() && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}
