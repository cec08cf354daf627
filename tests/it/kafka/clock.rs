//! A broker's clock as a witness for this machine's.

use crate::kafka::world::{TOPIC, begin_transaction, caught_up, make_topic_with, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::shim::Shim;
use crate::support::{Server, now_ms, wait_for};
use rdkafka::producer::Producer;
use serde_json::json;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000;

fn is_believed(server: &Server) -> bool {
    server.ok("/status")["clock"]["believed"] == true
}

/// Up to so many records of now, a second apart: the broker is a witness only where a record comes after it was asked where
/// the topic ends. Says whether the clock is believed then.
fn records(broker: &Broker, server: &Server, most: usize) -> bool {
    for n in 0..most {
        produce(broker, TOPIC, [record("u", json!({"user": "u", "da": "1", "ts": now_ms()}).to_string())]);
        let taken = || server.metric("freqcap_kafka_records_total") >= (n + 1) as f64;
        wait_for("a record to be read", || taken().then_some(()));
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if is_believed(server) {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    false
}

#[test]
fn a_clock_of_weeks_later_is_believed_when_the_broker_appends_at_that_time() {
    for (setting, believed) in [("LogAppendTime", true), ("CreateTime", false)] {
        let (broker, shim) = (Broker::start(), Shim::new());
        make_topic_with(&broker, TOPIC, 1, &[("message.timestamp.type", setting)]);
        let site = site(&broker, &[]);
        // It last ran a month ago.
        shim.set_clock(-30 * DAY);
        let server = shim.start(&site);
        caught_up(&server);
        assert!(server.terminate().success());
        shim.set_clock(0);
        let server = shim.start(&site);
        caught_up(&server);
        assert!(!is_believed(&server), "{setting}");
        // A sender's time is no clock at hand.
        assert_eq!(records(&broker, &server, 6), believed, "{setting}");
    }
}

#[test]
fn a_clock_that_is_ahead_of_the_brokers_is_not_believed() {
    let (broker, shim) = (Broker::start(), Shim::new());
    make_topic_with(&broker, TOPIC, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let site = site(&broker, &[]);
    let server = shim.start(&site);
    caught_up(&server);
    assert!(server.terminate().success());
    shim.set_clock(30 * DAY);
    let server = shim.start(&site);
    caught_up(&server);
    assert!(!records(&broker, &server, 6));
}

#[test]
fn the_time_of_a_record_that_waited_for_its_transaction_confirms_nothing() {
    let broker = Broker::start_with(&[
        "transaction.state.log.replication.factor=1",
        "transaction.state.log.min.isr=1",
        "transaction.state.log.num.partitions=1",
    ]);
    let shim = Shim::new();
    make_topic_with(&broker, TOPIC, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let site = site(&broker, &[]);
    let server = shim.start(&site);
    caught_up(&server);
    assert!(server.terminate().success());
    let event = || record("u", json!({"user": "u", "da": "1", "ts": now_ms()}).to_string());
    // Appended when it truly was what a clock 70 s behind shows nearly a minute later.
    let transaction = begin_transaction(&broker, TOPIC, [event()]);
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    shim.set_clock(-70_000);
    let server = shim.start(&site);
    caught_up(&server);
    assert!(!is_believed(&server));
    transaction.commit_transaction(Duration::from_secs(30)).unwrap();
    wait_for("the record to be read", || (server.metric("freqcap_kafka_records_total") >= 1.0).then_some(()));
    assert!(!is_believed(&server), "a clock that is 70 s behind");
    // Nor does one of now: it shows another time.
    produce(&broker, TOPIC, [event()]);
    wait_for("the record to be read", || (server.metric("freqcap_kafka_records_total") >= 2.0).then_some(()));
    assert!(!is_believed(&server), "a clock that is 70 s behind");
}
