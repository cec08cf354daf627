//! `freqcap snapshot`: the store's copies in a bucket, taken, listed, verified and restored from the command line.

mod args;
mod create;
mod restore;
mod tell;
mod verify;

pub(super) use args::SnapshotCliError;

use crate::api::{SnapshotAnswer, SnapshotsAnswer};
use crate::bucket::Access;
use args::BucketArgs;

/// Snapshots of the store in a bucket
#[derive(Debug, clap::Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SnapshotCommand {
    Create(create::CreateArgs),
    List(ListArgs),
    Verify(verify::VerifyArgs),
    Restore(restore::RestoreArgs),
}

/// Lists the snapshots under a prefix, the newest first
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    of: BucketArgs,
}

/// Runs the command; says whether all is well.
pub(super) fn run(args: &SnapshotArgs) -> Result<bool, SnapshotCliError> {
    match &args.command {
        SnapshotCommand::Create(args) => create::run(args).map(|()| true),
        SnapshotCommand::List(args) => list(&args.of).map(|()| true),
        SnapshotCommand::Verify(args) => verify::run(args),
        SnapshotCommand::Restore(args) => restore::run(args).map(|()| true),
    }
}

fn list(of: &BucketArgs) -> Result<(), SnapshotCliError> {
    let opened = of.open(Access::Read)?;
    let listed = opened.runtime.block_on(opened.catalog.list())?;
    if of.json {
        println!("{}", serde_json::json!(SnapshotsAnswer::new(listed)));
        return Ok(());
    }
    if listed.is_empty() {
        println!("no snapshots under {}", opened.catalog.prefix());
        return Ok(());
    }
    println!("{:>8}  {:<24}  {:>6}  {:>10}  {:>6}  STATE", "ID", "TIME", "EPOCH", "SIZE", "FILES");
    for summary in listed.into_iter().rev() {
        println!("{}", tell::row(&SnapshotAnswer::from(summary)));
    }
    Ok(())
}
