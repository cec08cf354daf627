//! Events of a Kafka partition on their way to a writer.

use super::event_batch::EventBatch;
use crate::store::MarkKey;
use std::sync::Arc;

/// Events of one chunk for one writer.
pub(super) struct KafkaBatch {
    pub events: EventBatch,
    /// The offsets of the chunk's records, by the index of its events.
    pub offsets: Arc<[u64]>,
    pub mark: Arc<MarkKey>,
    /// Its number in its queue, from 0.
    pub nth: u64,
    /// The end of the chunk: the offset that the writer takes next.
    pub next: u64,
}

impl KafkaBatch {
    /// The offset of an event's record.
    pub(super) fn offset_of(&self, number: u32) -> Option<u64> {
        self.offsets.get(number as usize).copied()
    }
}
