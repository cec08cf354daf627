//! When the caps of a writer's shards end.

use crate::model::{ShardId, ShardSet, TsMs};
use crate::store::{DueRow, Store, StoreError};

/// The first timer of each shard that a writer owns.
pub(super) struct Timers {
    shards: Vec<ShardTimers>,
}

/// Timers that are due, by shard, and where each shard stands once they are gone.
#[derive(Default)]
pub(super) struct Due {
    pub rows: Vec<Vec<DueRow>>,
    cursors: Vec<(usize, TsMs, Option<TsMs>)>,
}

struct ShardTimers {
    shard: ShardId,
    next: Option<TsMs>,
    /// Every timer before this has fired and is gone: reading from here spares the tombstones.
    from: TsMs,
}

impl Timers {
    /// Finds the first timer of every shard. Blocks on disk.
    pub(super) fn load(store: &Store, shards: ShardSet) -> Result<Self, StoreError> {
        let load = |shard| {
            let next = store.due().first(shard)?;
            Ok(ShardTimers { shard, next, from: next.unwrap_or_default() })
        };
        Ok(Self { shards: shards.iter().map(load).collect::<Result<_, StoreError>>()? })
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<TsMs> {
        self.shards.iter().filter_map(|timers| timers.next).min()
    }

    /// Finds up to `max` timers that are due, in order within a shard. They must be removed in the turn that acts on
    /// them, and only once that is written may [`Timers::advance`] go past them. Blocks on disk.
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
                // There may be more, even of the same instant.
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

    /// Past every instant that a timer can have.
    const END: u64 = (1 << 48) - 2;

    /// Says that a timer was set.
    pub(super) fn added(&mut self, shard: ShardId, due: TsMs) {
        if let Some(timers) = self.shards.iter_mut().find(|timers| timers.shard == shard) {
            timers.next = Some(timers.next.map_or(due, |next| next.min(due)));
            timers.from = timers.from.min(due);
        }
    }
}
