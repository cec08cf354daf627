//! `freqcap snapshot verify`: reads every object that snapshots name.

use super::args::{BucketArgs, SnapshotCliError, WhichArgs};
use super::tell;
use crate::bucket::Access;
use crate::snapshot::{Catalog, Follow, Manifest, SnapshotError, State, verify};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads every object that snapshots name and compares its hash
///
/// All snapshots, or the one that is named. The exit code is 1 where one cannot be restored.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    of: BucketArgs,
}

/// Whether every snapshot can be restored.
pub(super) fn run(args: &VerifyArgs) -> Result<bool, SnapshotCliError> {
    let opened = args.of.open(Access::Read)?;
    let mut bad: Vec<(u64, SnapshotError)> = Vec::new();
    let mut manifests: Vec<Manifest> = Vec::new();
    if args.which.is_given() {
        manifests.push(args.which.find(&opened)?);
    } else {
        for summary in opened.runtime.block_on(opened.catalog.list())? {
            // What a superseded process left is no part of the history.
            if matches!(summary.state, State::Void(_)) {
                continue;
            }
            match opened.runtime.block_on(opened.catalog.read(summary.sequence)) {
                Ok(manifest) => manifests.push(manifest),
                // Collected since it was listed.
                Err(SnapshotError::NoSnapshot(_)) => {}
                Err(error @ SnapshotError::Bucket(_)) => return Err(error.into()),
                Err(error) => bad.push((summary.sequence, error)),
            }
        }
    }
    let bar = tell::bar("reading");
    let shown = bar.clone();
    let progress = Arc::new(move |read, all| {
        shown.set_length(all);
        shown.set_position(read);
    });
    let found = opened.runtime.block_on(verify(&opened.catalog, &manifests, progress));
    bar.finish_and_clear();
    let mut found = found?;
    bad.extend(found.damaged);
    let mut chains = BTreeSet::new();
    for manifest in manifests.iter().rev().filter(|manifest| found.whole.contains(&manifest.sequence)) {
        // The chain of a run is read once: from the newest snapshot on, or from the one that is asked for.
        if let Some(chain) = &manifest.chain
            && chains.insert(chain.name.clone())
            && let Err(error) = opened.runtime.block_on(read_chain(&opened.catalog, manifest))
        {
            if !error.is_of_the_snapshot() {
                return Err(error.into());
            }
            bad.push((manifest.sequence, error));
        }
    }
    found.whole.retain(|sequence| bad.iter().all(|(damaged, _)| damaged != sequence));
    bad.sort_by_key(|(sequence, _)| *sequence);
    if args.of.json {
        let damaged: Vec<Value> = bad
            .iter()
            .map(|(id, error)| json!({"id": id.to_string(), "code": error.code(), "detail": error.to_string()}))
            .collect();
        let whole: Vec<String> = found.whole.iter().map(u64::to_string).collect();
        println!("{}", json!({"whole": whole, "damaged": damaged, "objects": found.objects, "bytes": found.bytes}));
    } else {
        for (id, error) in &bad {
            println!("snapshot {id} cannot be restored: {error}");
        }
        println!(
            "{} of {} snapshots are whole; {} objects were read",
            found.whole.len(),
            found.whole.len() + bad.len(),
            found.objects
        );
    }
    Ok(bad.is_empty())
}

/// Reads the writes that were shipped after a snapshot.
async fn read_chain(catalog: &Catalog, manifest: &Manifest) -> Result<(), SnapshotError> {
    let Some(mut follow) = Follow::begin(catalog, manifest, None, false).await? else { return Ok(()) };
    while follow.next().await?.is_some() {}
    Ok(())
}
