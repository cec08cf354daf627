//! One object into its place in a file, hashed on the way.

use super::error::{SnapshotError, disk};
use super::hash::Hasher;
use super::manifest::Part;
use super::upload::{blocking, hash_file};
use crate::bucket::{Bucket, BucketError};
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Objects are read in pieces of this size: what breaks off is read again from there.
const PIECE_BYTES: u64 = 4 << 20;

/// A piece is asked for this often, beyond the tries of one call.
const TRIES: u32 = 4;

/// Whether a file holds an object already, by its hash.
pub(super) fn holds(path: &Path, from: u64, part: &Part) -> Result<bool, SnapshotError> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(disk("reading", path)(error)),
    };
    if length < from + part.bytes {
        return Ok(false);
    }
    Ok(hash_file(path, from..from + part.bytes)? == part.sha256)
}

/// Writes an object into a file at `from`, and has it on disk. What is not what the manifest says is an error.
pub(super) async fn fetch(
    bucket: &Bucket,
    part: &Part,
    path: &Path,
    from: u64,
    sequence: u64,
    tell: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SnapshotError> {
    let target = path.to_owned();
    let file = blocking(move || {
        let file = OpenOptions::new().write(true).open(&target).map_err(disk("opening", &target))?;
        Ok(Arc::new(file))
    })
    .await?;
    let sink = Sink { file: file.clone(), path, from };
    read(bucket, part, sequence, Some(&sink), tell).await?;
    let target = path.to_owned();
    blocking(move || file.sync_data().map_err(disk("syncing", &target))).await
}

/// Where the bytes of an object go.
struct Sink<'a> {
    file: Arc<File>,
    path: &'a Path,
    from: u64,
}

/// Reads an object to its end and compares its hash.
pub(super) async fn check(bucket: &Bucket, part: &Part, sequence: u64) -> Result<(), SnapshotError> {
    read(bucket, part, sequence, None, &|_| {}).await
}

async fn read(
    bucket: &Bucket,
    part: &Part,
    sequence: u64,
    sink: Option<&Sink<'_>>,
    tell: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SnapshotError> {
    let mut hasher = Hasher::new();
    let mut at = 0;
    // An empty object is looked at, too: it must be there.
    if part.bytes == 0 {
        let found = bucket.get(&part.object, 0).await;
        found.map_err(|error| SnapshotError::of_object(error, sequence))?;
    }
    while at < part.bytes {
        let to = part.bytes.min(at + PIECE_BYTES);
        let bytes = read_piece(bucket, part, at..to).await;
        let bytes = bytes.map_err(|error| SnapshotError::of_object(error, sequence))?;
        hasher.update(&bytes);
        if let Some(sink) = sink {
            let (file, path, place) = (sink.file.clone(), sink.path.to_owned(), sink.from + at);
            blocking(move || file.write_all_at(&bytes, place).map_err(disk("writing", &path))).await?;
        }
        tell(to - at);
        at = to;
    }
    let found = hasher.finish();
    if found != part.sha256 {
        let what = format!("its SHA-256 is {found} instead of {}", part.sha256);
        return Err(SnapshotError::Damaged { object: part.object.clone(), what });
    }
    Ok(())
}

async fn read_piece(bucket: &Bucket, part: &Part, range: Range<u64>) -> Result<Bytes, BucketError> {
    let mut tries = 1;
    loop {
        match bucket.get_range(&part.object, range.clone(), part.bytes).await {
            Err(error) if error.cause.is_passing() && tries < TRIES => {
                tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}
