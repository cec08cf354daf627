//! The command that counts held events of ads under keys that the catalogue gave them later.

use super::command::{Calls, Command, Reply, TurnState};
use super::working_set::WorkingSet;
use crate::engine::backfill;
use crate::model::ShardId;
use crate::store::{RowKey, RowKeys};
use hashbrown::HashSet;
use std::ops::Range;

/// Logs of ads of one shard, and the keys that their events are counted under, too.
#[derive(Debug, Default)]
pub struct BackfillPage {
    /// Of each ad's log its own row key, then those of the keys.
    keys: RowKeys,
    /// The row keys of each, as numbers.
    logs: Vec<Range<u32>>,
}

impl BackfillPage {
    /// Adds the log of an ad by its row key. One that is none is left out.
    pub fn push<'k>(&mut self, row_key: &[u8], keys: impl Iterator<Item = &'k str>) {
        let Some((user, key)) = RowKey::parse(row_key) else { return };
        let Some(da) = key.strip_prefix("da:") else { return };
        let first = self.keys.len() as u32;
        self.keys.push_da_in(ShardId(row_key[0]), user, da);
        for key in keys {
            self.keys.push_sibling(first as usize, key);
        }
        self.logs.push(first..self.keys.len() as u32);
    }

    /// How many logs it has.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }
}

/// Counts the events that are held under the other keys. The output is how many were added.
pub(super) struct BackfillLogs {
    pub page: BackfillPage,
    pub reply: Reply<usize>,
}

impl Command for BackfillLogs {
    type Output = usize;

    fn into_reply(self) -> Reply<usize> {
        self.reply
    }

    fn drop_input(&mut self) {
        self.page = BackfillPage::default();
    }

    fn weight(&self) -> usize {
        self.page.len()
    }

    fn row_count(&self) -> usize {
        self.page.keys.len()
    }

    fn bytes(&self) -> usize {
        self.page.keys.bytes()
    }

    fn gather<'b>(&'b self, _calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>) {
        slots.extend(self.page.keys.iter().map(|row_key| set.take(row_key)));
    }

    fn hashes(&self, _calls: &Calls, _hashes: &mut HashSet<u64>) {}

    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        let mut added = 0;
        for log in &self.page.logs {
            let row_key = self.page.keys.get(log.start as usize);
            if state.set.is_unreadable(row_key) || state.context.opt_outs.has_row(row_key) {
                continue;
            }
            if let [da, keys @ ..] = &slots[log.start as usize..log.end as usize] {
                added += backfill(state.context.policy, state.set, *da, keys);
            }
        }
        self.reply.set(added);
    }
}
