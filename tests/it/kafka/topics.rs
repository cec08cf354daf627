//! Topics that grow, shrink at their beginning, or are made anew.

use crate::kafka::world::{
    Record, TOPIC, add_partitions, caught_up, counted, delete_records, delete_topic, logged, make_topic, produce,
    record, site,
};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, now_ms, wait_for};
use serde_json::json;

/// Events of user `user`, in a partition.
fn events(user: &str, partition: i32, count: usize) -> impl Iterator<Item = Record> {
    let ts = now_ms();
    (0..count).map(move |n| Record {
        partition: Some(partition),
        ..record(user, json!({"user": user, "da": "1", "ts": ts - n as u64}).to_string())
    })
}

fn count(server: &Server, user: &str) -> u64 {
    server.ok(&format!("/cap/{user}/1"))["count"].as_u64().unwrap()
}

fn state(server: &Server, partition: i32) -> f64 {
    server.metric(&format!("freqcap_kafka_partition_state{{partition=\"{partition}\"}}"))
}

#[test]
fn partitions_added_are_read_from_their_beginning() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, events("a", 0, 50));
    let site = site(&broker, &["--limit", "none"]);
    let server = site.start();
    counted(&server, 50);
    add_partitions(&broker, TOPIC, 3);
    produce(&broker, TOPIC, events("b", 1, 20).chain(events("c", 2, 30)));
    counted(&server, 100);
    assert_eq!((count(&server, "a"), count(&server, "b"), count(&server, "c")), (50, 20, 30));
    assert!(server.terminate().success());
    // Another one, while nobody reads.
    add_partitions(&broker, TOPIC, 4);
    produce(&broker, TOPIC, events("d", 3, 40));
    let server = site.start();
    caught_up(&server);
    assert_eq!((count(&server, "a"), count(&server, "d")), (50, 40));
}

#[test]
fn a_topic_made_anew_is_left_alone_until_it_is_to_be_read() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    produce(&broker, TOPIC, events("a", 0, 30).chain(events("b", 1, 20)));
    let mut site = site(&broker, &["--limit", "none"]);
    let server = site.start();
    caught_up(&server);
    assert!(server.terminate().success());
    delete_topic(&broker, TOPIC);
    make_topic(&broker, TOPIC, 2);
    // One partition has more records than before, the other fewer: neither is what it was.
    produce(&broker, TOPIC, events("a", 0, 100).chain(events("b", 1, 5)));
    let server = site.start();
    wait_for("both to stop", || (state(&server, 0) == 2.0 && state(&server, 1) == 2.0).then_some(()));
    logged(&server, "kafka_topic_changed");
    assert_eq!(server.get("/readyz?kafka").0, 503);
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!((count(&server, "a"), count(&server, "b")), (30, 20));
    drop(server);
    // And it stays so.
    let server = site.start();
    wait_for("both to stop again", || (state(&server, 0) == 2.0 && state(&server, 1) == 2.0).then_some(()));
    drop(server);
    site.flags.extend(["--kafka-on-change".to_owned(), "earliest".to_owned()]);
    let server = site.start();
    caught_up(&server);
    // What was taken of the old one is no reason to skip anything of the new one.
    assert_eq!(server.metric("freqcap_kafka_records_total"), 105.0);
    assert_eq!(server.metric("freqcap_kafka_skipped_total"), 0.0);
    // Everything in it is new, whatever was at the same offsets before.
    assert_eq!((count(&server, "a"), count(&server, "b")), (130, 25));
    assert!(server.terminate().success());
    // The new one is known from now on.
    site.flags.truncate(site.flags.len() - 2);
    produce(&broker, TOPIC, events("c", 1, 3));
    let server = site.start();
    caught_up(&server);
    assert_eq!(count(&server, "c"), 3);
}

#[test]
fn a_topic_made_anew_under_a_running_service_is_noticed() {
    let broker = Broker::start();
    for on_change in ["stop", "earliest"] {
        make_topic(&broker, TOPIC, 1);
        produce(&broker, TOPIC, events("a", 0, 30));
        let site = site(&broker, &["--limit", "none", "--kafka-on-change", on_change, "--kafka-group", on_change]);
        let server = site.start();
        caught_up(&server);
        delete_topic(&broker, TOPIC);
        make_topic(&broker, TOPIC, 1);
        produce(&broker, TOPIC, events("b", 0, 10));
        let (state_after, read) = if on_change == "stop" { (2.0, 0) } else { (1.0, 10) };
        wait_for(on_change, || (state(&server, 0) == state_after && count(&server, "b") == read).then_some(()));
        assert_eq!(count(&server, "a"), 30);
        delete_topic(&broker, TOPIC);
    }
}

#[test]
fn records_lost_to_retention_are_counted_and_left_behind() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, events("a", 0, 30));
    let site = site(&broker, &["--limit", "none"]);
    let server = site.start();
    caught_up(&server);
    assert!(server.terminate().success());
    produce(&broker, TOPIC, events("b", 0, 20).chain(events("c", 0, 10)));
    delete_records(&broker, TOPIC, 0, 50);
    let server = site.start();
    caught_up(&server);
    assert_eq!((count(&server, "a"), count(&server, "b"), count(&server, "c")), (30, 0, 10));
    assert_eq!(server.metric("freqcap_kafka_lost_records_total"), 20.0);
    assert_eq!(state(&server, 0), 1.0);
}

#[test]
fn a_topic_whose_end_was_cut_off_counts_nothing_twice() {
    // Afterwards it ends before what was read of it, or beyond.
    for more in [5, 40] {
        let mut broker = Broker::start();
        make_topic(&broker, TOPIC, 1);
        produce(&broker, TOPIC, events("a", 0, 20));
        let bytes = broker.bytes(TOPIC, 0);
        produce(&broker, TOPIC, events("b", 0, 10));
        let mut site = site(&broker, &["--limit", "none"]);
        let server = site.start();
        caught_up(&server);
        assert!(server.terminate().success());
        broker.cut(TOPIC, 0, bytes);
        produce(&broker, TOPIC, events("c", 0, more));
        let server = site.start();
        wait_for("it to stop", || (state(&server, 0) == 2.0).then_some(()));
        logged(&server, "kafka_topic_changed");
        drop(server);
        site.flags.extend(["--kafka-on-change".to_owned(), "earliest".to_owned()]);
        let server = site.start();
        caught_up(&server);
        // What is still there counted before; what came instead of the rest is new.
        assert_eq!((count(&server, "a"), count(&server, "b"), count(&server, "c")), (20, 10, more as u64));
        assert!(server.terminate().success());
        produce(&broker, TOPIC, events("d", 0, 3));
        let server = site.start();
        caught_up(&server);
        assert_eq!((count(&server, "a"), count(&server, "c"), count(&server, "d")), (20, more as u64, 3));
    }
}
