//! Why the adapter does not start, or cannot go on. A broker that is away is not an error: the adapter waits.

use crate::store::StoreError;

/// Why the adapter or the output did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum KafkaError {
    #[error("this freqcap was built without Kafka (cargo feature `kafka`); leave out --kafka-brokers")]
    NotBuilt,
    #[error("--kafka-set: librdkafka does not take {key:?} as it is set")]
    Setting { key: String },
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    #[error(
        "kafka_group_in_use: another data directory (store {owner}) counts this topic under the group {group:?}; \
         stop that one and use --kafka-takeover, or choose another --kafka-group"
    )]
    GroupInUse { group: String, owner: String },
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error("a thread of the Kafka adapter ended by a panic")]
    Panicked,
}
