//! A consumer's cursor in the change log.

use super::ChangeLog;
use super::consumer::{Bounds, Consumer};
use super::signal::Signal;
use crate::model::{ShardId, TsMs};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The position of a consumer, by shard. What it has not acknowledged stays in the log, within its bounds, until the
/// cursor is dropped.
pub struct ChangeCursor {
    log: Arc<ChangeLog>,
    consumer: Arc<Consumer>,
    /// The count of the signal when this was last woken.
    seen: u64,
}

/// Wakes those who wait for changes.
#[derive(Clone)]
pub struct ChangeSignal(Arc<Signal>);

impl ChangeSignal {
    /// Wakes all of them. Those without new changes go on waiting.
    pub fn wake(&self) {
        self.0.raise();
    }

    /// From now on the other wakes those who wait for it whenever this does, too.
    pub fn pass_on_to(&self, other: &ChangeSignal) {
        self.0.pass_on_to(&other.0);
    }
}

/// Waits for changes, and has no position: it keeps none in the log.
pub struct ChangeWatch {
    published: Arc<Signal>,
    seen: u64,
}

impl ChangeWatch {
    /// Waits until something was published since it was made or last woken. Cancel-safe.
    pub async fn changed(&mut self) {
        self.published.changed(&mut self.seen).await;
    }
}

impl ChangeLog {
    /// Waits for what is published from now on.
    pub fn watch(&self) -> ChangeWatch {
        ChangeWatch { published: self.published.clone(), seen: self.published.count() }
    }

    /// Registers a consumer until the cursor is dropped. It needs every change that is in the log. Several consumers
    /// may share a name.
    pub fn subscribe(self: &Arc<Self>, name: &'static str, bounds: Bounds) -> ChangeCursor {
        let consumer = Arc::new(Consumer::new(name, bounds));
        // With the list locked, no trim runs that does not know this consumer.
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

    /// Changes of a shard up to here do not wait for this consumer any more. The position may go back: the copy may
    /// lose data.
    pub fn advance(&self, shard: ShardId, seq: u64) {
        self.consumer.position[shard].store(seq, Ordering::Relaxed);
    }

    /// The consumer's copy has every change of a shard up to here: since `at`, or for how long is not known.
    pub fn confirm(&self, shard: ShardId, seq: u64, at: Option<TsMs>) {
        self.consumer.confirm(shard, seq, at);
    }

    /// The consumer will not need the changes of a shard up to here again, not even after a restart, since its own
    /// state is durable. [`ChangeLog::trim`] may remove them.
    pub fn ack(&self, shard: ShardId, seq: u64) {
        self.consumer.retained_after[shard].fetch_max(seq, Ordering::Relaxed);
    }

    /// Changes of a shard up to this sequence are not available. A consumer below it lags, and starts over with the
    /// rows of `caps`.
    pub fn trimmed_to(&self, shard: ShardId) -> u64 {
        self.log.trimmed_to(shard).max(self.consumer.lagged_to[shard].load(Ordering::Acquire))
    }

    /// Waits until something was published since it was last woken. Cancel-safe.
    pub async fn changed(&mut self) {
        self.log.published.changed(&mut self.seen).await;
    }

    /// The same for a thread, for at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) {
        self.log.published.wait(&mut self.seen, timeout);
    }

    /// Wakes those who wait for changes.
    pub fn signal(&self) -> ChangeSignal {
        ChangeSignal(self.log.published.clone())
    }
}

impl Drop for ChangeCursor {
    fn drop(&mut self) {
        self.log.unsubscribe(&self.consumer);
    }
}
