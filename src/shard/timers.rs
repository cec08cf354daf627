//! The ends of caps in a writer's shards.

use crate::model::{ShardId, ShardSet, TsMs};
use crate::store::{DueRow, Store, StoreError};

/// The first timer of each shard that a writer owns.
pub(super) struct Timers {
    shards: Vec<ShardTimers>,
}

/// Due timers by shard, and the position of each shard once they are removed.
#[derive(Default)]
pub(super) struct Due {
    pub rows: Vec<Vec<DueRow>>,
    cursors: Vec<(usize, TsMs, Option<TsMs>)>,
}

struct ShardTimers {
    shard: ShardId,
    next: Option<TsMs>,
    /// Every earlier timer has fired and is removed: reading from here spares their tombstones.
    from: TsMs,
}

impl Timers {
    /// Finds the first timer of every shard. Blocks on disk.
    pub(super) fn load(store: &Store, shards: ShardSet) -> Result<Self, StoreError> {
        let mut timers = Vec::new();
        for shard in shards.iter() {
            let next = store.due().first(shard)?;
            timers.push(ShardTimers { shard, next, from: next.unwrap_or_default() });
        }
        Ok(Self { shards: timers })
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<TsMs> {
        self.shards.iter().filter_map(|timers| timers.next).min()
    }

    /// Finds up to `max` due timers, in order within a shard. The turn that handles them must remove them, and only
    /// after its write may [`Timers::advance`] go past them. Blocks on disk.
    pub(super) fn due(&self, store: &Store, now: TsMs, max: usize) -> Result<Due, StoreError> {
        let mut due = Due::default();
        let mut left = max;
        for (number, timers) in self.shards.iter().enumerate() {
            if left == 0 {
                break;
            }
            if timers.next.is_none_or(|next| next > now) {
                continue;
            }
            let rows = store.due().between(timers.shard, timers.from, now, left)?;
            let (from, next) = if rows.len() == left {
                // There may be more, even at the same instant.
                let last = rows.last().map_or(timers.from, |row| row.due);
                (last, Some(last))
            } else {
                let after = now.saturating_add(1);
                (after, store.due().between(timers.shard, after, TsMs(Self::END), 1)?.first().map(|row| row.due))
            };
            due.cursors.push((number, from, next));
            left -= rows.len();
            if !rows.is_empty() {
                due.rows.push(rows);
            }
        }
        Ok(due)
    }

    /// Goes past timers that were removed.
    pub(super) fn advance(&mut self, due: &Due) {
        for &(number, from, next) in &due.cursors {
            let timers = &mut self.shards[number];
            (timers.from, timers.next) = (from, next);
        }
    }

    /// After every possible instant of a timer.
    const END: u64 = (1 << 48) - 2;

    /// Records that a timer was set.
    pub(super) fn added(&mut self, shard: ShardId, due: TsMs) {
        if let Some(timers) = self.shards.iter_mut().find(|timers| timers.shard == shard) {
            timers.next = Some(timers.next.map_or(due, |next| next.min(due)));
            timers.from = timers.from.min(due);
        }
    }
}
