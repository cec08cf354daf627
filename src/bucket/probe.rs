//! Whether a bucket keeps its word, and what time it is there.

use super::bucket::Bucket;
use super::error::{BucketError, Cause};
use crate::model::TsMs;
use crate::random::random_id;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Where probes are put. Nothing else is.
const FOLDER: &str = "probe";

/// Why a bucket is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It overwrites what must only be created.
    #[error(
        "the bucket {0} overwrites objects that must only be created if absent: two processes could both believe to write \
         the newest snapshot. Use a store with conditional writes (If-None-Match)"
    )]
    NoConditions(String),
    /// What was written is not what is read.
    #[error("the bucket {0} does not give back what was just written to it; it must be consistent at once")]
    Inconsistent(String),
    /// It did not answer.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl ProbeError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoConditions(_) => "bucket_without_conditions",
            Self::Inconsistent(_) => "bucket_inconsistent",
            Self::Bucket(error) => error.cause.code(),
        }
    }
}

/// What time it is by the bucket's own clock: measured once, carried on by the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct BucketClock {
    measured: TsMs,
    at: Instant,
}

impl BucketClock {
    /// Now, by the bucket's clock. Many buckets tell whole seconds only.
    pub fn now(&self) -> TsMs {
        self.measured.saturating_add(u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago something was written, by the bucket's clock.
    pub fn age(&self, modified_ms: u64) -> Duration {
        Duration::from_millis(self.now().0.saturating_sub(modified_ms))
    }
}

/// Asks a bucket to create an object twice. The second time must fail; a bucket that says otherwise is refused, and so is
/// one that does not give back what it was given. Returns the bucket's clock: the time of what was just written.
pub async fn probe(bucket: &Bucket) -> Result<BucketClock, ProbeError> {
    let name = format!("{FOLDER}/{}", random_id());
    let outcome = probe_with(bucket, &name).await;
    // A probe that stays is removed by whoever collects garbage.
    if let Err(error) = bucket.delete(&name).await {
        tracing::debug!(%error, "a probe stays in the bucket");
    }
    outcome
}

async fn probe_with(bucket: &Bucket, name: &str) -> Result<BucketClock, ProbeError> {
    let (first, second) = (Bytes::from(random_id()), Bytes::from(random_id()));
    let at = Instant::now();
    bucket.create(name, first.clone()).await?;
    match bucket.try_create(name, second).await {
        Err(error) if error.cause == Cause::Exists => {}
        Ok(()) => return Err(ProbeError::NoConditions(bucket.name().to_owned())),
        Err(error) => return Err(error.into()),
    }
    match bucket.get(name, 1_024).await {
        Ok(found) if found == first => {}
        Ok(_) => return Err(ProbeError::NoConditions(bucket.name().to_owned())),
        Err(error) if error.cause == Cause::Missing => {
            return Err(ProbeError::Inconsistent(bucket.name().to_owned()));
        }
        Err(error) => return Err(error.into()),
    }
    let measured = TsMs(bucket.head(name).await?.modified_ms);
    Ok(BucketClock { measured, at })
}
