//! Brings caps in line with changed rules: every key is judged once by the new ones, some in each turn. Reads do not
//! need this; the mirror does.
//!
//! A shard has two passes: first the rows of `caps`, since a shorter retention may have removed the log of a capped
//! key; then the logs, for what the new rules cap.

use super::progress::Progress;
use crate::engine::{Policy, capped_until};
use crate::model::{ShardId, ShardSet, TsMs};
use crate::store::{Commit, RowKey, Store, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a writer still has to judge again.
pub(super) struct Recheck {
    own: Vec<ShardId>,
    /// The revision of the rules in force. A shard with this mark is done.
    revision: u64,
    /// The revision when the first shard was begun. What is judged later is judged by these rules or newer ones, so
    /// this is the shard's mark.
    begun_by: u64,
    shards: VecDeque<ShardId>,
    /// The table of the first shard that is being read.
    stage: Stage,
    /// The row key in it up to which it is done.
    after: Option<Vec<u8>>,
    progress: Arc<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Caps,
    Logs,
}

/// Some keys to judge again.
#[derive(Default)]
pub(super) struct Page {
    pub row_keys: Vec<Vec<u8>>,
    /// The last row read, whether or not it is among `row_keys`.
    last: Option<Vec<u8>>,
    /// Whether the table ends with this page.
    is_last: bool,
    /// The shard that ends with this page.
    ends: Option<ShardId>,
}

impl Page {
    /// Whether it changes nothing.
    pub(super) fn writes_nothing(&self) -> bool {
        self.row_keys.is_empty() && self.ends.is_none()
    }

    /// Stores the mark of a finished shard, in the same write.
    pub(super) fn mark(&self, commit: &mut Commit<'_>, revision: u64) {
        if let Some(shard) = self.ends {
            commit.put_rules_revision(shard, revision);
        }
    }
}

impl Recheck {
    /// Finds the shards that were last judged by other rules. Blocks on disk.
    pub(super) fn load(
        store: &Store,
        shards: ShardSet,
        revision: u64,
        progress: Arc<Progress>,
    ) -> Result<Self, StoreError> {
        let own: Vec<ShardId> = shards.iter().collect();
        let mut left = VecDeque::new();
        for &shard in &own {
            let mark = store.meta().rules_revision(shard)?.unwrap_or(0);
            progress.judged(shard, mark, store.changes().last_seq(shard));
            if mark != revision {
                left.push_back(shard);
            }
        }
        Ok(Self { own, revision, begun_by: revision, shards: left, stage: Stage::Caps, after: None, progress })
    }

    /// Starts another round if other rules have come into force, from the current shard. A shard under way is finished
    /// first, and comes again at the end of the round. So however often the rules change, each shard is judged once in
    /// every round, by rules at most a round old.
    pub(super) fn follow(&mut self, revision: u64) {
        if revision == self.revision {
            return;
        }
        self.revision = revision;
        let first = self.shards.front().copied();
        let at = self.own.iter().position(|shard| Some(*shard) == first).unwrap_or(0);
        let is_under_way = self.stage == Stage::Logs || self.after.is_some();
        self.shards = self.own.iter().copied().cycle().skip(at).take(self.own.len()).collect();
        if is_under_way {
            self.shards.extend(first);
        } else {
            self.begun_by = revision;
        }
    }

    /// The revision by which the shard that ends next is judged.
    pub(super) fn begun_by(&self) -> u64 {
        self.begun_by
    }

    pub(super) fn shards_left(&self) -> usize {
        self.shards.len().min(self.own.len())
    }

    /// Reads the next rows, at most `max`: first the rows of `caps`, then the logs. Blocks on disk.
    pub(super) fn next(&self, store: &Store, policy: &Policy, now: TsMs, max: usize) -> Result<Page, StoreError> {
        let Some(&shard) = self.shards.front() else { return Ok(Page::default()) };
        if self.stage == Stage::Caps {
            let row_keys = store.caps().keys_after(shard, self.after.as_deref(), max)?;
            let (last, is_last) = (row_keys.last().cloned(), row_keys.len() < max);
            return Ok(Page { row_keys, last, is_last, ends: None });
        }
        let mut row_keys = Vec::new();
        let mut key = String::new();
        let (last, is_last) = store.logs().scan(shard, self.after.as_deref(), max, |row_key, mut row| {
            if RowKey::key_into(row_key, &mut key).is_some() {
                policy.refresh(&key, &mut row.log, now);
                if capped_until(policy, &key, &row.log, now).is_some() {
                    row_keys.push(row_key.to_vec());
                }
            }
        })?;
        Ok(Page { row_keys, last, is_last, ends: is_last.then_some(shard) })
    }

    /// Records that a page was written.
    pub(super) fn advance(&mut self, store: &Store, page: Page) {
        if let Some(shard) = page.ends {
            self.progress.judged(shard, self.begun_by, store.changes().last_seq(shard));
            self.shards.pop_front();
            self.begun_by = self.revision;
        }
        match page {
            Page { is_last: true, ends: None, .. } => (self.stage, self.after) = (Stage::Logs, None),
            Page { is_last: true, .. } => (self.stage, self.after) = (Stage::Caps, None),
            Page { last: Some(last), .. } => self.after = Some(last),
            _ => {}
        }
    }
}
