//! Reads who owns what: each second, with one request to the group's coordinator.

use super::owner_map::OwnerMap;
use crate::clock::BootClock;
use crate::kafka::{ClientContext, Cluster, KafkaError, client_config, make_client};
use arc_swap::ArcSwap;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the owners are read.
pub const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Between two readings that were asked for, so that callers who wait do not make a storm of them.
const READ_AGAIN: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The group whose offsets tell the owners.
#[derive(Debug, Clone)]
pub struct OwnersOptions {
    /// The brokers.
    pub cluster: Cluster,
    /// The topic of the log.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// How many partitions the topic has.
    pub partitions: u32,
}

/// The running reader of the owner map.
pub struct Owners {
    map: Arc<ArcSwap<OwnerMap>>,
    wake: Sender<()>,
    reader: JoinHandle<()>,
}

impl Owners {
    /// Starts to read.
    pub fn start(options: OwnersOptions, clock: BootClock) -> Result<Self, KafkaError> {
        let mut config = client_config(&options.cluster, &[]);
        config.set("group.id", &options.group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer<ClientContext> = make_client(&config, ClientContext::default())?;
        let map = Arc::new(ArcSwap::from_pointee(OwnerMap::new(options.partitions)));
        let (wake, woken) = bounded(1);
        let shared = map.clone();
        let reader = std::thread::Builder::new().name("freqcap-owners".to_owned()).spawn(move || {
            loop {
                match read(&consumer, &options) {
                    Ok(list) => {
                        let mut map = OwnerMap::clone(&shared.load());
                        let elements = list.elements();
                        let rows = elements
                            .iter()
                            .filter_map(|element| Some((u32::try_from(element.partition()).ok()?, element.metadata())));
                        map.update(rows, clock.now());
                        shared.store(Arc::new(map));
                    }
                    Err(why) => tracing::debug!(%why, "the owners of the partitions cannot be read"),
                }
                if is_over(woken.recv_timeout(READ_INTERVAL).err()) {
                    return;
                }
                // Whoever woke it waits: but the next one a little.
                std::thread::park_timeout(READ_AGAIN);
            }
        });
        let reader = reader.map_err(|why| KafkaError::Client(format!("a thread cannot be started: {why}")))?;
        Ok(Self { map, wake, reader })
    }

    /// The owners, as this node last heard of them.
    pub fn map(&self) -> Arc<OwnerMap> {
        self.map.load_full()
    }

    /// Reads soon: a call waits for an owner.
    pub fn read_soon(&self) {
        let _ = self.wake.try_send(());
    }

    /// Ends it. Blocks for one request at most.
    pub fn stop(self) {
        drop(self.wake);
        if self.reader.join().is_err() {
            tracing::error!("the reader of the owners ended by a panic");
        }
    }
}

fn is_over(woken: Option<RecvTimeoutError>) -> bool {
    woken == Some(RecvTimeoutError::Disconnected)
}

fn read(consumer: &BaseConsumer<ClientContext>, options: &OwnersOptions) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(options.partitions as usize);
    for partition in 0..options.partitions {
        list.add_partition(&options.topic, partition as i32);
    }
    consumer.committed_offsets(list, REQUEST_TIMEOUT)
}
