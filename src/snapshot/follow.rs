//! Reads the chain of a snapshot: the writes after it, in order.
//!
//! Segments are numbered without gaps and created in order, so one that is missing while later ones are there, and one that is
//! not what was written, is damage: never the end. A later epoch that began says after which segment; what comes behind that is
//! of a process that was superseded, and void. Several are read ahead.

use super::catalog::Catalog;
use super::chain::{OBJECT_BYTES_MAX, Segment, decode};
use super::error::SnapshotError;
use super::manifest::Manifest;
use super::segments::Segments;
use super::upload::blocking;
use crate::bucket::{Bucket, BucketError};
use crate::model::TsMs;
use crate::store::TailBatch;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A segment is asked for this often, beyond the tries of one call.
const TRIES: u32 = 4;

/// Segments that are read ahead.
const AHEAD_MAX: usize = 16;

/// Their bytes, as far as more than one is concerned.
const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// The segments behind a snapshot, as they are read.
pub struct Follow {
    catalog: Catalog,
    sequence: u64,
    chain: String,
    /// The next that is returned.
    next: u64,
    /// The last segment that counts.
    last: u64,
    /// The sizes of those that are not read ahead yet: of the next ones, in order. One that is missing counts as empty.
    sizes: VecDeque<u64>,
    ahead: VecDeque<Ahead>,
    until: Option<TsMs>,
    previous: Option<String>,
}

/// A segment that is being read.
struct Ahead {
    bytes: u64,
    read: JoinHandle<Result<Bytes, BucketError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.read.abort();
    }
}

impl Follow {
    /// Looks which segments there are behind a snapshot. `until`: none that was closed later is returned. `to_the_gap`: one that is
    /// missing is found by reading up to it, rather than at once.
    pub async fn begin(
        catalog: &Catalog,
        manifest: &Manifest,
        until: Option<TsMs>,
        to_the_gap: bool,
    ) -> Result<Option<Self>, SnapshotError> {
        let Some(chain) = &manifest.chain else { return Ok(None) };
        let Segments { last, whole, listed } = Segments::find(catalog, manifest.epoch, chain).await?;
        if whole < last && !to_the_gap {
            let what = format!("it is missing, and segments up to {last} of its chain were shipped");
            return Err(SnapshotError::Damaged { object: catalog.layout.segment(&chain.name, whole + 1), what });
        }
        let mut listed = listed.into_iter().peekable();
        let size = |number| listed.next_if(|(listed, _)| *listed == number).map_or(0, |(_, object)| object.bytes);
        // Beyond one that is missing nothing is read.
        let sizes = (chain.from..=last.min(whole + 1)).map(size).collect();
        Ok(Some(Self {
            catalog: catalog.clone(),
            sequence: manifest.sequence,
            chain: chain.name.clone(),
            next: chain.from,
            last,
            sizes,
            ahead: VecDeque::new(),
            until,
            previous: None,
        }))
    }

    /// Segments that are not returned yet.
    pub fn left(&self) -> u64 {
        (self.last + 1).saturating_sub(self.next)
    }

    /// The writes of the next segment; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<TailBatch>>, SnapshotError> {
        if self.next > self.last {
            return Ok(None);
        }
        self.read_ahead();
        let object = self.catalog.layout.segment(&self.chain, self.next);
        let Some(mut ahead) = self.ahead.pop_front() else {
            return Err(SnapshotError::Missing { object, sequence: self.sequence });
        };
        let bytes = (&mut ahead.read).await?.map_err(|error| SnapshotError::of_object(error, self.sequence))?;
        let (chain, number, name) = (self.chain.clone(), self.next, object.clone());
        let segment: Segment = blocking(move || decode(&name, &chain, number, &bytes)).await?;
        let is_seal = segment.header.sealed_by.is_some();
        if !is_seal && self.previous.as_ref().is_some_and(|previous| *previous != segment.header.previous) {
            let what = "it does not follow the segment before it".to_owned();
            return Err(SnapshotError::Damaged { object, what });
        }
        if self.until.is_some_and(|until| segment.header.closed_ms > until.0) {
            self.last = self.next - 1;
            self.ahead.clear();
            return Ok(None);
        }
        self.previous = Some(segment.hash);
        self.next += 1;
        self.read_ahead();
        Ok(Some(segment.batches))
    }

    fn read_ahead(&mut self) {
        let mut bytes: u64 = self.ahead.iter().map(|ahead| ahead.bytes).sum();
        while self.ahead.len() < AHEAD_MAX
            && let Some(size) = self.sizes.front().copied()
            && (self.ahead.is_empty() || bytes + size <= AHEAD_BYTES_MAX)
        {
            self.sizes.pop_front();
            bytes += size;
            let number = self.next + self.ahead.len() as u64;
            let (bucket, object) = (self.catalog.bucket.clone(), self.catalog.layout.segment(&self.chain, number));
            let read = tokio::spawn(async move { read(&bucket, &object).await });
            self.ahead.push_back(Ahead { bytes: size, read });
        }
    }
}

async fn read(bucket: &Bucket, object: &str) -> Result<Bytes, BucketError> {
    let mut tries = 1;
    loop {
        match bucket.get(object, OBJECT_BYTES_MAX).await {
            Err(error) if error.cause.is_passing() && tries < TRIES => {
                tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}
