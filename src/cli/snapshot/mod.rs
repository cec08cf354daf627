//! `freqcap snapshot`: the store's copies in a bucket, taken, listed, verified and restored from the command line.

mod create;
mod restore;
mod tell;
mod verify;

use super::snapshots::SnapshotsError;
use crate::api::{SnapshotAnswer, SnapshotsAnswer};
use crate::bucket::{self, Access, BucketUrl};
use crate::config::{Config, ConfigError, Flags};
use crate::model::TsMs;
use crate::snapshot::{Catalog, Manifest, STANDALONE, SettingFlags, SnapshotError, Which};
use crate::store::{OpenError, StoreError};
use std::path::PathBuf;
use tokio::runtime::Runtime;

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

/// Which bucket, and which settings.
#[derive(Debug, clap::Args)]
struct BucketArgs {
    /// Bucket and prefix, as serve has them [default: that of the settings of this environment]
    #[arg(long, value_name = "URL")]
    snapshots: Option<String>,
    /// The data directory [default: that of the settings of this environment]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Which snapshot.
#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// The snapshot's id, as list tells it [default: the newest]
    #[arg(value_name = "ID")]
    id: Option<u64>,
    /// The newest snapshot of this time or before: ms since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    at: Option<String>,
}

/// Lists the snapshots under a prefix, the newest first
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    of: BucketArgs,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotCliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("which bucket? Name it with --snapshots")]
    NoBucket,
    #[error("--at: {0:?} {1}")]
    Time(String, String),
    #[error("there is no data directory {0}; name another with --data-dir")]
    NoDirectory(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error("starting: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("{url}: {why}")]
    Service { url: String, why: String },
}

impl From<SnapshotError> for SnapshotCliError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshots(error.into())
    }
}

impl SnapshotCliError {
    /// As those of the service.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Snapshots(error) => error.exit_code(),
            Self::Store(_) | Self::Runtime(_) | Self::Service { .. } => 1,
            Self::Config(_) | Self::NoBucket | Self::Time(..) | Self::NoDirectory(_) | Self::Open(_) => 2,
        }
    }
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

/// A bucket with the settings that it came by, and what talks to it.
struct Opened {
    config: Config,
    catalog: Catalog,
    runtime: Runtime,
}

impl BucketArgs {
    fn config(&self) -> Result<Config, ConfigError> {
        let snapshots = SettingFlags { snapshots: self.snapshots.clone(), ..SettingFlags::default() };
        let flags = Flags { snapshots, ..Flags::of_file(self.config.clone(), self.data_dir.clone()) };
        Config::load(&flags)
    }

    fn open(&self, access: Access) -> Result<Opened, SnapshotCliError> {
        let config = self.config()?;
        let url: BucketUrl = config.snapshots.snapshots.clone().ok_or(SnapshotCliError::NoBucket)?;
        let bucket = bucket::open(&url, access).map_err(SnapshotError::from)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Opened { config, catalog: Catalog::new(bucket, STANDALONE), runtime })
    }
}

impl WhichArgs {
    fn which(&self) -> Result<Which, SnapshotCliError> {
        match (self.id, &self.at) {
            (Some(id), _) => Ok(Which::Sequence(id)),
            (None, Some(text)) => {
                let time = TsMs::from_text(text);
                Ok(Which::At(time.map_err(|why| SnapshotCliError::Time(text.clone(), why.to_string()))?))
            }
            (None, None) => Ok(Which::Newest),
        }
    }

    fn is_given(&self) -> bool {
        self.id.is_some() || self.at.is_some()
    }

    fn find(&self, opened: &Opened) -> Result<Manifest, SnapshotCliError> {
        Ok(opened.runtime.block_on(opened.catalog.find(self.which()?))?)
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
