//! Files to objects: in parts of bounded size, hashed as they go.

use super::error::{SnapshotError, disk};
use super::hash::{Hasher, hash};
use super::manifest::Part;
use crate::bucket::Bucket;
use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The size of a part. Providers ask for at least 5 MiB.
pub const PART_BYTES: u64 = 8 << 20;

/// Providers take at most 10,000 parts.
const PARTS_MAX: u64 = 9_000;

/// How much of a table's end is hashed. RocksDB keeps the table's unique id there.
const TAIL_BYTES: u64 = 16 << 10;

/// How long removing the parts of an upload that is given up may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is uploaded, and as what.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub path: PathBuf,
    pub range: Range<u64>,
    pub object: String,
}

/// Uploads a part of a file as one object.
pub(super) async fn upload(bucket: &Bucket, wanted: &Upload, stop: &CancellationToken) -> Result<Part, SnapshotError> {
    let Upload { path, range, object } = wanted;
    let bytes = range.end - range.start;
    let file = open(path).await?;
    let sha256 = if bytes <= PART_BYTES {
        let body = read(&file, path, range.clone()).await?;
        let sha256 = hash(&body);
        bucket.put(object, body).await?;
        sha256
    } else {
        let mut upload = bucket.multipart(object).await?;
        let sent = send_parts(bucket, &mut *upload, wanted, &file, stop).await;
        if sent.is_err() {
            // The parts cost room until they are removed; a bucket that is away keeps them until its own rule does.
            let _ = tokio::time::timeout(ABORT_TIMEOUT, upload.abort()).await;
        }
        sent?
    };
    Ok(Part { object: object.clone(), bytes, sha256 })
}

async fn send_parts(
    bucket: &Bucket,
    upload: &mut dyn MultipartUpload,
    wanted: &Upload,
    file: &Arc<File>,
    stop: &CancellationToken,
) -> Result<String, SnapshotError> {
    let Upload { path, range, object } = wanted;
    let part_bytes = PART_BYTES.max((range.end - range.start).div_ceil(PARTS_MAX));
    let mut hasher = Hasher::new();
    let mut at = range.start;
    while at < range.end {
        if stop.is_cancelled() {
            return Err(SnapshotError::Stopped);
        }
        let to = range.end.min(at + part_bytes);
        let body = read(file, path, at..to).await?;
        hasher.update(&body);
        let sent = upload.put_part(PutPayload::from_bytes(body));
        bucket.bounded("uploading", object, sent).await?;
        at = to;
    }
    bucket.bounded("completing the upload of", object, upload.complete()).await?;
    Ok(hasher.finish())
}

/// The hash of the end of a file, by which a table is known.
pub(super) fn tail(path: &Path, bytes: u64) -> Result<String, SnapshotError> {
    let file = File::open(path).map_err(disk("opening", path))?;
    Ok(hash(&read_range(&file, path, bytes.saturating_sub(TAIL_BYTES)..bytes)?))
}

/// The hash of the first `bytes` of a file.
pub(super) fn hash_file(path: &Path, range: Range<u64>) -> Result<String, SnapshotError> {
    let file = File::open(path).map_err(disk("opening", path))?;
    let mut hasher = Hasher::new();
    let mut at = range.start;
    while at < range.end {
        let to = range.end.min(at + (1 << 20));
        hasher.update(&read_range(&file, path, at..to)?);
        at = to;
    }
    Ok(hasher.finish())
}

async fn open(path: &Path) -> Result<Arc<File>, SnapshotError> {
    let path = path.to_owned();
    blocking(move || File::open(&path).map(Arc::new).map_err(disk("opening", &path))).await
}

async fn read(file: &Arc<File>, path: &Path, range: Range<u64>) -> Result<Bytes, SnapshotError> {
    let (file, path) = (file.clone(), path.to_owned());
    blocking(move || read_range(&file, &path, range)).await
}

fn read_range(file: &File, path: &Path, range: Range<u64>) -> Result<Bytes, SnapshotError> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start).map_err(disk("reading", path))?;
    Ok(Bytes::from(bytes))
}

/// Runs what waits for a disk on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SnapshotError::Internal(error.to_string())),
    }
}

impl From<tokio::task::JoinError> for SnapshotError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}
