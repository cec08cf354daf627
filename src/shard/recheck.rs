//! Brings caps in line with rules that changed: every log is judged once by the new ones, some in each turn. Reads need
//! none of it; the mirror does.

use super::progress::Progress;
use crate::engine::{Policy, capped_until};
use crate::model::{ShardId, TsMs};
use crate::store::{RowKey, Store, StoreError, Turn};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a writer still has to judge anew.
pub(super) struct Recheck {
    own: Vec<ShardId>,
    /// Of the rules in force: a shard with this mark is done.
    revision: u64,
    shards: VecDeque<ShardId>,
    /// The row key of the first shard up to which it is done.
    after: Option<Vec<u8>>,
    progress: Arc<Progress>,
}

/// Some logs to judge anew.
#[derive(Default)]
pub(super) struct Page {
    pub row_keys: Vec<Vec<u8>>,
    /// The last row looked at, whether or not it is among `row_keys`.
    last: Option<Vec<u8>>,
    /// The shard that ends with this page.
    ends: Option<ShardId>,
}

impl Page {
    /// Whether it leaves nothing to write.
    pub(super) fn writes_nothing(&self) -> bool {
        self.row_keys.is_empty() && self.ends.is_none()
    }

    /// Leaves a mark where a shard ends, in the same write.
    pub(super) fn mark(&self, turn: &mut Turn<'_>, revision: u64) {
        if let Some(shard) = self.ends {
            turn.put_rules_mark(shard, revision);
        }
    }
}

impl Recheck {
    /// Finds the shards that were last judged by other rules. Blocks on disk.
    pub(super) fn load(
        store: &Store,
        shards: impl Iterator<Item = ShardId>,
        revision: u64,
        progress: Arc<Progress>,
    ) -> Result<Self, StoreError> {
        let own: Vec<ShardId> = shards.collect();
        let mut left = VecDeque::new();
        for &shard in &own {
            let mark = store.rules_mark(shard)?.unwrap_or(0);
            progress.judged(shard, mark);
            if mark != revision {
                left.push_back(shard);
            }
        }
        Ok(Self { own, revision, shards: left, after: None, progress })
    }

    /// Starts anew where other rules have come into force.
    pub(super) fn follow(&mut self, revision: u64) {
        if revision != self.revision {
            self.revision = revision;
            self.shards = self.own.iter().copied().collect();
            self.after = None;
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn shards_left(&self) -> usize {
        self.shards.len()
    }

    /// Looks at the next logs, at most `max`: those that are capped now, or may have been told to be. Blocks on disk.
    pub(super) fn next(&self, store: &Store, policy: &Policy, now: TsMs, max: usize) -> Result<Page, StoreError> {
        let Some(&shard) = self.shards.front() else { return Ok(Page::default()) };
        let mut row_keys = Vec::new();
        let mut key = String::new();
        let (last, ends) = store.scan_logs(shard, self.after.as_deref(), max, |row_key, mut row| {
            if !row.may_cap && RowKey::key_into(row_key, &mut key).is_some() {
                policy.refresh(&key, &mut row.log, now);
                if capped_until(policy, &key, &row.log, now).is_none() {
                    return;
                }
            }
            row_keys.push(row_key.to_vec());
        })?;
        Ok(Page { row_keys, last, ends: ends.then_some(shard) })
    }

    /// Says that a page was written.
    pub(super) fn advance(&mut self, page: Page) {
        if let Some(shard) = page.ends {
            self.progress.judged(shard, self.revision);
            self.shards.pop_front();
            self.after = None;
        } else if page.last.is_some() {
            self.after = page.last;
        }
    }
}
