//! What the commands of snapshots are told, and why they fail.

use crate::bucket::{self, Access, BucketUrl};
use crate::cli::snapshots::SnapshotsError;
use crate::config::{Config, ConfigError, Flags};
use crate::model::TsMs;
use crate::snapshot::{Catalog, Manifest, STANDALONE, SettingFlags, SnapshotError, Which};
use crate::store::{OpenError, StoreError};
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Which bucket, and which settings.
#[derive(Debug, clap::Args)]
pub(super) struct BucketArgs {
    /// Bucket and prefix, as serve has them [default: that of the settings of this environment]
    #[arg(long, value_name = "URL")]
    pub(super) snapshots: Option<String>,
    /// The data directory [default: that of the settings of this environment]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// Which snapshot.
#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    /// The snapshot's id, as list tells it [default: the newest]
    #[arg(value_name = "ID")]
    pub(super) id: Option<u64>,
    /// The newest snapshot of this time or before: ms since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    pub(super) at: Option<String>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SnapshotCliError {
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
    pub(in crate::cli) fn exit_code(&self) -> u8 {
        match self {
            Self::Snapshots(error) => error.exit_code(),
            Self::Store(_) | Self::Runtime(_) | Self::Service { .. } => 1,
            Self::Config(_) | Self::NoBucket | Self::Time(..) | Self::NoDirectory(_) | Self::Open(_) => 2,
        }
    }
}

/// A bucket with the settings that it came by, and what talks to it.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) catalog: Catalog,
    pub(super) runtime: Runtime,
}

impl BucketArgs {
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let snapshots = SettingFlags { snapshots: self.snapshots.clone(), ..SettingFlags::default() };
        let flags = Flags { snapshots, ..Flags::of_file(self.config.clone(), self.data_dir.clone()) };
        Config::load(&flags)
    }

    pub(super) fn open(&self, access: Access) -> Result<Opened, SnapshotCliError> {
        let config = self.config()?;
        let url: BucketUrl = config.snapshots.snapshots.clone().ok_or(SnapshotCliError::NoBucket)?;
        let bucket = bucket::open(&url, access).map_err(SnapshotError::from)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Opened { config, catalog: Catalog::new(bucket, STANDALONE), runtime })
    }
}

impl WhichArgs {
    pub(super) fn which(&self) -> Result<Which, SnapshotCliError> {
        match (self.id, &self.at) {
            (Some(id), _) => Ok(Which::Sequence(id)),
            (None, Some(text)) => {
                let time = TsMs::from_text(text);
                Ok(Which::At(time.map_err(|why| SnapshotCliError::Time(text.clone(), why.to_string()))?))
            }
            (None, None) => Ok(Which::Newest),
        }
    }

    pub(super) fn is_given(&self) -> bool {
        self.id.is_some() || self.at.is_some()
    }

    pub(super) fn find(&self, opened: &Opened) -> Result<Manifest, SnapshotCliError> {
        Ok(opened.runtime.block_on(opened.catalog.find(self.which()?))?)
    }
}
