//! Offsets without records that can be read: markers of transactions, aborted records, what was deleted.

use crate::kafka::world::{
    Record, TOPIC, caught_up, config, counted, delete_records, make_topic, produce, record, site, transact,
};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, now_ms, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use std::time::Duration;

/// Events without ids: read twice they would count twice, were it not for their offsets.
fn events(user: &str, count: usize) -> Vec<Record> {
    let event = json!({"user": user, "da": "1", "ts": now_ms()}).to_string();
    (0..count).map(|_| record(user, event.clone())).collect()
}

fn count(server: &Server, user: &str) -> u64 {
    server.ok(&format!("/cap/{user}/1"))["count"].as_u64().unwrap()
}

fn lag(server: &Server) -> f64 {
    server.metric("freqcap_kafka_lag{partition=\"0\"}")
}

/// What lag tools go by: the offset committed under the group.
fn committed(broker: &Broker) -> Option<i64> {
    let consumer: BaseConsumer = config(broker).set("group.id", "freqcap").create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(TOPIC, 0);
    let told = consumer.committed_offsets(asked, Duration::from_secs(20)).unwrap();
    match told.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

fn end(broker: &Broker) -> i64 {
    let consumer: BaseConsumer = config(broker).create().unwrap();
    consumer.fetch_watermarks(TOPIC, 0, Duration::from_secs(20)).unwrap().1
}

fn is_at_the_end(broker: &Broker, server: &Server) {
    wait_for("a lag of nothing", || (lag(server) == 0.0).then_some(()));
    wait_for("the end to be committed", || (committed(broker) == Some(end(broker))).then_some(()));
}

#[test]
fn markers_of_transactions_and_aborted_records_are_stepped_over() {
    let broker = Broker::start_with(&[
        "transaction.state.log.replication.factor=1",
        "transaction.state.log.min.isr=1",
        "transaction.state.log.num.partitions=1",
    ]);
    make_topic(&broker, TOPIC, 1);
    let site = site(&broker, &["--limit", "none"]);
    // Only what was aborted: there is no record to be read at all.
    transact(&broker, TOPIC, false, events("aborted", 5));
    let server = site.start();
    caught_up(&server);
    is_at_the_end(&broker, &server);
    // At the end a marker.
    transact(&broker, TOPIC, true, events("a", 7));
    counted(&server, 7);
    is_at_the_end(&broker, &server);
    transact(&broker, TOPIC, false, events("aborted", 5));
    is_at_the_end(&broker, &server);
    assert!(server.terminate().success());
    transact(&broker, TOPIC, true, events("b", 3));
    let server = site.start();
    caught_up(&server);
    is_at_the_end(&broker, &server);
    produce(&broker, TOPIC, events("c", 2));
    wait_for("the last", || (count(&server, "c") == 2).then_some(()));
    assert_eq!((count(&server, "a"), count(&server, "b"), count(&server, "aborted")), (7, 3, 0));
    is_at_the_end(&broker, &server);
    // And a start after a crash skips nothing and counts nothing twice.
    server.kill();
    transact(&broker, TOPIC, true, events("a", 1));
    let server = site.start();
    wait_for("one more", || (count(&server, "a") == 8).then_some(()));
    is_at_the_end(&broker, &server);
    assert_eq!((count(&server, "b"), count(&server, "c")), (3, 2));
    assert_eq!(server.metric("freqcap_kafka_partition_state{partition=\"0\"}"), 1.0);
}

#[test]
fn a_topic_cut_at_its_beginning_is_the_same_topic() {
    for on_change in ["stop", "earliest"] {
        let broker = Broker::start();
        make_topic(&broker, TOPIC, 1);
        produce(&broker, TOPIC, events("a", 30));
        let site = site(&broker, &["--limit", "none", "--kafka-on-change", on_change]);
        let server = site.start();
        caught_up(&server);
        // While it runs: everything that there is.
        delete_records(&broker, TOPIC, 0, 30);
        produce(&broker, TOPIC, events("a", 5));
        wait_for("what came after", || (count(&server, "a") == 35).then_some(()));
        assert!(server.terminate().success());
        // (records sent while it is off, where the cut is, records that it never saw)
        for (sent, cut, unseen) in [(0, 35, 0), (4, 35, 0), (0, 38, 0), (10, 45, 6)] {
            produce(&broker, TOPIC, events("b", sent));
            delete_records(&broker, TOPIC, 0, cut);
            let before = 0.0;
            let server = site.start();
            caught_up(&server);
            is_at_the_end(&broker, &server);
            assert_eq!(server.metric("freqcap_kafka_lost_records_total"), before + f64::from(unseen), "cut at {cut}");
            assert_eq!(server.metric("freqcap_kafka_partition_state{partition=\"0\"}"), 1.0);
            assert_eq!(server.metric("freqcap_kafka_skipped_total"), 0.0);
            assert_eq!(count(&server, "a"), 35, "counted twice");
            assert!(server.terminate().success());
        }
        let server = site.start();
        caught_up(&server);
        assert_eq!((count(&server, "a"), count(&server, "b")), (35, 8));
    }
}
