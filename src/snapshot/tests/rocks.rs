//! A real RocksDB: its logs and its list of files are only appended to, which pieces rely on.

use super::*;
use crate::store::{Checkpoint, CheckpointFile, FileKind};
use rocksdb::checkpoint::Checkpoint as RocksCheckpoint;
use rocksdb::{DB, IteratorMode};
use std::collections::BTreeMap;

#[derive(Clone)]
struct RocksStore(Arc<DB>);

impl Source for RocksStore {
    fn store_id(&self) -> String {
        "rocks".to_owned()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        let sequence = self.0.latest_sequence_number();
        let checkpoint = RocksCheckpoint::new(&self.0).map_err(|error| error.to_string())?;
        checkpoint.create_checkpoint_with_log_size(dir, u64::MAX).map_err(|error| error.to_string())?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let name = entry.file_name().into_string().unwrap();
            let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
            files.push(CheckpointFile { kind: FileKind::of(&name), name, bytes });
        }
        let (dir, kafka) = (dir.to_owned(), Vec::new());
        Ok(Checkpoint { dir, sequence, files, kafka, rules_revision: 0, clock: None })
    }
}

fn rows(db: &DB) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = db.iterator(IteratorMode::Start).map(Result::unwrap);
    rows.map(|(key, value)| (key.into_vec(), value.into_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_comes_back_with_every_row_of_its_log() {
    let place = Place::in_directory();
    let data = place.dir("data");
    let mut expected = BTreeMap::new();
    let mut pieces = 0;
    for process in 0..3_u32 {
        let db = Arc::new(DB::open_default(&data).unwrap());
        assert_eq!(rows(&db), expected);
        let local = if process == 0 { Local::Nothing } else { Local::Store(&data, "rocks") };
        let writer = place.acquire(local).await.unwrap();
        writer.attach(&data, "rocks").unwrap();
        let source = Arc::new(RocksStore(db.clone()));
        let running = Running::new(Snapshots::new(writer, source, options(&data)).unwrap());
        for round in 0..6_u32 {
            for row in 0..500_u32 {
                let key = format!("{:08x}", row.wrapping_mul(2_654_435_761) >> (process + 8)).into_bytes();
                let value = vec![(round + row) as u8; 100];
                db.put(&key, &value).unwrap();
                expected.insert(key, value);
            }
            if round == 3 {
                db.flush().unwrap();
            }
            running.handle.take().await.unwrap();
            let newest = place.catalog().newest().await.unwrap().unwrap();
            pieces = newest.files.iter().map(|file| file.parts.len()).max().unwrap().max(pieces);
            let copy = place.dir(&format!("copy-{process}-{round}"));
            restore(&place.catalog(), newest, &RestoreOptions::new(copy.clone())).await.unwrap();
            let restored = DB::open_default(&copy).unwrap();
            assert_eq!(rows(&restored), expected, "process {process}, round {round}");
        }
        let figures = running.handle.figures();
        assert!(figures.spared_bytes > figures.uploaded_bytes / 2, "{figures:?}");
        running.kill().await;
        drop(db);
    }
    assert!(pieces > 2, "{pieces}");
}
