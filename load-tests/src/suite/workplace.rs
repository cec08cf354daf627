//! The directory that data goes to: on a disk, for fsync into memory costs nothing, and gone afterwards.

use anyhow::Context;
use std::path::Path;
use tempfile::TempDir;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58F6;
const PREFIX: &str = "freqcap-load-tests-";

pub fn make(parent: Option<&Path>) -> anyhow::Result<TempDir> {
    let default = std::env::temp_dir();
    let parent = parent.unwrap_or(&default);
    std::fs::create_dir_all(parent)?;
    let kind = rustix::fs::statfs(parent)?.f_type;
    anyhow::ensure!(
        ![TMPFS, RAMFS].contains(&(kind as u64)),
        "{} is memory, not a disk: name another directory with --work-dir",
        parent.display()
    );
    remove_leftovers(parent);
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).context("making a directory for data")
}

/// What runs left that were killed: gigabytes, perhaps.
fn remove_leftovers(parent: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
