//! One pass over all logs, shard by shard.

use super::counters::{Counters, Wanted};
use super::pace::Pace;
use crate::store::Store;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Rows between two looks at the time.
const ROWS: u32 = 64;

/// What became of a pass.
pub(super) struct Passed {
    /// Rows, or runs of them, that could not be read.
    pub unreadable: u64,
    /// Whether it was ended before it was done.
    pub ended: bool,
}

/// Passes every log that a counter wants to it. Each shard is read as of one instant. `pause` waits so long, and says whether
/// the pass goes on; `done` is told of each shard. Blocks on disk.
pub(super) fn pass(
    stores: &[Arc<Store>],
    (counters, wanted): (&mut Counters, &Wanted),
    mut pause: impl FnMut(Duration) -> bool,
    mut done: impl FnMut(),
) -> Passed {
    let mut pace = Pace::begin();
    let mut passed = Passed { unreadable: 0, ended: false };
    let mut rows = 0u32;
    let shards = stores.iter().flat_map(|store| store.shards().iter().map(move |shard| (store, shard)));
    for (store, shard) in shards {
        let scanned = store.each_log_of_shard(
            shard,
            |row_key| wanted.has(row_key),
            |row_key, log| {
                if let Some(log) = log {
                    counters.add(wanted, row_key, log);
                }
                rows = rows.wrapping_add(1);
                if !rows.is_multiple_of(ROWS) {
                    return ControlFlow::Continue(());
                }
                if let Some(time) = pace.pause() {
                    if !pause(time) {
                        return ControlFlow::Break(());
                    }
                    pace.go_on();
                }
                ControlFlow::Continue(())
            },
        );
        passed.unreadable += scanned.unreadable;
        passed.ended |= !pause(Duration::ZERO);
        if passed.ended {
            return passed;
        }
        done();
    }
    passed
}
