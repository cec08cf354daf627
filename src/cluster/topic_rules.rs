//! What the log's topic must be like.

use std::time::Duration;

/// The most partitions: the shards are divided among them.
pub const PARTITIONS_MAX: u32 = 256;
/// The shortest retention of the topic.
pub const RETENTION_MIN: Duration = Duration::from_secs(3 * 86_400);

/// What the brokers say of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// How many partitions it has.
    pub partitions: u32,
    /// The fewest replicas of a partition.
    pub replicas: u32,
    /// How many brokers there are.
    pub brokers: u32,
    /// `message.timestamp.type`.
    pub timestamps: String,
    /// `cleanup.policy`.
    pub cleanup: String,
    /// `retention.ms`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes`; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// `min.insync.replicas`.
    pub in_sync_min: u32,
    /// `unclean.leader.election.enable`.
    pub elects_unclean: bool,
}

/// Why a topic cannot be the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum UnfitTopic {
    #[error(
        "cluster_topic_partitions: the topic has {0} partitions, and must have a power of two up to 256; \
         make another topic: the number cannot change"
    )]
    Partitions(u32),
    #[error(
        "cluster_topic_timestamps: message.timestamp.type of the topic is {0}, and must be LogAppendTime: \
         decisions follow the time at which the log took a record"
    )]
    Timestamps(String),
    #[error("cluster_topic_compacted: cleanup.policy of the topic is {0}, and must be delete: compaction loses events")]
    Compacted(String),
    #[error(
        "cluster_topic_retention: the topic keeps records for {} h, and must keep them for {} h: \
         as long as a snapshot may be the newest, and three days at least", .kept.as_secs() / 3_600, hours(.needed)
    )]
    Retention { kept: Duration, needed: Duration },
    #[error("cluster_topic_retention: retention.bytes of the topic is {0}, and must be -1: it would end records early")]
    RetentionBytes(u64),
    #[error(
        "cluster_topic_replication: a partition of the topic has {replicas} replicas, and must have {needed}; \
         add replicas, or ask for fewer with --cluster-replication"
    )]
    Replication { replicas: u32, needed: u32 },
    #[error(
        "cluster_topic_in_sync: min.insync.replicas of the topic is {in_sync_min}, and must be {needed}: \
         a record that is acknowledged could be lost with one broker, or none be acknowledged at all"
    )]
    InSync { in_sync_min: u32, needed: u32 },
    #[error(
        "cluster_topic_unclean: unclean.leader.election.enable of the topic is true, and must be false: \
         a broker that lacks acknowledged records could lead"
    )]
    Unclean,
}

/// Rounded up.
fn hours(duration: &Duration) -> u64 {
    duration.as_secs().div_ceil(3_600)
}

/// How many replicas are wanted: as asked, but no more than there are brokers.
pub fn wanted_replicas(asked: u32, brokers: u32) -> u32 {
    asked.min(brokers).max(1)
}

/// How many of them must have a record before it is acknowledged: two, where there are two.
pub fn wanted_in_sync(replicas: u32) -> u32 {
    replicas.min(2)
}

/// How long records must be kept, where a snapshot may be the newest for `snapshot_age`.
pub fn wanted_retention(snapshot_age: Duration) -> Duration {
    RETENTION_MIN.max(snapshot_age)
}

/// Checks that the number of partitions can be one.
pub fn check_partitions(partitions: u32) -> Result<(), UnfitTopic> {
    let fits = partitions.is_power_of_two() && partitions <= PARTITIONS_MAX;
    if fits { Ok(()) } else { Err(UnfitTopic::Partitions(partitions)) }
}

impl TopicFacts {
    /// Checks that the topic can be the log, where `replication` was asked for and a snapshot may be the newest for
    /// `snapshot_age`.
    pub fn check(&self, replication: u32, snapshot_age: Duration) -> Result<(), UnfitTopic> {
        check_partitions(self.partitions)?;
        if self.timestamps != "LogAppendTime" {
            return Err(UnfitTopic::Timestamps(self.timestamps.clone()));
        }
        if self.cleanup != "delete" {
            return Err(UnfitTopic::Compacted(self.cleanup.clone()));
        }
        let needed = wanted_retention(snapshot_age);
        if let Some(kept) = self.retention.filter(|kept| *kept < needed) {
            return Err(UnfitTopic::Retention { kept, needed });
        }
        if let Some(bytes) = self.retention_bytes {
            return Err(UnfitTopic::RetentionBytes(bytes));
        }
        let needed = wanted_replicas(replication, self.brokers);
        if self.replicas < needed {
            return Err(UnfitTopic::Replication { replicas: self.replicas, needed });
        }
        let needed = wanted_in_sync(self.replicas);
        if !(needed..=self.replicas).contains(&self.in_sync_min) {
            return Err(UnfitTopic::InSync { in_sync_min: self.in_sync_min, needed });
        }
        if self.elects_unclean { Err(UnfitTopic::Unclean) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn facts() -> TopicFacts {
        TopicFacts {
            partitions: 32,
            replicas: 3,
            brokers: 5,
            timestamps: "LogAppendTime".to_owned(),
            cleanup: "delete".to_owned(),
            retention: Some(3 * DAY),
            retention_bytes: None,
            in_sync_min: 2,
            elects_unclean: false,
        }
    }

    #[test]
    fn a_fitting_topic_is_taken() {
        assert_eq!(facts().check(3, DAY), Ok(()));
        assert_eq!(TopicFacts { retention: None, in_sync_min: 3, ..facts() }.check(3, 30 * DAY), Ok(()));
        // A single broker holds one replica.
        let alone = TopicFacts { replicas: 1, brokers: 1, in_sync_min: 1, ..facts() };
        assert_eq!(alone.check(3, DAY), Ok(()));
        for partitions in [1, 2, 64, 256] {
            assert_eq!(TopicFacts { partitions, ..facts() }.check(3, DAY), Ok(()));
        }
    }

    #[test]
    fn each_thing_that_is_wrong_has_an_error_of_its_own() {
        for (unfit, error) in [
            (TopicFacts { partitions: 12, ..facts() }, UnfitTopic::Partitions(12)),
            (TopicFacts { partitions: 512, ..facts() }, UnfitTopic::Partitions(512)),
            (
                TopicFacts { timestamps: "CreateTime".to_owned(), ..facts() },
                UnfitTopic::Timestamps("CreateTime".to_owned()),
            ),
            (
                TopicFacts { cleanup: "compact,delete".to_owned(), ..facts() },
                UnfitTopic::Compacted("compact,delete".to_owned()),
            ),
            (
                TopicFacts { retention: Some(2 * DAY), ..facts() },
                UnfitTopic::Retention { kept: 2 * DAY, needed: 3 * DAY },
            ),
            (TopicFacts { retention_bytes: Some(1), ..facts() }, UnfitTopic::RetentionBytes(1)),
            (TopicFacts { replicas: 2, ..facts() }, UnfitTopic::Replication { replicas: 2, needed: 3 }),
            (TopicFacts { in_sync_min: 1, ..facts() }, UnfitTopic::InSync { in_sync_min: 1, needed: 2 }),
            (TopicFacts { in_sync_min: 4, ..facts() }, UnfitTopic::InSync { in_sync_min: 4, needed: 2 }),
            (TopicFacts { elects_unclean: true, ..facts() }, UnfitTopic::Unclean),
        ] {
            assert_eq!(unfit.check(3, DAY), Err(error.clone()));
            assert!(error.to_string().starts_with("cluster_topic_"), "{error}");
        }
        let kept = facts().check(3, 10 * DAY).unwrap_err();
        assert!(kept.to_string().contains("keeps records for 72 h, and must keep them for 240 h"), "{kept}");
        assert_eq!(check_partitions(0), Err(UnfitTopic::Partitions(0)));
    }
}
