//! The store as snapshots see it: it makes checkpoints of itself, and copies of them ready.

use crate::model::TsMs;
use crate::random::random_id;
use crate::snapshot::{Catalog, Follow, Manifest, Prepare, SnapshotError, Source, read_file};
use crate::store::{self, Checkpoint, ERASED, PrepareOptions, Replay, Store, StoreOptions, TailBatch, TailGap};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The open store, to be snapshotted.
pub struct StoreSource(pub Arc<Store>);

impl Source for StoreSource {
    fn store_id(&self) -> String {
        self.0.info().id.clone()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        self.0.checkpoint(dir).map_err(|error| error.to_string())
    }

    fn keep_tail(&self, bytes_max: usize) {
        self.0.keep_tail(bytes_max);
    }

    fn take_tail(&self, bytes_max: usize) -> Result<Vec<TailBatch>, TailGap> {
        self.0.take_tail(bytes_max)
    }
}

/// Which of the writes that were shipped after a snapshot are restored with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shipped {
    /// None: the store is to be as it was when the snapshot was taken.
    None,
    /// All; where one cannot be read, the restore fails.
    All,
    /// As far as they can be read: somebody has seen the error, and chosen this.
    Readable,
    /// Those that were shipped by then.
    Until(TsMs),
}

/// What makes the files of a snapshot a store that goes on as a history of its own. Whoever was erased since, by the newest
/// snapshot, stays erased. Reads of the newest what that needs.
pub async fn prepare(
    catalog: &Catalog,
    wanted: &Manifest,
    newest: Option<&Manifest>,
    shipped: Shipped,
    store: StoreOptions,
    as_new: bool,
) -> Result<Prepare, SnapshotError> {
    let newest_erased = match newest {
        Some(newest) if newest.sequence > wanted.sequence && newest.store_id == wanted.store_id => {
            read_file(catalog, newest, ERASED).await?
        }
        _ => None,
    };
    let new_id = as_new.then(random_id);
    let (catalog, runtime) = (catalog.clone(), Handle::current());
    Ok(Arc::new(move |dir, manifest| {
        let store = StoreOptions { data_dir: dir.to_owned(), ..store.clone() };
        replay(&runtime, &catalog, manifest, shipped, &store)?;
        let options = PrepareOptions {
            incarnation: &random_id(),
            new_id: new_id.as_deref(),
            newest_erased: newest_erased.as_deref(),
        };
        let prepared = store::prepare(&store, &options).map_err(|error| error.to_string())?;
        if prepared.users_erased > 0 {
            tracing::info!(users = prepared.users_erased, "erased who had been erased since the snapshot");
        }
        Ok(())
    }))
}

/// Replays the writes that were shipped after the snapshot.
fn replay(
    runtime: &Handle,
    catalog: &Catalog,
    manifest: &Manifest,
    shipped: Shipped,
    store: &StoreOptions,
) -> Result<(), String> {
    let Some(chain) = manifest.chain.as_ref().filter(|_| shipped != Shipped::None) else { return Ok(()) };
    let until = match shipped {
        Shipped::Until(until) => Some(until),
        Shipped::None | Shipped::All | Shipped::Readable => None,
    };
    let replaying = |error: SnapshotError| {
        if !error.is_of_the_snapshot() {
            return error.to_string();
        }
        let id = manifest.sequence;
        format!(
            "{error}. It has writes that came after snapshot {id}: --restore {id} goes on without them and all that came later"
        )
    };
    let begun = runtime.block_on(Follow::begin(catalog, manifest, until, shipped == Shipped::Readable));
    let Some(mut follow) = begun.map_err(replaying)? else { return Ok(()) };
    if follow.left() == 0 {
        return Ok(());
    }
    let name = format!("{}/{}", manifest.nonce, chain.name);
    let replay = Replay::begin(store, name.as_bytes(), manifest.store_sequence);
    let mut replay = replay.map_err(|error| error.to_string())?;
    let (mut segments, mut writes) = (0u64, 0u64);
    loop {
        let batches = match runtime.block_on(follow.next()) {
            Ok(Some(batches)) => batches,
            Ok(None) => break,
            Err(error) if shipped == Shipped::Readable && error.is_of_the_snapshot() => {
                tracing::error!(%error, left_out = follow.left(), "writes are lost: the restore ends before what cannot be read");
                break;
            }
            Err(error) => return Err(replaying(error)),
        };
        segments += 1;
        // The snapshot has these.
        for batch in batches.iter().filter(|batch| batch.last() > manifest.store_sequence) {
            replay.apply(batch).map_err(|error| error.to_string())?;
            writes += 1;
        }
    }
    let sequence = replay.end().map_err(|error| error.to_string())?;
    tracing::info!(segments, writes, sequence, "replayed the writes that were shipped after the snapshot");
    Ok(())
}
