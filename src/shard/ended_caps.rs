//! Caps that ended lately: an event that comes late may have happened before.

use crate::model::{CapRow, TsMs};
use hashbrown::HashMap;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

/// How many are remembered by a writer, about 1 MiB.
const ENDED_MAX: usize = 8_192;

/// The rows that caps had before they ended, by the hash of their row keys; the newest of them.
#[derive(Debug, Default)]
pub(super) struct EndedCaps {
    rows: HashMap<u64, CapRow>,
    order: VecDeque<(u64, TsMs)>,
}

impl EndedCaps {
    pub(super) fn add(&mut self, row_key: &[u8], row: CapRow) {
        let hash = xxh3_64(row_key);
        self.rows.insert(hash, row);
        self.order.push_back((hash, row.until));
        if self.order.len() > ENDED_MAX
            && let Some((oldest, until)) = self.order.pop_front()
            // Unless it has ended again since.
            && self.rows.get(&oldest).is_some_and(|row| row.until == until)
        {
            self.rows.remove(&oldest);
        }
    }

    pub(super) fn get(&self, row_key: &[u8]) -> Option<CapRow> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(&xxh3_64(row_key)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut ended = EndedCaps::default();
        let row = |until: u64| CapRow { until: TsMs(until), due: TsMs(until), began: None };
        let key = |n: usize| n.to_be_bytes();
        ended.add(&key(0), row(1));
        ended.add(&key(0), row(2));
        for n in 1..ENDED_MAX {
            ended.add(&key(n), row(9));
        }
        assert_eq!(ended.get(&key(0)), Some(row(2)), "the older of its ends has gone, and not the newer");
        ended.add(&key(ENDED_MAX), row(9));
        assert_eq!((ended.get(&key(0)), ended.get(&key(1))), (None, Some(row(9))));
        assert_eq!(ended.rows.len(), ENDED_MAX);
    }
}
