//! The store as snapshots see it: it makes checkpoints of itself, and copies of them ready.

use crate::random::random_id;
use crate::snapshot::{
    Catalog, Checkpoint, CheckpointFile, FileKind, KafkaFrontier, Manifest, Prepare, SnapshotError, Source, read_file,
};
use crate::store::{self, CheckpointFileKind, ERASED, PrepareOptions, Store, StoreOptions};
use std::path::Path;
use std::sync::Arc;

/// The open store, to be snapshotted.
pub struct StoreSource(pub Arc<Store>);

impl Source for StoreSource {
    fn store_id(&self) -> String {
        self.0.info().id.clone()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        let store::Checkpoint { dir, sequence, files, kafka, rules_revision, clock } =
            self.0.checkpoint(dir).map_err(|error| error.to_string())?;
        let kafka = kafka.into_iter().map(|frontier| KafkaFrontier {
            topic: frontier.topic,
            partition: i32::try_from(frontier.partition).unwrap_or(i32::MAX),
            offset: i64::try_from(frontier.next).unwrap_or(i64::MAX),
        });
        let files = files.into_iter().map(|file| CheckpointFile {
            name: file.name,
            bytes: file.bytes,
            kind: kind_of(file.kind),
        });
        let (files, kafka) = (files.collect(), kafka.collect());
        Ok(Checkpoint { dir, sequence, files, kafka, rules_revision, clock_ms: clock.map(|clock| clock.0) })
    }
}

fn kind_of(kind: CheckpointFileKind) -> FileKind {
    match kind {
        CheckpointFileKind::Table => FileKind::Table,
        CheckpointFileKind::Log => FileKind::Log,
        CheckpointFileKind::Manifest => FileKind::Manifest,
        CheckpointFileKind::Current => FileKind::Current,
        CheckpointFileKind::Options => FileKind::Options,
        CheckpointFileKind::Other => FileKind::Other,
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
