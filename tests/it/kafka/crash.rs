//! kill -9 of freqcap and of the broker: every event counts once, without ids.

use crate::kafka::world::{Record, TOPIC, caught_up, counted, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, now_ms, wait_for};
use serde_json::json;
use std::collections::BTreeMap;

const ROUNDS: usize = 10;
const USERS: usize = 150;
const ADS: usize = 4;

fn pair(n: usize) -> (usize, usize) {
    let spread = n.wrapping_mul(0x9E37_79B9) >> 7;
    (spread % USERS, spread / USERS % ADS)
}

fn events(from: usize, count: usize, ts: u64) -> impl Iterator<Item = Record> {
    (from..from + count).map(move |n| {
        let (user, ad) = pair(n);
        // Without an id, and many at the same millisecond.
        record(format!("u{user}"), format!(r#"{{"user":"u{user}","da":"{ad}","ts":{}}}"#, ts - (n % 1_000) as u64))
    })
}

/// Every pair's count against a recount.
fn verify(server: &Server, events: usize) {
    let mut expected: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    (0..events).for_each(|n| *expected.entry(pair(n)).or_default() += 1);
    for ((user, ad), count) in expected {
        assert_eq!(server.ok(&format!("/cap/u{user}/{ad}"))["count"], count, "u{user} {ad}");
    }
}

/// What the log would have sorted out by the made-up ids: nothing may get that far.
fn no_duplicates(server: &Server) {
    assert_eq!(server.metric("freqcap_events_total{result=\"duplicate\"}"), 0.0, "an event was taken a second time");
}

#[test]
fn after_kill_9_in_mid_stream_with_other_numbers_of_writers_every_event_is_counted_once() {
    const ROUND: usize = 15_000;
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 3);
    let mut site = site(&broker, &["--limit", "none", "--history-limit", "60000", "--writers", "1"]);
    let (ts, mut skipped, mut interrupted) = (now_ms(), 0.0, 0);
    for round in 0..ROUNDS {
        produce(&broker, TOPIC, events(round * ROUND, ROUND, ts));
        *site.flags.last_mut().unwrap() = [1, 2, 3, 2, 5, 8, 1, 4, 7, 2][round].to_string();
        let server = site.start();
        // In the middle, at another moment each round.
        let enough = (300 + round * 1_700 % 9_000) as f64;
        wait_for("events", || (server.metric("freqcap_events_total{result=\"counted\"}") >= enough).then_some(()));
        interrupted += usize::from(server.get("/readyz?kafka").0 != 200);
        skipped += server.metric("freqcap_kafka_skipped_total");
        no_duplicates(&server);
        server.kill();
    }
    let server = site.start();
    caught_up(&server);
    skipped += server.metric("freqcap_kafka_skipped_total");
    no_duplicates(&server);
    verify(&server, ROUNDS * ROUND);
    assert!(skipped > 0.0, "nothing was read again: no kill came between a write and the frontier");
    println!("{skipped} events were read again and skipped; {interrupted} rounds ended in mid-stream");
    // Ended in order, nothing is read again but the one record that shows whose topic it is.
    assert!(server.terminate().success());
    produce(&broker, TOPIC, events(ROUNDS * ROUND, 100, ts));
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_skipped_total"), 0.0);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 100.0);
    verify(&server, ROUNDS * ROUND + 100);
}

#[test]
fn a_broker_that_crashes_and_comes_back_is_waited_for() {
    let mut broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    let site = site(&broker, &["--limit", "none", "--history-limit", "60000"]);
    let (server, ts) = (site.start(), now_ms());
    produce(&broker, TOPIC, events(0, 20_000, ts));
    counted(&server, 5_000);
    broker.kill();
    wait_for("the broker to be missed", || (server.metric("freqcap_kafka_connected") == 0.0).then_some(()));
    // Everything else goes on.
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    server.count(&json!({"user": "u", "da": "1"}));
    broker.start_again();
    produce(&broker, TOPIC, events(20_000, 20_000, ts));
    counted(&server, 40_001);
    verify(&server, 40_000);
    wait_for("the broker to be seen", || (server.metric("freqcap_kafka_connected") == 1.0).then_some(()));
    no_duplicates(&server);
    assert!(server.terminate().success());
}

#[test]
fn a_service_starts_and_stops_without_its_broker() {
    let mut broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, events(0, 1_000, now_ms()));
    broker.kill();
    let site = site(&broker, &["--limit", "none", "--history-limit", "60000"]);
    let server = site.start();
    let (status, problem) = server.get("/readyz?kafka");
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("kafka_catching_up")));
    assert!(server.terminate().success());
    let server = site.start();
    broker.start_again();
    caught_up(&server);
    verify(&server, 1_000);
}
