//! Reads every object that snapshots name, and compares its hash.

use super::catalog::Catalog;
use super::error::SnapshotError;
use super::fetch::check;
use super::manifest::{Manifest, Part};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Objects that are read at once.
const READS_AT_ONCE: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Snapshots that are whole.
    pub whole: Vec<u64>,
    /// Snapshots that cannot be restored, and why: the first error of each.
    pub damaged: Vec<(u64, SnapshotError)>,
    /// Objects that were read; one that several snapshots name is read once.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Is told the bytes that were read, of all.
pub type OnVerified = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Reads every object that these snapshots name, each once.
pub async fn verify(
    catalog: &Catalog,
    manifests: &[Manifest],
    progress: OnVerified,
) -> Result<Verified, SnapshotError> {
    let mut parts: HashMap<&str, (&Part, u64)> = HashMap::new();
    for manifest in manifests {
        for part in manifest.files.iter().flat_map(|file| &file.parts) {
            parts.entry(part.object.as_str()).or_insert((part, manifest.sequence));
        }
    }
    let all: u64 = parts.values().map(|(part, _)| part.bytes).sum();
    let permits = Arc::new(Semaphore::new(READS_AT_ONCE));
    let mut reads = JoinSet::new();
    for (part, sequence) in parts.into_values() {
        let (bucket, permits, part) = (catalog.bucket.clone(), permits.clone(), part.clone());
        reads.spawn(async move {
            let _permit = permits.acquire().await;
            let checked = check(&bucket, &part, sequence).await;
            (part, checked)
        });
    }
    let mut verified = Verified::default();
    let mut bad: HashMap<String, SnapshotError> = HashMap::new();
    while let Some(read) = reads.join_next().await {
        let (part, checked) = read?;
        match checked {
            Ok(()) => {}
            Err(error) if error.is_of_the_snapshot() => drop(bad.insert(part.object, error)),
            // The bucket is away: nothing is known of the rest.
            Err(error) => return Err(error),
        }
        verified.objects += 1;
        verified.bytes += part.bytes;
        progress(verified.bytes, all);
    }
    for manifest in manifests {
        let found = manifest.objects().find_map(|object| Some((object.to_owned(), bad.get(object)?)));
        match found {
            None => verified.whole.push(manifest.sequence),
            Some((object, SnapshotError::Missing { .. })) => {
                let error = SnapshotError::Missing { object, sequence: manifest.sequence };
                verified.damaged.push((manifest.sequence, error));
            }
            Some((object, error)) => {
                let error = SnapshotError::Damaged { object, what: error.to_string() };
                verified.damaged.push((manifest.sequence, error));
            }
        }
    }
    Ok(verified)
}
