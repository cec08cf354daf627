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
