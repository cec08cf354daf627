//! Group commit over the bucket (`--durability bucket`): a turn is answered once the bucket has its write, too. While one segment
//! is uploaded, what the writers write meanwhile becomes the next.
//!
//! A bucket that does not take a write within `--bucket-wait` stops nobody for longer: who waits is refused, and so is whoever
//! comes, until the bucket has caught up. What was written stays, and is visible to reads as with `fsync`; whoever sends it again
//! is answered once the bucket has it. What came from Kafka waits: nobody else would count it.

use super::group_commit::Written;
use super::health::Health;
use super::metrics::ShardMetrics;
use super::refusal::Refusal;
use super::task::Task;
use crate::model::ShardId;
use crate::store::Store;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often what the bucket had not taken in time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum turns that are kept apart for that; of more, one change of each shard is kept.
const LATE_MAX: usize = 1_024;

/// Answers turns once the bucket has them.
pub(super) struct BucketCommit<'s> {
    store: &'s Store,
    metrics: ShardMetrics,
    health: Health,
    /// In the order of their writes.
    late: VecDeque<Late>,
    /// Everything is refused until the bucket has this.
    late_to: Option<u64>,
}

/// What nobody waits for, or not any longer, and is to be told once the bucket has it.
struct Late {
    sequence: u64,
    tasks: Vec<Task>,
    changes: Vec<(ShardId, u64)>,
}

impl<'s> BucketCommit<'s> {
    pub(super) fn new(store: &'s Store, metrics: ShardMetrics, health: Health) -> Self {
        Self { store, metrics, health, late: VecDeque::new(), late_to: None }
    }

    /// Until all writers are gone.
    pub(super) fn run(mut self, written: &Receiver<Written>) {
        loop {
            let first = if self.late.is_empty() {
                written.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                written.recv_timeout(LOOK_INTERVAL)
            };
            match first {
                Ok(first) => self.commit(std::iter::once(first).chain(written.try_iter()).collect()),
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
        let left = self.late.into_iter().flat_map(|late| late.tasks);
        left.for_each(|task| task.refuse(Refusal::Stopping));
    }

    fn commit(&mut self, turns: Vec<Written>) {
        // Uploaded while it is synced.
        let sequence = self.store.ship_now();
        self.health.sync_watch().begin();
        let start = Instant::now();
        let synced = self.store.sync();
        self.health.sync_watch().end();
        if let Err(error) = synced {
            tracing::error!(%error, "what was written may not survive a power cut: events are refused from now on");
            return turns.into_iter().for_each(Written::refuse);
        }
        self.metrics.fsync_seconds.record(start.elapsed().as_secs_f64());
        let oldest = turns.iter().filter(|turn| !turn.tasks.is_empty()).map(|turn| turn.at).min();
        let is_there = match oldest {
            Some(oldest) if self.late_to.is_none() => {
                let shipped = self.store.shipped();
                shipped.wait(sequence, shipped.deadline(oldest))
            }
            // Nobody waits, or nobody is to wait.
            Some(_) | None => self.store.shipped().reaches(sequence),
        };
        // In the order of their writes: what is later than this waits as well.
        self.settle();
        if is_there {
            for turn in turns {
                self.metrics.bucket_seconds.record(turn.at.elapsed().as_secs_f64());
                turn.acknowledge(self.store);
            }
            return;
        }
        if oldest.is_some() {
            self.set_late(Some(sequence));
        }
        turns.into_iter().for_each(|turn| self.refuse(turn, sequence));
    }

    /// Refuses who waits for an answer; what is left is told once the bucket has it.
    fn refuse(&mut self, turn: Written, sequence: u64) {
        let refusal = self.health.refusal().unwrap_or(Refusal::BucketLate);
        let mut kept = Vec::new();
        for task in turn.tasks {
            match task {
                Task::KafkaEvents(_) => kept.push(task),
                task => task.refuse(refusal),
            }
        }
        let changes = turn.changes;
        let is_full = self.late.len() >= LATE_MAX && kept.is_empty();
        if is_full && let Some(last) = self.late.back_mut().filter(|last| last.tasks.is_empty()) {
            last.sequence = sequence;
            for (shard, change) in changes {
                last.changes.retain(|(other, _)| *other != shard);
                last.changes.push((shard, change));
            }
            return;
        }
        self.late.push_back(Late { sequence, tasks: kept, changes });
    }

    /// Tells what the bucket has by now.
    fn settle(&mut self) {
        while let Some(late) = self.late.pop_front() {
            if !self.store.shipped().reaches(late.sequence) {
                self.late.push_front(late);
                break;
            }
            let Late { tasks, changes, .. } = late;
            Written { tasks, changes, at: Instant::now() }.acknowledge(self.store);
        }
        if self.late_to.is_some_and(|late_to| self.store.shipped().reaches(late_to)) {
            self.set_late(None);
        }
    }

    fn set_late(&mut self, late_to: Option<u64>) {
        let (was_late, is_late) = (self.late_to.is_some(), late_to.is_some());
        self.late_to = late_to;
        if was_late == is_late {
            return;
        }
        self.health.set_bucket_late(is_late);
        self.metrics.bucket_late.set(f64::from(u8::from(is_late)));
        if is_late {
            tracing::error!(
                "the bucket has not taken what was written within --bucket-wait: what would write is answered 503 until it has"
            );
        } else {
            tracing::info!("the bucket has everything that was written: events are taken again");
        }
    }
}
