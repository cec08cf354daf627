//! Snapshots: the store in a bucket.
//!
//! ```text
//! Writer::acquire   waits for the lease, begins an epoch        -> Writer
//! restore           into an empty directory, from a manifest
//! Writer::attach    once the store is open                         (the directory knows where it stands)
//! Snapshots::new    with the store as a Source                  -> Snapshots, its Handle
//! Snapshots::run    until drain, then a last one, then the lease is released
//! ```
//!
//! A snapshot exists once its manifest does, which is created only if absent, under the next number. Files are uploaded once
//! and named by every manifest that needs them. ARCHITECTURE.md has what always holds, `layout.rs` the names of the objects.
//!
//! From the bottom up: error, hash, layout, chain, manifest (what a snapshot is made of); catalog (which there are), data_dir (what a
//! directory knows of them), writer (epoch and lease); upload, plan, ship, take; fetch, follow, restore, verify; collect; status, service.

mod catalog;
mod chain;
mod chain_run;
mod collect;
mod data_dir;
mod error;
mod fetch;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hash;
mod layout;
mod manifest;
mod plan;
mod restore;
mod service;
mod settings;
mod ship;
mod source;
mod status;
mod steps;
mod take;
#[cfg(test)]
mod tests;
mod upload;
mod verify;
mod writer;

pub use catalog::{Catalog, Details, State, Summary, Which};
pub use chain::ChainAt;
pub use data_dir::{CHECKPOINT, Contents, MARK, contents, remove_checkpoint, store_id};
pub use error::SnapshotError;
pub use follow::Follow;
pub use layout::{FORMAT, STANDALONE};
pub use manifest::{File, Manifest, Part};
pub use restore::{OnProgress, Prepare, Progress, RestoreOptions, read_file, restore};
pub use service::{Handle, OnTaken, Options, Snapshots};
pub use settings::{Restore, SettingFlags, Settings};
pub use source::{Now, Source};
pub use status::{Figures, describe as describe_metrics};
pub use upload::PART_BYTES;
pub use verify::{OnVerified, Verified, verify};
pub use writer::{Local, Newer, Waiting, Writer, WriterOptions};
