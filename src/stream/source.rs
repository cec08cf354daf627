//! What is read of the store: changes after a position, and caps for a snapshot. All of it blocks on disk.

use super::batch::{Batch, CapState};
use super::position::Position;
use super::stores::Stores;
use crate::model::{CapChange, ShardId, ShardSet};
use crate::store::{Store, StoreError};

/// About so many bytes make a batch. Small, since a reader may take it slowly.
const BATCH_BYTES: usize = 32 << 10;
/// Changes that are read at once of a shard.
const CHANGES: usize = 256;
/// Caps that are read at once for a snapshot.
const CAPS: usize = 256;

/// Reads changes of `shards` after a position, beginning with the shard `first`, into a batch. Moves the position to after
/// what was read. Returns the shard to begin with next.
pub(super) fn changes(
    stores: &Stores,
    shards: &ShardSet,
    first: ShardId,
    position: &mut Position,
) -> Result<(Batch, ShardId), StoreError> {
    let mut batch = Batch::default();
    let behind = shards.iter().filter(|shard| *shard >= first).chain(shards.iter().filter(|shard| *shard < first));
    for shard in behind {
        let log = stores.log(shard);
        loop {
            let (from, durable) = (position[shard], log.durable_seq(shard));
            if from >= durable {
                break;
            }
            let changes = log.after(shard, from, CHANGES)?;
            // After the read: what was trimmed before it may be missing in what was read.
            if log.trimmed_to(shard) > from {
                position[shard] = log.durable_seq(shard);
                batch.push_gap(shard, position[shard]);
                break;
            }
            for change in &changes {
                if let Some((user, key)) = change.user_and_key() {
                    let state = CapState { change: change.change, until: change.until, at: Some(change.at) };
                    batch.push(shard, change.seq, (user, &key), &state);
                }
            }
            position[shard] = match changes.last() {
                Some(last) if changes.len() == CHANGES => last.seq,
                last => last.map_or(durable, |last| last.seq.max(durable)),
            };
            if batch.text_bytes() >= BATCH_BYTES {
                return Ok((batch, ShardId(shard.0.wrapping_add(1))));
            }
        }
    }
    Ok((batch, first))
}

/// A piece of the caps of a shard.
pub(super) struct CapsPiece {
    pub batch: Batch,
    /// Where the next piece begins; `None` after the last.
    pub next: Option<Vec<u8>>,
    /// What was read may be ahead of what is durable, up to this change.
    pub seq: u64,
}

/// Reads caps of a shard after a row, as told with the sequence `seq`.
pub(super) fn caps(
    store: &Store,
    shard: ShardId,
    after: Option<&[u8]>,
    seq: u64,
    wants: impl Fn(&str) -> bool,
) -> CapsPiece {
    let page = store.caps().of_shard_after(shard, after, CAPS);
    let mut batch = Batch::default();
    for cap in page.caps.iter().filter(|cap| wants(&cap.key)) {
        let state = CapState { change: CapChange::Capped, until: Some(cap.until), at: None };
        batch.push(shard, seq, (&cap.user, &cap.key), &state);
    }
    CapsPiece { batch, next: page.next, seq: store.changes().last_seq(shard) }
}
