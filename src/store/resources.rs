//! What all stores of a process share.

use super::options::StoreOptions;
use crate::alarm::Alarm;
use rocksdb::{Cache, WriteBufferManager};

/// Memory for blocks that were read and for what is not in a file yet. However many stores use it, it is bounded as for
/// one. Clones share it.
#[derive(Clone)]
pub struct Resources {
    pub(super) block_cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
    /// A thread that panicked says so once, for all of them.
    pub(super) alarm: Alarm,
}

impl Resources {
    /// As much as the options of one store say.
    pub fn new(options: &StoreOptions) -> Self {
        Self {
            block_cache: Cache::new_hyper_clock_cache(options.block_cache.as_usize(), 0),
            write_buffers: options.write_buffers(),
            alarm: Alarm::default(),
        }
    }
}
