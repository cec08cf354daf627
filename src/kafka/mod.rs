//! The Kafka-pull adapter: events from a topic, each counted once.
//!
//! ```text
//! topic --> puller (a thread, some of the partitions): reads, checks, parses, cuts chunks
//!              |  a chunk: one batch a writer, in order (see `shard::PartitionSender`)       dead letters --> another topic
//!              v
//!           writers: count, and store with it how far they are (table `pulled`)
//!              |  answers, once durable
//!              v
//!           frontier: below it all is durable or dead-lettered; stored every second
//! ```
//!
//! Reading resumes at the frontier. What a writer already has above it is skipped, by offset. The record before the
//! frontier is read again first and compared: if it differs, the topic was made anew under the same name.
//!
//! One process holds the counts, so one process reads all partitions. They are assigned, not balanced by the group. The
//! group id serves others: the committed offsets carry the id of the store that owns the topic, and let lag tools
//! follow.

mod options;

#[cfg(feature = "kafka")]
mod aside;
#[cfg(feature = "kafka")]
mod chunk;
#[cfg(feature = "kafka")]
mod client;
mod committer;
#[cfg(feature = "kafka")]
mod dead_letters;
#[cfg(not(feature = "kafka"))]
mod disabled;
mod error;
#[cfg(feature = "kafka")]
mod frontier;
#[cfg(feature = "kafka")]
mod landmarks;
mod left_out;
#[cfg(feature = "kafka")]
mod log_throttle;
mod offsets;
#[cfg(feature = "kafka")]
mod output;
#[cfg(feature = "kafka")]
mod partition;
#[cfg(feature = "kafka")]
mod puller;
#[cfg(feature = "kafka")]
mod resume;
#[cfg(feature = "kafka")]
mod service;
mod status;
#[cfg(feature = "kafka")]
mod witness;

#[cfg(feature = "kafka")]
pub(crate) use client::{Context as ClientContext, config as client_config, log as log_client, make as make_client};
#[cfg(not(feature = "kafka"))]
pub use disabled::{start, start_output};
pub use error::KafkaError;
pub use offsets::Offsets;
pub use options::{
    ClientSettings, ClientSettingsError, Cluster, OnChange, Options, OutputOptions, SettingFlags, Settings, StartFrom,
    StartFromError,
};
#[cfg(feature = "kafka")]
pub use output::start_output;
#[cfg(feature = "kafka")]
pub use service::start;
pub use status::{Handle, Progress, describe as describe_metrics};

use crate::clock::Clock;
use crate::input::EventReader;
use crate::shard::Router;
use crate::store::ChangeSignal;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the adapter needs of the process.
#[derive(Clone)]
pub struct Parts {
    /// Sends events to the writers.
    pub router: Router,
    /// Stores how far the topic was read.
    pub offsets: Offsets,
    /// Parses records.
    pub events: EventReader,
    /// Decides which events lie ahead.
    pub clock: Clock,
    /// How far back `--kafka-from retention` goes, in ms.
    pub retention_ms: u64,
}

/// The running output of cap changes.
pub struct RunningOutput {
    stop: CancellationToken,
    signal: ChangeSignal,
    thread: JoinHandle<()>,
}

impl RunningOutput {
    /// Runs until `drain`, then ends as [`RunningOutput::stop`] does.
    pub async fn run(self, drain: CancellationToken) -> Result<(), KafkaError> {
        drain.cancelled().await;
        tokio::task::spawn_blocking(|| self.stop()).await.map_err(|_| KafkaError::Panicked)
    }

    /// Sends the changes that wait, for two seconds at most, and ends.
    pub fn stop(self) {
        self.stop.cancel();
        self.signal.wake();
        if self.thread.join().is_err() {
            tracing::error!("the output of cap changes ended by a panic");
        }
    }
}

/// The running adapter.
pub struct Running {
    handle: Handle,
    /// Cancelled to stop the adapter.
    stop: CancellationToken,
    /// Cancelled when it cannot go on.
    failed: CancellationToken,
    thread: JoinHandle<Result<(), KafkaError>>,
}

impl Running {
    /// Handle to its progress.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `drain` or until it cannot go on, then ends as [`Running::stop`] does.
    pub async fn run(self, drain: CancellationToken) -> Result<(), KafkaError> {
        tokio::select! {
            () = drain.cancelled() => {}
            () = self.failed.cancelled() => {}
        }
        tokio::task::spawn_blocking(|| self.stop()).await.unwrap_or(Err(KafkaError::Panicked))
    }

    /// Cancelled when the adapter cannot go on.
    pub fn failed_token(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Stops reading and waits, a few seconds at most, until what was read is durable and the frontiers are stored.
    /// Returns the error if the adapter had failed.
    pub fn stop(self) -> Result<(), KafkaError> {
        self.stop.cancel();
        self.thread.join().unwrap_or(Err(KafkaError::Panicked))
    }
}
