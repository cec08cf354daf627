//! When the caps of a writer's shards end.

use crate::model::{ShardId, TsMs};
use crate::store::{DueRow, Store, StoreError};

/// The first timer of each shard that a writer owns.
pub(super) struct Timers {
    shards: Vec<ShardTimers>,
}

struct ShardTimers {
    shard: ShardId,
    next: Option<TsMs>,
    /// Every timer before this has fired and is gone: reading from here spares the tombstones.
    from: TsMs,
}

impl Timers {
    /// Finds the first timer of every shard. Blocks on disk.
    pub(super) fn load(store: &Store, shards: impl Iterator<Item = ShardId>) -> Result<Self, StoreError> {
        let load = |shard| {
            let next = store.first_due(shard)?;
            Ok(ShardTimers { shard, next, from: next.unwrap_or_default() })
        };
        Ok(Self { shards: shards.map(load).collect::<Result<_, StoreError>>()? })
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<TsMs> {
        self.shards.iter().filter_map(|timers| timers.next).min()
    }

    /// Takes up to `max` timers that are due, in order within a shard. They must be removed in the turn that acts on
    /// them. Blocks on disk.
    pub(super) fn take_due(&mut self, store: &Store, now: TsMs, max: usize) -> Result<Vec<Vec<DueRow>>, StoreError> {
        let mut taken = Vec::new();
        let mut left = max;
        for timers in &mut self.shards {
            if left == 0 {
                break;
            }
            if timers.next.is_none_or(|next| next > now) {
                continue;
            }
            let rows = store.due(timers.shard, timers.from, now, left)?;
            if rows.len() == left {
                // There may be more, even of the same instant.
                timers.from = rows.last().map_or(timers.from, |row| row.due);
                timers.next = Some(timers.from);
            } else {
                let after = now.saturating_add(1);
                timers.from = after;
                timers.next = store.due(timers.shard, after, TsMs(Self::END), 1)?.first().map(|row| row.due);
            }
            left -= rows.len();
            if !rows.is_empty() {
                taken.push(rows);
            }
        }
        Ok(taken)
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
