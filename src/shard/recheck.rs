//! Brings caps in line with rules that changed while nobody was looking: after a start with other rules than the last,
//! every log is judged once again, some in each turn. Reads need none of it; the mirror does.

use crate::model::ShardId;
use crate::store::{Store, StoreError, Turn};
use std::collections::VecDeque;

/// What a writer still has to judge anew.
pub(super) struct Recheck {
    /// Of the rules in force: a shard with this mark is done.
    rules: u64,
    shards: VecDeque<ShardId>,
    /// The row key of the first shard up to which it is done.
    after: Option<Vec<u8>>,
}

/// Some logs to judge anew.
#[derive(Default)]
pub(super) struct Page {
    pub row_keys: Vec<Vec<u8>>,
    /// The shard that ends with this page.
    ends: Option<ShardId>,
}

impl Page {
    pub(super) fn is_empty(&self) -> bool {
        self.row_keys.is_empty() && self.ends.is_none()
    }

    /// Leaves a mark where a shard ends, in the same write.
    pub(super) fn mark(&self, turn: &mut Turn<'_>, rules: u64) {
        if let Some(shard) = self.ends {
            turn.put_rules_mark(shard, rules);
        }
    }
}

impl Recheck {
    /// Finds the shards that were last judged by other rules. Blocks on disk.
    pub(super) fn load(store: &Store, shards: impl Iterator<Item = ShardId>, rules: u64) -> Result<Self, StoreError> {
        let mut left = VecDeque::new();
        for shard in shards {
            if store.rules_mark(shard)? != Some(rules) {
                left.push_back(shard);
            }
        }
        Ok(Self { rules, shards: left, after: None })
    }

    pub(super) fn rules(&self) -> u64 {
        self.rules
    }

    pub(super) fn shards_left(&self) -> usize {
        self.shards.len()
    }

    /// The next logs, at most `max`. Blocks on disk.
    pub(super) fn next(&self, store: &Store, max: usize) -> Result<Page, StoreError> {
        let Some(&shard) = self.shards.front() else { return Ok(Page::default()) };
        let row_keys = store.log_keys_after(shard, self.after.as_deref(), max)?;
        let ends = (row_keys.len() < max).then_some(shard);
        Ok(Page { row_keys, ends })
    }

    /// Says that a page was written.
    pub(super) fn advance(&mut self, page: &Page) {
        if page.ends.is_some() {
            self.shards.pop_front();
            self.after = None;
        } else if let Some(last) = page.row_keys.last() {
            self.after = Some(last.clone());
        }
    }
}
