//! The log's topic is made as it must be, and one that cannot be the log is refused with a reason.

use crate::kafka::world::make_topic_with;
use crate::support::kafka_broker::Broker;
use freqcap::cluster::{LogTopic, TopicError, TopicOptions, UnfitTopic, ensure_topic};
use freqcap::kafka::{ClientSettings, Cluster};
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const FITTING: [(&str, &str); 3] =
    [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "259200000"), ("min.insync.replicas", "1")];

pub fn cluster(brokers: String) -> Cluster {
    Cluster { brokers, settings: ClientSettings::default() }
}

pub fn options(name: &str, partitions: u32) -> TopicOptions {
    TopicOptions { name: name.to_owned(), partitions, replication: 3, snapshot_age: DAY }
}

pub fn ensure(broker: &Broker, options: &TopicOptions) -> Result<LogTopic, TopicError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ensure_topic(&cluster(broker.bootstrap()), options))
}

#[test]
fn a_topic_that_is_missing_is_made_and_found_as_it_was_made() {
    let broker = Broker::start();
    let wanted = TopicOptions { snapshot_age: 10 * DAY, ..options("log", 8) };
    let made = ensure(&broker, &wanted).unwrap();
    assert_eq!(made, LogTopic { partitions: 8, retention: Some(10 * DAY), was_made: true });
    assert_eq!(ensure(&broker, &wanted).unwrap(), LogTopic { was_made: false, ..made.clone() });
    // The number of partitions is for ever: another that is asked for changes nothing.
    assert_eq!(ensure(&broker, &options("log", 16)).unwrap().partitions, 8);
    // A longer retention may be asked for later.
    let longer = ensure(&broker, &TopicOptions { snapshot_age: 11 * DAY, ..wanted }).unwrap_err();
    assert!(longer.to_string().contains("cluster_topic_retention"), "{longer}");
    // Two nodes that start at once make one topic.
    let both = std::thread::scope(|scope| {
        let start = || scope.spawn(|| ensure(&broker, &options("at-once", 4)).unwrap());
        [start(), start()].map(|thread| thread.join().unwrap())
    });
    assert!(both.iter().all(|topic| topic.partitions == 4) && both.iter().any(|topic| topic.was_made), "{both:?}");
}

#[test]
fn a_topic_that_cannot_be_the_log_is_refused() {
    let broker = Broker::start();
    for (name, partitions, settings, error) in [
        ("fits", 4, vec![], None),
        ("three", 3, vec![], Some(UnfitTopic::Partitions(3))),
        (
            "create-time",
            4,
            vec![("message.timestamp.type", "CreateTime")],
            Some(UnfitTopic::Timestamps("CreateTime".to_owned())),
        ),
        ("compacted", 4, vec![("cleanup.policy", "compact")], Some(UnfitTopic::Compacted("compact".to_owned()))),
        (
            "short",
            4,
            vec![("retention.ms", "3600000")],
            Some(UnfitTopic::Retention { kept: Duration::from_secs(3_600), needed: 3 * DAY }),
        ),
        ("small", 4, vec![("retention.bytes", "1000000")], Some(UnfitTopic::RetentionBytes(1_000_000))),
        ("in-sync", 4, vec![("min.insync.replicas", "2")], Some(UnfitTopic::InSync { in_sync_min: 2, needed: 1 })),
        ("unclean", 4, vec![("unclean.leader.election.enable", "true")], Some(UnfitTopic::Unclean)),
    ] {
        let settings: BTreeMap<_, _> = FITTING.into_iter().chain(settings).collect();
        make_topic_with(&broker, name, partitions, &settings.into_iter().collect::<Vec<_>>());
        match (ensure(&broker, &options(name, 4)), error) {
            (Ok(topic), None) => assert_eq!(topic.partitions, 4),
            (Err(TopicError::Unfit { topic, why }), Some(error)) => assert_eq!((topic.as_str(), why), (name, error)),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
    let asked = ensure(&broker, &options("never-made", 12)).unwrap_err();
    assert!(matches!(asked, TopicError::Unfit { why: UnfitTopic::Partitions(12), .. }), "{asked}");
}

#[test]
fn brokers_that_do_not_answer_are_an_error_that_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(ensure_topic(&cluster("127.0.0.1:1".to_owned()), &options("log", 8))).unwrap_err();
    assert!(matches!(error, TopicError::Brokers { .. }), "{error}");
}
