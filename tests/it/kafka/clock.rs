//! A broker's clock as a witness for this machine's.

use crate::kafka::world::{TOPIC, caught_up, make_topic_with, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::shim::Shim;
use crate::support::{Server, now_ms, wait_for};
use serde_json::json;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000;

fn is_believed(server: &Server) -> bool {
    server.ok("/status")["clock"]["believed"] == true
}

/// Records of now, at least so many and for three seconds; whether the clock is believed before that. The service looks at its
/// witnesses twice a second.
fn records(broker: &Broker, server: &Server, least: usize) -> bool {
    let started = Instant::now();
    let mut n = 0;
    while n < least || started.elapsed() < Duration::from_secs(3) {
        produce(broker, TOPIC, [record("u", json!({"user": "u", "da": "1", "ts": now_ms()}).to_string())]);
        let taken = || server.metric("freqcap_kafka_records_total") >= (n + 1) as f64;
        wait_for("a record to be read", || taken().then_some(()));
        if is_believed(server) {
            return true;
        }
        n += 1;
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
        assert_eq!(records(&broker, &server, 20), believed, "{setting}");
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
    assert!(!records(&broker, &server, 20));
}
