//! With Kafka nothing is lost at all: a restored service reads on from where the snapshot stands.

use super::world::{World, counts};
use crate::kafka::world::{Record, TOPIC, caught_up, make_topic, produce, record};
use crate::support::kafka_broker::Broker;
use crate::support::{now_ms, wait_for};
use std::collections::BTreeMap;
use std::time::Duration;

const USERS: usize = super::world::USERS;
const ADS: usize = super::world::ADS;
const ROUND: usize = 3_000;

/// `FREQCAP_SNAPSHOT_KAFKA_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("FREQCAP_SNAPSHOT_KAFKA_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap())
}

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

#[test]
fn a_restored_service_goes_on_from_the_snapshot_without_a_gap() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 3);
    let mut world = World::of_s3();
    let kafka = ["--kafka-brokers", &broker.bootstrap(), "--kafka-topic", TOPIC, "--kafka-from", "earliest"];
    world.flags.extend(kafka.iter().map(|flag| (*flag).to_owned()));
    let ts = now_ms();
    let flags = ["--snapshot-every", "1s", "--takeover", "--overlay-size", "192KiB"];
    let rounds = rounds();
    for round in 0..rounds {
        produce(&broker, TOPIC, events(round * ROUND, ROUND, ts));
        let server = world.start("data", &flags);
        let taken = "freqcap_snapshots_total";
        wait_for("events", || (server.metric("freqcap_events_total{result=\"counted\"}") >= 300.0).then_some(()));
        // Every other round with a snapshot of its own.
        if round % 2 == 0 {
            wait_for("a snapshot", || (server.metric(taken) >= 1.0).then_some(()));
        }
        std::thread::park_timeout(Duration::from_millis((round * 617 % 900) as u64));
        server.kill();
        world.lose_disk("data");
    }
    let server = world.start("data", &flags);
    caught_up(&server);
    let mut expected: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    (0..rounds * ROUND).for_each(|n| *expected.entry(pair(n)).or_default() += 1);
    assert_eq!(counts(&server), expected);
    assert!(server.terminate().success());
}
