//! Records that cannot be used stop nothing.

use crate::kafka::world::{Record, TOPIC, caught_up, config, counted, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::{now_ms, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// What cannot be used, each with the reason.
fn poison(now: u64) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("invalid_json", Some("{".to_owned())),
        ("not_an_object", Some("7".to_owned())),
        ("invalid_json", Some("\u{0}\u{1}".to_owned())),
        ("missing_da", Some(json!({"user": "u"}).to_string())),
        ("invalid_user", Some(json!({"user": "*", "da": "1"}).to_string())),
        ("ts_not_milliseconds", Some(json!({"user": "u", "da": "1", "ts": 1_732_233_600}).to_string())),
        ("ts_in_future", Some(json!({"user": "u", "da": "1", "ts": now + 3_600_000}).to_string())),
    ]
}

/// Good ones and bad ones in turn.
fn mixed(now: u64) -> impl Iterator<Item = Record> {
    poison(now).into_iter().enumerate().flat_map(move |(n, (_, value))| {
        let good = json!({"user": "u", "da": n.to_string(), "ts": now}).to_string();
        [Record { value, ..record(format!("bad-{n}"), "") }, record("good", good)]
    })
}

#[test]
fn without_a_topic_for_them_they_are_counted() {
    let (broker, now) = (Broker::start(), now_ms());
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, mixed(now));
    let site = site(&broker, &[]);
    let server = site.start();
    caught_up(&server);
    for n in 0..poison(now).len() {
        assert_eq!(server.ok(&format!("/cap/u/{n}"))["count"], 1);
    }
    let dead = |reason: &str| server.metric(&format!("freqcap_kafka_dead_letters_total{{reason=\"{reason}\"}}"));
    assert_eq!((dead("invalid_json"), dead("ts_in_future")), (2.0, 1.0));
    // They are done with: not read again.
    assert!(server.terminate().success());
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 0.0);
}

#[test]
fn users_that_mean_nobody_are_passed_over_and_a_kind_too_many_is_counted_as_unusable() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    let event =
        |user: &str, kind: usize| record(user, json!({"user": user, "da": 1, "kind": format!("k{kind}")}).to_string());
    let nobody = ["null", "[IDFA]"].map(|user| event(user, 0));
    produce(&broker, TOPIC, (0..18).map(|kind| event("u", kind)).chain(nobody).chain([event("v", 17)]));
    let site = site(&broker, &[]);
    let server = site.start();
    caught_up(&server);
    let result = |result: &str| server.metric(&format!("freqcap_events_total{{result=\"{result}\"}}"));
    assert_eq!((result("counted"), result("ignored"), result("rejected")), (17.0, 2.0, 2.0));
    assert_eq!(server.metric("freqcap_kafka_dead_letters_total{reason=\"too_many_kinds\"}"), 2.0);
    assert_eq!(server.ok("/users/u")["logs"][0]["kinds"].as_array().unwrap().len(), 16);
    // They are done with: not read again.
    assert!(server.terminate().success());
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 0.0);
}

#[test]
fn with_a_topic_for_them_they_are_kept_there_with_the_reason() {
    let (broker, now) = (Broker::start(), now_ms());
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, mixed(now));
    let site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    // There is no such topic yet: what is good is counted, and nothing is called done.
    counted(&server, poison(now).len());
    assert_eq!(server.get("/readyz?kafka").0, 503);
    server.kill();
    let server = site.start();
    make_topic(&broker, "dead", 1);
    caught_up(&server);
    let letters = letters(&broker);
    for (n, (reason, value)) in poison(now).into_iter().enumerate() {
        let letter = letters.get(&format!("bad-{n}"));
        let letter = letter.unwrap_or_else(|| panic!("{reason} is not among {:?}", letters.keys()));
        let header = |name: &str| letter.headers[name].as_str();
        assert_eq!(letter.value, value, "{reason}");
        assert_eq!(header("freqcap-reason"), reason);
        assert_eq!((header("freqcap-topic"), header("freqcap-partition")), (TOPIC, "0"));
        assert_eq!(header("freqcap-offset"), (2 * n).to_string());
        assert!(!header("freqcap-detail").is_empty());
    }
    assert_eq!(letters.len(), poison(now).len());
    for n in 0..poison(now).len() {
        assert_eq!(server.ok(&format!("/cap/u/{n}"))["count"], 1);
    }
}

struct Letter {
    value: Option<String>,
    headers: BTreeMap<String, String>,
}

/// Everything in the topic of dead letters, by key.
fn letters(broker: &Broker) -> BTreeMap<String, Letter> {
    let consumer: BaseConsumer =
        config(broker).set("group.id", "test").set("enable.partition.eof", "true").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("dead", 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut letters = BTreeMap::new();
    loop {
        let message = match consumer.poll(Duration::from_secs(20)).unwrap() {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => break,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().unwrap();
        let headers = headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect();
        letters.insert(text(message.key().unwrap()), Letter { value: message.payload().map(text), headers });
    }
    letters
}

#[test]
fn a_letter_that_did_not_arrive_before_a_crash_is_sent_though_the_time_of_its_event_has_come() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    let due = now_ms() + 8_000;
    let event = |ts: u64| record("u", json!({"user": "u", "da": "1", "ts": ts}).to_string());
    produce(&broker, TOPIC, [event(due), event(now_ms())]);
    // The topic for dead letters is not there yet.
    let site = site(&broker, &["--max-skew", "1s", "--kafka-dlq", "dead"]);
    let server = site.start();
    counted(&server, 1);
    assert!(now_ms() < due - 1_000, "too slow to put anything to the test");
    server.kill();
    wait_for("the time of the event", || (now_ms() > due).then_some(()));
    make_topic(&broker, "dead", 1);
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.ok("/cap/u/1")["count"], 1);
    let dead = server.metric("freqcap_kafka_dead_letters_total{reason=\"ts_in_future\"}");
    assert_eq!(dead, 1.0);
    assert_eq!(letters(&broker).len(), 1);
    // It is done with.
    assert!(server.terminate().success());
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 0.0);
}
