//! `freqcap compact`: rewrites a data directory in as few bytes as it can have, while no service runs on it.

use crate::config::{Config, ConfigError, Flags};
use crate::store::{ByteSize, OpenError, StorageKind, Store, StoreError, StoreOptions, stores_in};
use serde::Serialize;

/// Rewrites the files of a data directory, without the room that they have for changes
///
/// For a directory that is to be copied, or to be measured: a service that runs does as much by and by. No service may run
/// on it meanwhile. It takes room for a second copy of the largest table.
#[derive(Debug, clap::Args)]
pub(super) struct CompactArgs {
    /// The data directory [default: that of the settings of this environment]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Why it did not.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompactError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("compacting: {0}")]
    Store(#[from] StoreError),
}

#[derive(Serialize)]
struct Report {
    /// Bytes of files.
    before: u64,
    after: u64,
}

pub(super) fn run(args: &CompactArgs) -> Result<(), CompactError> {
    let flags = Flags::of_file(args.config.clone(), args.data_dir.clone());
    let config = Config::load(&flags)?;
    // As if changes were kept: there are none, so a mirror goes on where it was.
    let options = StoreOptions { keep_changes: true, storage: StorageKind::Rocksdb, ..config.store_options() };
    let mut report = Report { before: 0, after: 0 };
    for unit in stores_in(&options)? {
        let store = Store::open(&unit)?;
        report.before += files(&store);
        store.compact()?;
        report.after += files(&store);
        store.close()?;
    }
    if args.json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("{:?} before, {:?} after", in_kib(report.before), in_kib(report.after));
    }
    Ok(())
}

fn files(store: &Store) -> u64 {
    store.table_figures("rocksdb.total-sst-files-size").into_iter().map(|(_, bytes)| bytes).sum()
}

fn in_kib(bytes: u64) -> ByteSize {
    ByteSize(bytes.div_ceil(1024) << 10)
}
