//! The store as snapshots see it: it makes checkpoints of itself, and copies of them ready.

use crate::random::random_id;
use crate::snapshot::{Catalog, Manifest, Prepare, SnapshotError, Source, read_file};
use crate::store::{self, Checkpoint, ERASED, PrepareOptions, Store, StoreOptions};
use std::path::Path;
use std::sync::Arc;

/// The open store, to be snapshotted.
pub struct StoreSource(pub Arc<Store>);

impl Source for StoreSource {
    fn store_id(&self) -> String {
        self.0.info().id.clone()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        self.0.checkpoint(dir).map_err(|error| error.to_string())
    }
}

/// What makes the files of a snapshot a store that goes on as a history of its own. Whoever was erased since, by the newest
/// snapshot, stays erased. Reads of the newest what that needs.
pub async fn prepare(
    catalog: &Catalog,
    wanted: &Manifest,
    newest: Option<&Manifest>,
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
    Ok(Arc::new(move |dir, _| {
        let store = StoreOptions { data_dir: dir.to_owned(), ..store.clone() };
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
