//! The hub: the one thread that reads changes for all streams, and that lets old ones go.

use super::options::Options;
use super::retention::Retention;
use super::shared::Shared;
use super::source;
use crate::model::ShardId;
use crate::store::{ChangeCursor, StoreError};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often changes are let go.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before a failed read is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Reads the change log for all streams.
pub struct Hub {
    shared: Arc<Shared>,
    /// Of each store.
    cursors: Vec<ChangeCursor>,
    retention: Retention,
    keep: Duration,
    /// Told when a stream opens, or the hub is to end.
    woken: Receiver<()>,
    /// The shard to begin with.
    first: ShardId,
    next_upkeep: Instant,
}

impl Hub {
    pub(super) fn new(shared: Arc<Shared>, cursors: Vec<ChangeCursor>, woken: Receiver<()>, options: &Options) -> Self {
        Self {
            shared,
            cursors,
            retention: Retention::new(options.keep, options.keep_changes),
            keep: options.keep,
            woken,
            first: ShardId(0),
            next_upkeep: Instant::now(),
        }
    }

    /// Runs on a thread of its own until `drain`. Then streams end, too.
    pub async fn run(self, drain: CancellationToken) -> std::io::Result<()> {
        let (shared, signal, end) = (self.shared.clone(), self.cursors[0].signal(), CancellationToken::new());
        // One wait is for the changes of all.
        self.cursors[1..].iter().for_each(|cursor| cursor.signal().pass_on_to(&signal));
        let (watched, ended) = (shared.stores.all()[0].alarm().watch("streams"), end.clone());
        let thread = std::thread::Builder::new().name("streams".to_owned()).spawn(move || {
            let _watched = watched;
            self.work(&ended);
        })?;
        drain.cancelled().await;
        shared.stop.cancel();
        end.cancel();
        shared.wake_hub();
        signal.wake();
        // A panic has raised the alarm.
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        Ok(())
    }

    fn work(mut self, end: &CancellationToken) {
        while !end.is_cancelled() {
            let result = self.upkeep().and_then(|()| self.tell_changes());
            match result {
                Ok(true) => {}
                Ok(false) if self.shared.ring.followers() > 0 => {
                    let upkeep = self.until_upkeep();
                    self.cursors[0].wait(upkeep);
                }
                Ok(false) => {
                    let _ = self.woken.recv_timeout(self.until_upkeep());
                }
                Err(error) => {
                    tracing::warn!(%error, "changes of caps cannot be read for streams; it is tried again");
                    let _ = self.woken.recv_timeout(RETRY_DELAY);
                }
            }
        }
    }

    fn until_upkeep(&self) -> Duration {
        self.next_upkeep.saturating_duration_since(Instant::now())
    }

    /// Reads a batch. Returns whether there was anything.
    fn tell_changes(&mut self) -> Result<bool, StoreError> {
        let Some(end) = self.shared.ring.end() else { return Ok(false) };
        let stores = &self.shared.stores;
        let mut position = end.position.clone();
        let (mut batch, first) = source::changes(stores, &stores.shards(), self.first, &mut position)?;
        self.first = first;
        if position == end.position {
            return Ok(false);
        }
        if let Some(at) = batch.written_at() {
            let delay_ms = self.shared.clock.now().0.saturating_sub(at.0);
            self.shared.figures.delay.record(delay_ms as f64 / 1_000.0);
        }
        batch.shrink();
        self.shared.ring.push(&end, batch, position);
        Ok(true)
    }

    /// Lets changes go that no stream needs any more.
    fn upkeep(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if now < self.next_upkeep {
            return Ok(());
        }
        self.next_upkeep = now + UPKEEP_INTERVAL;
        let stores = &self.shared.stores;
        let (durable, shards) = (stores.durable(), stores.shards());
        let cursor = |shard| &self.cursors[stores.number_of(shard)];
        // Those that nobody waits for count as taken: the bounds are kept here.
        shards.iter().for_each(|shard| cursor(shard).advance(shard, durable[shard]));
        let is_wanted = self.shared.ring.followers() > 0 || now < self.shared.left_at() + self.keep;
        let gone = if is_wanted {
            self.retention.note(durable, now)
        } else {
            self.retention.keep_none();
            Some(durable)
        };
        if let Some(gone) = gone {
            shards.iter().for_each(|shard| cursor(shard).ack(shard, gone[shard]));
        }
        for store in stores.all() {
            store.changes().trim()?;
        }
        let kept = |shard| stores.log(shard).durable_seq(shard).saturating_sub(stores.log(shard).trimmed_to(shard));
        self.shared.figures.kept.set(shards.iter().map(kept).sum::<u64>() as f64);
        Ok(())
    }
}
