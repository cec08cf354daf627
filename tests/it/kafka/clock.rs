//! A broker's clock as a witness for this machine's.

use crate::kafka::world::{TOPIC, caught_up, make_topic_with, produce, record, site, transact_later};
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
    records_after(broker, server, 0, most)
}

/// The same after so many others.
fn records_after(broker: &Broker, server: &Server, before: usize, most: usize) -> bool {
    for n in before..before + most {
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

/// It is read once the transaction is committed, and its time agrees with a clock that is behind by as much.
#[test]
fn the_time_of_a_record_that_waited_for_its_transaction_is_no_witness() {
    const BEHIND: Duration = Duration::from_secs(8);
    let (broker, shim) = (Broker::start(), Shim::new());
    make_topic_with(&broker, TOPIC, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let server = shim.start(&site(&broker, &["--max-skew", "2s"]));
    caught_up(&server);
    assert!(is_believed(&server));
    let record = record("u", json!({"user": "u", "da": "1", "ts": now_ms() - 60_000}).to_string());
    transact_later(&broker, TOPIC, true, [record], || {
        let appended = Instant::now();
        shim.set_clock(-(BEHIND.as_millis() as i64));
        wait_for("the clock not to be believed", || (!is_believed(&server)).then_some(()));
        while let Some(left) = BEHIND.checked_sub(appended.elapsed()) {
            std::thread::park_timeout(left);
        }
    });
    wait_for("the record", || (server.metric("freqcap_kafka_records_total") == 1.0).then_some(()));
    assert!(!is_believed(&server));
    // Nor is one of now, for this clock is behind.
    assert!(!records_after(&broker, &server, 1, 2));
}
