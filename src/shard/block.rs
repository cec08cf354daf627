//! Events on their way to a writer: packed into one piece of memory, with the row keys they touch.

use crate::engine::{Policy, TsInFuture, admit};
use crate::model::{Event, Kind, ShardId, TsMs};
use crate::store::RowKey;
use std::ops::Range;
use std::sync::Arc;

/// One event of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub ts: TsMs,
    pub hash: u64,
    pub kind: Kind,
    /// Where its row keys stand in [`EventBlock::keys`]; the first is its ad's.
    keys: (u32, u32),
}

/// Events for one writer. Made by [`BlockBuilder`].
#[derive(Debug, Default)]
pub struct EventBlock {
    bytes: Vec<u8>,
    keys: Vec<(usize, usize)>,
    events: Vec<Packed>,
}

impl EventBlock {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of row keys that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn events(&self) -> &[Packed] {
        &self.events
    }

    /// The numbers of an event's row keys.
    pub(super) fn keys_of(&self, event: &Packed) -> Range<usize> {
        event.keys.0 as usize..event.keys.1 as usize
    }

    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn row_key(&self, number: usize) -> &[u8] {
        let (start, end) = self.keys[number];
        &self.bytes[start..end]
    }

    fn push_key(&mut self, user: &str, key: &str) {
        let start = self.bytes.len();
        RowKey::write(&mut self.bytes, user, key);
        self.keys.push((start, self.bytes.len()));
    }

    fn push_ad_key(&mut self, user: &str, da: &str) {
        let start = self.bytes.len();
        RowKey::write_da(&mut self.bytes, user, da);
        self.keys.push((start, self.bytes.len()));
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

    /// Adds an event, unless its time is too far ahead.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), TsInFuture> {
        let ts = admit(&self.policy, event.ts, self.now)?;
        let user = event.user.as_str();
        let shard = ShardId::of_user(user.as_bytes());
        let writer = writer_of(shard, self.blocks.len());
        let block = &mut self.blocks[writer];
        let first = block.keys.len() as u32;
        block.push_ad_key(user, event.da.as_str());
        for key in &event.keys {
            block.push_key(user, key.as_str());
        }
        let keys = (first, block.keys.len() as u32);
        block.events.push(Packed { ts, hash: event.hash(), kind: event.kind, keys });
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
