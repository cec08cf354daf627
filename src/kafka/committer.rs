//! Commits offsets on a thread of its own. librdkafka reports no asynchronous commit through this binding, and a synchronous one
//! lasts as long as the coordinator is away, which the adapter's thread must not.

use super::KafkaError;
use super::client::Consumer;
use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::time::Duration;

/// What became of a commit: why it was refused, if it was.
pub(super) type Committed = Result<(), String>;

/// At most one commit is under way. Dropped, it is not waited for: the process may end before the brokers come back.
pub(super) struct Committer {
    offsets: Sender<TopicPartitionList>,
    results: Receiver<Committed>,
    is_busy: bool,
}

impl Committer {
    pub(super) fn start(client: Arc<Consumer>) -> Result<Self, KafkaError> {
        let (offsets, to_commit) = bounded::<TopicPartitionList>(1);
        let (report, results) = bounded(1);
        let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || {
            for offsets in to_commit {
                let committed = client.commit(&offsets, CommitMode::Sync).map_err(|error| error.to_string());
                if report.send(committed).is_err() {
                    return;
                }
            }
        });
        thread.map_err(|error| KafkaError::Client(error.to_string()))?;
        Ok(Self { offsets, results, is_busy: false })
    }

    /// Begins a commit, unless one is under way. Returns whether it was begun.
    pub(super) fn begin(&mut self, offsets: TopicPartitionList) -> bool {
        let is_begun = !self.is_busy && self.offsets.try_send(offsets).is_ok();
        self.is_busy |= is_begun;
        is_begun
    }

    /// What became of the commit that was begun, waiting for it for so long.
    pub(super) fn result(&mut self, wait: Duration) -> Option<Committed> {
        if !self.is_busy {
            return None;
        }
        let committed = self.results.recv_timeout(wait).ok();
        self.is_busy = committed.is_none();
        committed
    }
}
