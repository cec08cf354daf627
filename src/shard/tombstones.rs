//! Who was erased, as a writer knows it: a filter in memory before the table, for nearly nobody is.

use crate::engine::Policy;
use crate::model::{ShardId, ShardSet, TsMs};
use crate::store::{RowKey, Store, StoreError, UserMark};
use hashbrown::HashSet;

/// The users of a writer's shards who were erased; 64 bits of each.
pub(super) struct Tombstones {
    marks: HashSet<u64>,
    /// Shards of which some tombstones cannot be read: there anybody may have been erased.
    unsure: HashSet<ShardId>,
}

impl Tombstones {
    /// Reads who was erased. Blocks on disk.
    pub(super) fn load(store: &Store, shards: ShardSet) -> Result<Self, StoreError> {
        let (mut marks, mut unsure) = (HashSet::new(), HashSet::new());
        for shard in shards.iter() {
            let (read, gaps) = store.erased().marks(shard)?;
            marks.extend(read.into_iter().map(UserMark::short));
            if gaps > 0 {
                unsure.insert(shard);
            }
        }
        Ok(Self { marks, unsure })
    }

    pub(super) fn add(&mut self, mark: UserMark) {
        self.marks.insert(mark.short());
    }

    /// Up to when the user of a row key was erased, if ever. Blocks on disk only for who may have been.
    pub(super) fn until(
        &self,
        store: &Store,
        row_key: &[u8],
        policy: &Policy,
        now: TsMs,
    ) -> Result<Option<TsMs>, StoreError> {
        if self.marks.is_empty() && self.unsure.is_empty() {
            return Ok(None);
        }
        let Some(user) = RowKey::user_of(row_key) else { return Ok(None) };
        let (shard, mark) = (ShardId(row_key[0]), store.erased().mark(user));
        if !self.marks.contains(&mark.short()) && !self.unsure.contains(&shard) {
            return Ok(None);
        }
        store.erased().until(shard, mark, policy.retention_ms(), now)
    }
}
