//! Reads the next batch of changes to send.

use super::error::MirrorError;
use super::layout::{CommandBatch, CommandBuilder, Pair};
use super::marker::Seqs;
use crate::model::{ShardId, TsMs};
use crate::store::{Change, RowKey, Store};

/// Some changes, as the current state of their keys.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub batch: CommandBatch,
    /// By shard, the last change that the batch covers.
    pub told: Vec<(ShardId, u64)>,
    /// When the changes were made, and how many at each time.
    pub made: Vec<(TsMs, usize)>,
}

/// Reads up to `max` changes after `told`, starting with shard `first`. Blocks on disk.
pub(super) fn read(
    store: &Store,
    builder: &CommandBuilder,
    told: &Seqs,
    first: ShardId,
    max: usize,
) -> Result<Batch, MirrorError> {
    let mut batch = Batch::default();
    let mut row_keys: Vec<Vec<u8>> = Vec::new();
    let mut left = max;
    let shards = store.shards();
    for shard in shards.iter().filter(|shard| *shard >= first).chain(shards.iter().filter(|shard| *shard < first)) {
        let durable = store.changes().durable_seq(shard);
        if durable <= told.get(shard) {
            continue;
        }
        if left == 0 {
            break;
        }
        let changes = store.changes().after(shard, told.get(shard), left)?;
        // A sequence that was given out and never written has no change.
        let up_to = changes.last().map_or(0, |change| change.seq);
        let up_to = if changes.len() < left { up_to.max(durable) } else { up_to };
        left -= changes.len();
        batch.told.push((shard, up_to));
        for Change { at, row_key, .. } in changes {
            match batch.made.last_mut() {
                Some((before, count)) if *before == at => *count += 1,
                _ => batch.made.push((at, 1)),
            }
            row_keys.push(row_key);
        }
    }
    // A key that changed more than once is sent once, and the keys of a user are adjacent.
    row_keys.sort_unstable();
    row_keys.dedup();
    batch.batch = builder.pack(&states(store, &row_keys)?);
    Ok(batch)
}

/// The states of sorted row keys of `caps`, without those that cannot be read. Blocks on disk.
pub(super) fn states(store: &Store, row_keys: &[Vec<u8>]) -> Result<Vec<Pair>, MirrorError> {
    let mut unreadable = Vec::new();
    let rows = store.caps().get_many(row_keys.iter().map(|key| &key[..]), &mut unreadable);
    let mut pairs = Vec::with_capacity(row_keys.len());
    for (number, (row_key, row)) in row_keys.iter().zip(rows).enumerate() {
        if unreadable.binary_search(&number).is_err()
            && let Some((user, key)) = RowKey::parse(row_key)
        {
            pairs.push(Pair { user: user.to_owned(), key: key.into_owned(), until: row.map(|row| row.until) });
        }
    }
    Ok(pairs)
}
