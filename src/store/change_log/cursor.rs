//! A consumer's hold on the change log.

use super::ChangeLog;
use super::consumer::{Bounds, Consumer};
use super::signal::Signal;
use crate::model::ShardId;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Where a consumer stands, by shard. What it has not acknowledged stays in the log, within its bounds, until this is
/// dropped.
pub struct ChangeCursor {
    log: Arc<ChangeLog>,
    consumer: Arc<Consumer>,
    /// How often the log had been published to when this was last woken.
    seen: u64,
}

/// Wakes whoever waits for changes.
#[derive(Clone)]
pub struct ChangeSignal(Arc<Signal>);

impl ChangeSignal {
    /// Wakes all of them; those for whom there is nothing new go on waiting.
    pub fn wake(&self) {
        self.0.raise();
    }
}

impl ChangeLog {
    /// Registers somebody who follows the changes, until the cursor is dropped. It wants every change that is here.
    /// Several may have one name.
    pub fn subscribe(self: &Arc<Self>, name: &'static str, bounds: Bounds) -> ChangeCursor {
        let consumer = Arc::new(Consumer::new(name, bounds));
        // With the list locked: no trim is under way that did not know of it.
        let mut consumers = self.consumers.write().unwrap_or_else(PoisonError::into_inner);
        for shard in self.shards.iter() {
            consumer.retained_after[shard].store(self.trimmed_to(shard), Ordering::Relaxed);
            consumer.position[shard].store(self.trimmed_to(shard), Ordering::Relaxed);
        }
        consumers.push(consumer.clone());
        drop(consumers);
        ChangeCursor { log: self.clone(), consumer, seen: self.published.count() }
    }
}

impl ChangeCursor {
    /// The log that it reads.
    pub fn log(&self) -> &Arc<ChangeLog> {
        &self.log
    }

    /// Says that no change of a shard up to here waits for this consumer any more. It may go back: what was notified may
    /// forget.
    pub fn advance(&self, shard: ShardId, seq: u64) {
        self.consumer.position[shard].store(seq, Ordering::Relaxed);
    }

    /// Says that what this consumer keeps in line has every change of a shard up to here.
    pub fn confirm(&self, shard: ShardId, seq: u64) {
        self.consumer.confirmed[shard].store(seq, Ordering::Relaxed);
    }

    /// Says that this consumer will not want the changes of a shard up to here again, not after a restart either: what
    /// it stands on is durable by then. [`ChangeLog::trim`] may remove them.
    pub fn ack(&self, shard: ShardId, seq: u64) {
        self.consumer.retained_after[shard].fetch_max(seq, Ordering::Relaxed);
    }

    /// The changes of a shard up to here are not to be had any more. A consumer that stands before it lags, and begins
    /// anew with what is capped by now.
    pub fn trimmed_to(&self, shard: ShardId) -> u64 {
        self.log.trimmed_to(shard).max(self.consumer.lagged_to[shard].load(Ordering::Acquire))
    }

    /// Waits until something was published since it was last woken. Safe to drop before it returns.
    pub async fn changed(&mut self) {
        self.log.published.changed(&mut self.seen).await;
    }

    /// The same for a thread, no longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) {
        self.log.published.wait(&mut self.seen, timeout);
    }

    /// Wakes whoever waits for changes.
    pub fn signal(&self) -> ChangeSignal {
        ChangeSignal(self.log.published.clone())
    }
}

impl Drop for ChangeCursor {
    fn drop(&mut self) {
        self.log.unsubscribe(&self.consumer);
    }
}
