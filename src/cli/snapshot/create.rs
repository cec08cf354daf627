//! `freqcap snapshot create`: of a data directory that no service runs on, or by a service that runs.

use super::super::snapshots::{StoreSource, holder};
use super::args::{BucketArgs, SnapshotCliError};
use super::tell;
use crate::api::SnapshotAnswer;
use crate::bucket::Access;
use crate::clock::Clock;
use crate::snapshot::{
    Details, Local, Options, SnapshotError, Snapshots, State, Summary, Waiting, Writer, WriterOptions,
};
use crate::store::{StorageKind, Store, StoreOptions};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Takes a snapshot: of a data directory that no service runs on, or by a running service
///
/// With --url the service takes it; it holds everything that was acknowledged before. Without, no service may run on the
/// data directory, nor write under the prefix.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    of: BucketArgs,
    /// A running service, which takes it
    #[arg(long, value_name = "URL", conflicts_with_all = ["snapshots", "data_dir", "takeover"])]
    url: Option<String>,
    /// Do not refuse because another process writes under the prefix: supersede it
    #[arg(long)]
    takeover: bool,
}

/// A first snapshot uploads everything.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// How long a running service may take to answer.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(args: &CreateArgs) -> Result<(), SnapshotCliError> {
    match &args.url {
        Some(url) => ask_service(url, args.of.json),
        None => of_directory(args),
    }
}

fn of_directory(args: &CreateArgs) -> Result<(), SnapshotCliError> {
    let opened = args.of.open(Access::Write)?;
    // As if changes were kept: there are none, so a mirror goes on where it was.
    let options = StoreOptions { keep_changes: true, storage: StorageKind::Rocksdb, ..opened.config.store_options() };
    let dir = options.data_dir.clone();
    if !dir.join("CURRENT").exists() {
        return Err(SnapshotCliError::NoDirectory(dir));
    }
    let store = Arc::new(Store::open(&options)?);
    let clock = Clock::system();
    let taken = opened.runtime.block_on(async {
        let id = store.info().id.clone();
        let options =
            WriterOptions { takeover: args.takeover, wait_max: Some(Duration::ZERO), ..WriterOptions::new(holder()) };
        let tell = |_: Waiting| {};
        let local = Local::Store(&dir, &id);
        let writer = Writer::acquire(opened.catalog.clone(), &options, local, &tell, &CancellationToken::new()).await?;
        writer.attach(&dir, &id)?;
        let keep = opened.config.snapshots.snapshots_keep.as_duration();
        let mut options = Options::new(dir.clone(), Arc::new(move || clock.now()));
        options.keep = keep;
        options.last_longest = LONGEST;
        let bar = tell::bar("uploading");
        bar.enable_steady_tick(Duration::from_millis(200));
        let snapshots = Snapshots::new(writer, Arc::new(StoreSource(store.clone())), options)?;
        let (handle, at_once) = (snapshots.handle(), CancellationToken::new());
        // Ended before it begins, it takes its last snapshot alone, and releases the lease.
        at_once.cancel();
        snapshots.run(at_once).await?;
        bar.finish_and_clear();
        let figures = handle.figures();
        match figures.error {
            Some((code, why)) => Err(SnapshotError::NotTaken { code, why }),
            None => Ok(Summary {
                sequence: figures.sequence,
                written_ms: figures.taken_ms.unwrap_or(0),
                state: State::Listed(Details {
                    store_id: id,
                    epoch: figures.epoch,
                    taken_ms: figures.taken_ms.unwrap_or(0),
                    bytes: figures.bytes,
                    files: figures.files,
                    rules_revision: figures.rules_revision,
                }),
            }),
        }
    });
    store.close()?;
    let answer = SnapshotAnswer::from(taken?);
    if args.of.json {
        println!("{}", serde_json::json!(answer));
    } else {
        println!("took {}", tell::sentence(&answer));
    }
    Ok(())
}

fn ask_service(base: &str, json: bool) -> Result<(), SnapshotCliError> {
    let url = format!("{}/snapshots", base.trim_end_matches('/'));
    let failed = |why: String| SnapshotCliError::Service { url: url.clone(), why };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder().timeout(SERVICE_TIMEOUT).no_proxy().build();
    let answer = client.and_then(|client| client.post(&url).send()).map_err(|why| failed(why.to_string()))?;
    let status = answer.status();
    let body: Value = answer.json().unwrap_or(Value::Null);
    if !status.is_success() {
        let detail = body["detail"].as_str().unwrap_or("no detail");
        return Err(failed(format!("{status}: {detail}")));
    }
    match (json, &body["id"]) {
        (true, _) => println!("{body}"),
        (false, Value::String(id)) => {
            println!(
                "took snapshot {id} of {} ms since 1970: {} bytes in {} files",
                body["time"], body["bytes"], body["files"]
            );
        }
        (false, _) => println!("the snapshot is under way; freqcap snapshot list shows it once it is done"),
    }
    Ok(())
}
