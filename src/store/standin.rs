//! Stand-in for the checkpoint.

use super::store::Store;
use std::path::Path;

impl Store {
    /// Copies the store's files.
    pub fn standin_checkpoint(&self, dir: &Path) -> Result<Vec<(String, u64)>, String> {
        self.db.sync().map_err(|error| error.to_string())?;
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db.rocks).map_err(|error| error.to_string())?;
        checkpoint.create_checkpoint_with_log_size(dir, u64::MAX).map_err(|error| error.to_string())?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
        Ok(files)
    }
}
