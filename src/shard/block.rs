//! Events on their way to a writer: packed into one piece of memory, with the row keys they touch.

use crate::engine::{Policy, TsInFuture, admit};
use crate::model::{Entry, Event, Kind, ShardId, TsMs};
use crate::store::RowKeys;
use std::ops::Range;
use std::sync::Arc;

/// One event of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub entry: Entry,
    pub kind: Kind,
    /// Where its row keys stand in [`EventBlock::keys`]; the first is its ad's.
    keys: (u32, u32),
}

/// Events for one writer. Made by [`BlockBuilder`].
#[derive(Debug, Default)]
pub struct EventBlock {
    keys: RowKeys,
    events: Vec<Packed>,
}

impl EventBlock {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn events(&self) -> &[Packed] {
        &self.events
    }

    /// The numbers of an event's row keys.
    pub(super) fn keys_of(&self, event: &Packed) -> Range<usize> {
        event.keys.0 as usize..event.keys.1 as usize
    }

    pub(super) fn keys(&self) -> &RowKeys {
        &self.keys
    }
}

/// Sorts events into a block a writer.
#[derive(Debug)]
pub struct BlockBuilder {
    blocks: Vec<EventBlock>,
    policy: Arc<Policy>,
    now: TsMs,
}

impl BlockBuilder {
    /// `now` is the time of receipt, for events without one.
    pub(super) fn new(writers: usize, policy: Arc<Policy>, now: TsMs) -> Self {
        let blocks = std::iter::repeat_with(EventBlock::default).take(writers).collect();
        Self { blocks, policy, now }
    }

    /// Whether an event's time is not too far ahead.
    pub fn admits(&self, event: &Event<'_>) -> Result<(), TsInFuture> {
        admit(&self.policy, event.ts, self.now).map(drop)
    }

    /// Adds an event, unless its time is too far ahead.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), TsInFuture> {
        let ts = admit(&self.policy, event.ts, self.now)?;
        let user = event.user.as_str();
        let shard = ShardId::of_user(user.as_bytes());
        let writer = writer_of(shard, self.blocks.len());
        let block = &mut self.blocks[writer];
        let first = block.keys.len() as u32;
        block.keys.push_da_in(shard, user, event.da.as_str());
        for key in &event.keys {
            block.keys.push_beside(first as usize, key.as_str());
        }
        let keys = (first, block.keys.len() as u32);
        block.events.push(Packed { entry: Entry { ts, hash: event.hash() }, kind: event.kind, keys });
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.blocks.iter().map(EventBlock::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blocks with the writers they are for; empty ones are left out.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = (usize, EventBlock)> {
        self.blocks.into_iter().enumerate().filter(|(_, block)| !block.is_empty())
    }
}

/// Which of `writers` owns a shard.
pub(super) fn writer_of(shard: ShardId, writers: usize) -> usize {
    shard.index() % writers
}

/// Which of `writers` owns a user.
pub(super) fn writer_of_user(user: &str, writers: usize) -> usize {
    writer_of(ShardId::of_user(user.as_bytes()), writers)
}
