//! What all units of a process share.

use super::mailbox::TaskBytes;
use super::options::Options;
use super::reader::ReadPlaces;
use crate::store::{self, StoreOptions};
use std::sync::Arc;

/// The memory and the places for work that all units of a process share. Clones share it.
#[derive(Clone)]
pub struct Resources {
    pub(super) store: store::Resources,
    pub(super) bounds: SharedBounds,
}

/// Bounds on what waits, of all units together.
#[derive(Clone)]
pub(super) struct SharedBounds {
    pub task_bytes: Arc<TaskBytes>,
    pub places: ReadPlaces,
}

impl Resources {
    /// As much as the options of one unit say.
    pub fn new(store: &StoreOptions, shards: &Options) -> Self {
        Self { store: store::Resources::new(store), bounds: SharedBounds::new(shards) }
    }
}

impl SharedBounds {
    pub(super) fn new(options: &Options) -> Self {
        Self { task_bytes: Arc::new(TaskBytes::new(options.mailbox_bytes)), places: ReadPlaces::default() }
    }
}
