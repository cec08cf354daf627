//! A store that is nothing but files.

use crate::model::TsMs;
use crate::snapshot::Source;
use crate::store::{Checkpoint, CheckpointFile, FileKind, FrontierAt};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Files in memory, which a checkpoint writes out.
#[derive(Clone)]
pub struct FakeStore(Arc<Mutex<Inner>>);

struct Inner {
    id: String,
    next: u64,
    log: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl FakeStore {
    pub fn new(id: &str) -> Self {
        let files = BTreeMap::from([
            ("CURRENT".to_owned(), b"MANIFEST-000001\n".to_vec()),
            ("MANIFEST-000001".to_owned(), b"first".to_vec()),
            ("OPTIONS-000002".to_owned(), vec![b'o'; 5_000]),
            ("freqcap.synced".to_owned(), Vec::new()),
        ]);
        let log = "000003.log".to_owned();
        Self(Arc::new(Mutex::new(Inner { id: id.to_owned(), next: 4, log, files })))
    }

    pub fn id(&self) -> String {
        self.0.lock().unwrap().id.clone()
    }

    /// Appends to the log, and to the list of files.
    pub fn log(&self, bytes: &[u8]) {
        let mut inner = self.0.lock().unwrap();
        let log = inner.log.clone();
        inner.files.entry(log).or_default().extend_from_slice(bytes);
        inner.files.get_mut("MANIFEST-000001").unwrap().push(b'+');
    }

    /// A new table of so many bytes; the log ends.
    pub fn table(&self, bytes: usize) -> String {
        let mut inner = self.0.lock().unwrap();
        let number = inner.next;
        inner.next += 1;
        let name = format!("{number:06}.sst");
        let row = (number as u8).wrapping_mul(31);
        inner.files.insert(name.clone(), (0..bytes).map(|i| (i as u8).wrapping_add(row)).collect());
        let log = inner.log.clone();
        inner.files.remove(&log);
        name
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().files.remove(name).unwrap();
    }

    pub fn set(&self, name: &str, bytes: &[u8]) {
        self.0.lock().unwrap().files.insert(name.to_owned(), bytes.to_vec());
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap().files.clone()
    }
}

/// The files of a restored directory.
pub fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ours = names.filter(|name| !name.starts_with("freqcap.") || name == "freqcap.synced");
    ours.map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap())).collect()
}

impl Source for FakeStore {
    fn store_id(&self) -> String {
        self.id()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, String> {
        std::fs::create_dir(dir).map_err(|error| error.to_string())?;
        let inner = self.0.lock().unwrap();
        let mut files = Vec::new();
        for (name, bytes) in &inner.files {
            // A log is longer by the time that it is read.
            let is_log = matches!(FileKind::of(name), FileKind::Log | FileKind::Manifest);
            let later: &[u8] = if is_log { b"later" } else { b"" };
            std::fs::write(dir.join(name), [bytes, later].concat()).map_err(|error| error.to_string())?;
            files.push(CheckpointFile { name: name.clone(), bytes: bytes.len() as u64, kind: FileKind::of(name) });
        }
        let kafka = vec![FrontierAt { topic: "events".to_owned(), partition: 0, next: inner.next }];
        let clock = Some(TsMs(1_700_000_000_000));
        Ok(Checkpoint { dir: dir.to_owned(), sequence: inner.next, files, kafka, rules_revision: 1, clock })
    }
}
