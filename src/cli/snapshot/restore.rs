//! `freqcap snapshot restore`: brings a snapshot back into an empty directory.

use super::super::snapshots::{Shipped, prepare};
use super::args::{BucketArgs, SnapshotCliError, WhichArgs};
use super::tell;
use crate::api::SnapshotAnswer;
use crate::bucket::Access;
use crate::snapshot::{Progress, RestoreOptions, SnapshotError, Summary, Which, restore};
use std::sync::Arc;

/// Restores a snapshot into an empty directory, every hash verified
///
/// A service starts from a snapshot by itself where its data directory is empty. This is for a copy that is to be looked at,
/// or to live beside the original: that one needs --as-new.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    of: BucketArgs,
    /// Give the copy a store id of its own, so that it may live beside the original: with a prefix, a Redis prefix and a Kafka
    /// group of its own
    #[arg(long)]
    as_new: bool,
}

pub(super) fn run(args: &RestoreArgs) -> Result<(), SnapshotCliError> {
    let opened = args.of.open(Access::Read)?;
    let manifest = args.which.find(&opened)?;
    let dir = opened.config.store.data_dir.clone();
    let bar = tell::bar("restoring");
    let shown = bar.clone();
    let newest = match opened.runtime.block_on(opened.catalog.newest()) {
        Ok(newest) => newest,
        // An older one is wanted, most likely for that.
        Err(error @ SnapshotError::DamagedSnapshot { sequence, .. }) => {
            eprintln!(
                "freqcap: {error}. Users who were erased since the one before it are not known: erase them again"
            );
            opened.runtime.block_on(opened.catalog.before(sequence))?
        }
        Err(error) => return Err(error.into()),
    };
    let is_newest = newest.as_ref().is_some_and(|newest| newest.sequence == manifest.sequence);
    let shipped = match args.which.which()? {
        Which::Newest => Shipped::All,
        Which::At(time) => Shipped::Until(time),
        Which::Sequence(_) if is_newest => Shipped::Readable,
        Which::Sequence(_) => Shipped::None,
    };
    let store = opened.config.store_options();
    let prepare = prepare(&opened.catalog, &manifest, newest.as_ref(), shipped, store, args.as_new);
    let prepare = opened.runtime.block_on(prepare)?;
    let mut options = RestoreOptions::new(dir.clone());
    options.is_new_store = args.as_new;
    options.prepare = Some(prepare);
    options.progress = Arc::new(move |Progress { bytes_done, bytes, .. }| {
        shown.set_length(bytes);
        shown.set_position(bytes_done);
    });
    let restored = opened.runtime.block_on(restore(&opened.catalog, manifest, &options));
    bar.finish_and_clear();
    let answer = SnapshotAnswer::from(Summary::of(&restored?));
    if args.of.json {
        println!("{}", serde_json::json!(answer));
    } else {
        println!("restored {} into {}", tell::sentence(&answer), dir.display());
    }
    Ok(())
}
