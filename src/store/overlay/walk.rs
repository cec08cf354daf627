//! A walk over the rows of one user in the overlay, as of one instant, however long it takes.
//!
//! It copies a step at a time, and writers never wait for longer than a step. They save the old version of each of the
//! user's rows that they change. Rows frozen meanwhile do not change, and are kept until the walk ends.

use super::rows::Rows;
use super::watch::{Since, Watch};
use super::{Overlay, OwnedRows, read, write};
use crate::model::ShardId;
use std::ops::Range;
use std::sync::Arc;

/// Maximum rows of a step, and bytes at which one ends.
const STEP_ROWS: usize = 512;
const STEP_BYTES: usize = 256 << 10;

/// Too many rows changed during a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Lost;

/// A walk under way.
pub(in crate::store) struct Walk<'o> {
    overlay: &'o Overlay,
    shard: ShardId,
    /// The rows that were frozen when it began.
    frozen: Option<Arc<Rows>>,
    watch: Arc<Watch>,
}

/// Rows of a step in the order of keys, and where the next step begins; `None` at the end.
type Step = (OwnedRows, Option<Vec<u8>>);

impl Overlay {
    /// Begins a walk over rows with a prefix. `at_once` is called at its instant, while nothing can leave or enter the
    /// shard.
    pub(in crate::store) fn walk<T>(&self, prefix: &[u8], at_once: impl FnOnce() -> T) -> (Walk<'_>, T) {
        let shard = ShardId(prefix[0]);
        let watch = Arc::new(Watch::new(prefix, &self.before_bytes));
        let mut rows = write(&self.shards[shard.index()]);
        rows.watches.add(&watch);
        let frozen = rows.frozen.clone();
        let then = at_once();
        drop(rows);
        (Walk { overlay: self, shard, frozen, watch }, then)
    }
}

impl Walk<'_> {
    /// The first rows of a range within the walk. An empty row was removed.
    pub(in crate::store) fn step(&self, range: &Range<Vec<u8>>) -> Result<Step, Lost> {
        loop {
            let rows = read(&self.overlay.shards[self.shard.index()]);
            let since = self.watch.since();
            if since.is_lost {
                return Err(Lost);
            }
            let active = since.frozen.as_deref().unwrap_or(&rows.active);
            let of_active = active.in_order(range, STEP_ROWS);
            let of_frozen = self.frozen.as_ref().map_or(Some(Vec::new()), |frozen| frozen.in_order(range, STEP_ROWS));
            if let (Some(of_active), Some(of_frozen)) = (of_active, of_frozen) {
                return Ok(self.merge((active, &of_active), &of_frozen, &since));
            }
        }
    }

    fn merge(&self, (active, of_active): (&Rows, &[u32]), of_frozen: &[u32], since: &Since) -> Step {
        let frozen = self.frozen.as_deref();
        // If one of the two lists is full, rows beyond its last key belong to the next step.
        let goes_on = of_active.len().max(of_frozen.len()) == STEP_ROWS;
        let (mut of_active, mut of_frozen) = (of_active.iter().peekable(), of_frozen.iter().peekable());
        let mut found = OwnedRows::new();
        let mut last = None;
        let mut bytes = 0;
        for _ in 0..STEP_ROWS {
            let newer = of_active.peek().map(|&&at| active.key_at(at));
            let older = frozen.and_then(|frozen| of_frozen.peek().map(|&&at| frozen.key_at(at)));
            let Some(key) = [newer, older].into_iter().flatten().min() else { break };
            of_active.next_if(|&&at| active.key_at(at) == key);
            of_frozen.next_if(|&&at| frozen.is_some_and(|frozen| frozen.key_at(at) == key));
            let hash = self.overlay.hash(key);
            let row = match since.before.get(key) {
                Some(before) => before.as_deref(),
                None => active.get(hash, key),
            };
            // A row that was added since then is left out.
            if let Some(row) = row.or_else(|| frozen?.get(hash, key)) {
                found.push((key.to_vec(), row.to_vec()));
                bytes += key.len() + row.len();
            }
            last = Some(key);
            if bytes >= STEP_BYTES {
                break;
            }
        }
        let is_end = !goes_on && of_active.peek().is_none() && of_frozen.peek().is_none();
        (found, last.filter(|_| !is_end).map(next_key))
    }
}

/// The smallest key after a key.
fn next_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
