//! A digest of what a unit's log has made, to tell whether two nodes at one offset have the same.

use crate::engine::Policy;
use crate::model::TsMs;
use crate::store::{RowKey, Store, StoreError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many logs are read at once.
const PAGE: usize = 1_024;

/// Of all logs and stored calls, as reads see them at an instant. Caps are not in it: they follow from the logs, by timers that run
/// on the owner alone. Comparable between nodes of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// How many logs there are that are not void.
    pub logs: u64,
    /// How many stored calls of `/reserve`.
    pub calls: u64,
    /// Of their keys and contents, whatever their order.
    pub hash: u64,
}

impl Digest {
    /// Reads all of it: some seconds a million logs. Blocks on disk.
    pub fn of(store: &Store, policy: &Policy, now: TsMs) -> Result<Self, StoreError> {
        let mut digest = Self::default();
        let mut key = String::new();
        for shard in store.shards().iter() {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let (next, is_end) = store.logs().scan(shard, after.as_deref(), PAGE, |row_key, row| {
                    let mut log = row.log;
                    if RowKey::key_into(row_key, &mut key).is_none() {
                        key.clear();
                    }
                    policy.refresh(&key, &mut log, now);
                    if !log.sections.is_empty() {
                        digest.logs += 1;
                        digest.add(row_key, format!("{log:?}").as_bytes());
                    }
                })?;
                after = next;
                if is_end {
                    break;
                }
            }
            store.reservations().of_shard(shard, now, |row_key, row| {
                digest.calls += 1;
                digest.add(row_key, format!("{row:?}").as_bytes());
            })?;
        }
        Ok(digest)
    }

    fn add(&mut self, row_key: &[u8], content: &[u8]) {
        self.hash = self.hash.wrapping_add(xxh3_64_with_seed(content, xxh3_64_with_seed(row_key, 0)));
    }
}
