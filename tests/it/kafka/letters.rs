//! What has no time, and what becomes of a record that cannot be used.

use crate::kafka::world::{
    Record, TOPIC, caught_up, config, counted, make_topic, make_topic_with, produce, record, site,
};
use crate::support::kafka_broker::Broker;
use crate::support::{now_ms, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedMessage, Timestamp};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Any time at all.
const ANY_TIME: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");

fn all(broker: &Broker, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer =
        config(broker).set("group.id", "test").set("enable.partition.eof", "true").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(20)).unwrap() {
            Ok(message) => found.push(message.detach()),
            Err(KafkaError::PartitionEOF(_)) => return found,
            Err(error) => println!("{error}"),
        }
    }
}

fn without_ts(user: &str, ts: Option<i64>) -> Record {
    Record { ts, ..record(user, json!({"user": user, "da": "1"}).to_string()) }
}

fn header(letter: &OwnedMessage, name: &str) -> Option<String> {
    let header = letter.headers()?.iter().find(|header| header.key == name)?;
    header.value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn a_record_without_a_time_that_means_anything_is_never_taken_for_now() {
    let (broker, now) = (Broker::start(), now_ms() as i64);
    make_topic_with(&broker, TOPIC, 1, &[ANY_TIME]);
    // A topic that takes no time far ahead must not hold anything up.
    for dead in ["any", "near"] {
        make_topic_with(&broker, dead, 1, &[ANY_TIME][..usize::from(dead == "any")]);
    }
    let times = [-1, 1, now / 1_000, now * 1_000];
    for (n, ts) in times.iter().enumerate() {
        // Apart: of a batch, none has a time where the first has none.
        produce(&broker, TOPIC, [without_ts(&format!("u{n}"), Some(*ts))]);
    }
    produce(&broker, TOPIC, [without_ts("good", Some(now - 3_600_000))]);
    for dead in ["any", "near"] {
        let site = site(&broker, &["--kafka-dlq", dead, "--kafka-group", dead]);
        let server = site.start();
        caught_up(&server);
        for (n, time) in times.iter().enumerate() {
            assert_eq!(server.ok(&format!("/cap/u{n}/1"))["count"], 0, "{time}");
        }
        let verdict = server.ok(&format!("/cap/good/1?at={}", now - 3_600_000));
        assert_eq!(verdict["count"], 1, "its time is that of the record");
        let letters = all(&broker, dead);
        assert_eq!(letters.len(), times.len());
        for letter in &letters {
            let n = String::from_utf8(letter.key().unwrap().to_vec()).unwrap()[1..].parse::<usize>().unwrap();
            assert_eq!(header(letter, "freqcap-reason").unwrap(), "ts_not_milliseconds");
            assert_eq!(header(letter, "freqcap-timestamp").unwrap(), times[n].to_string());
            let kept = letter.timestamp();
            let is_kept = kept == Timestamp::CreateTime(times[n]) || kept == Timestamp::NotAvailable && times[n] == -1;
            let too_far = dead == "near" && times[n] > 2 * now && kept == Timestamp::NotAvailable;
            assert!(is_kept || too_far, "{kept:?} for {}", times[n]);
        }
    }
}

#[test]
fn a_dead_letter_that_is_sent_back_counts_as_it_would_have() {
    let (broker, then) = (Broker::start(), now_ms() as i64 - 3_600_000);
    make_topic(&broker, TOPIC, 1);
    make_topic(&broker, "dead", 1);
    let headers = vec![
        ("trace".to_owned(), Some("7".to_owned())),
        ("empty".to_owned(), Some(String::new())),
        ("null".to_owned(), None),
        ("trace".to_owned(), Some("8".to_owned())),
        ("freqcap-reason".to_owned(), Some("of an earlier time".to_owned())),
    ];
    // Nobody can read it until the reader is told which field the user is in.
    let value = json!({"who": "u", "da": "1"}).to_string();
    produce(&broker, TOPIC, [Record { ts: Some(then), headers, ..record("the key", value.clone()) }]);
    let mut site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    caught_up(&server);
    let letter = all(&broker, "dead").pop().unwrap();
    assert_eq!(letter.key().unwrap(), b"the key");
    assert_eq!(letter.payload().unwrap(), value.as_bytes());
    assert_eq!(letter.timestamp(), Timestamp::CreateTime(then));
    let kept: Vec<_> = letter.headers().unwrap().iter().map(|header| (header.key, header.value)).collect();
    let theirs: Vec<(&str, Option<&[u8]>)> =
        vec![("trace", Some(b"7")), ("empty", Some(b"")), ("null", None), ("trace", Some(b"8"))];
    assert_eq!(kept[..4], theirs);
    assert_eq!(kept.iter().filter(|(key, _)| *key == "freqcap-reason").count(), 1);
    assert_eq!(header(&letter, "freqcap-reason").unwrap(), "missing_user");
    assert!(server.terminate().success());
    // The operator sets that right, and sends it back as it is.
    let file = site.dir.path().join("freqcap.toml");
    std::fs::write(&file, "[fields]\nuser = \"who\"\n").unwrap();
    site.flags.extend(["--config".to_owned(), file.to_str().unwrap().to_owned()]);
    let ts = letter.timestamp().to_millis();
    produce(&broker, TOPIC, [Record { ts, ..record("the key", value) }]);
    let server = site.start();
    wait_for("it to count", || (server.ok("/cap/u/1")["count"] == 1).then_some(()));
    // At its own time: a millisecond before there is none.
    assert_eq!(server.ok(&format!("/cap/u/1?at={then}"))["count"], 1);
    assert_eq!(server.ok(&format!("/cap/u/1?at={}", then - 1))["count"], 0);
}

#[test]
fn a_record_without_a_value_is_no_dead_letter() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    make_topic(&broker, "dead", 1);
    let event = || record("u", json!({"user": "u", "da": "1", "ts": now_ms()}).to_string());
    produce(
        &broker,
        TOPIC,
        [event(), Record { value: None, ..record("u", "") }, Record { value: None, ..record("v", "") }],
    );
    let site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_tombstones_total"), 2.0);
    assert_eq!(server.ok("/cap/u/1")["count"], 1);
    assert!(all(&broker, "dead").is_empty());
    assert!(server.terminate().success());
    // They are done with.
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_tombstones_total"), 0.0);
}

/// Events of one user and ad, each of a kind of its own: two more than a log takes.
fn kinds(then: i64) -> impl Iterator<Item = Record> {
    (0..18).map(move |n| {
        let value = json!({"user": "u", "da": "1", "kind": format!("k{n}")}).to_string();
        let headers = vec![("trace".to_owned(), Some(n.to_string()))];
        Record { ts: Some(then), headers, ..record(format!("key {n}"), value) }
    })
}

/// The letters for the last two of [`kinds`].
fn are_of_kinds(letters: &[OwnedMessage], then: i64) {
    let keys: Vec<_> = letters.iter().map(|letter| String::from_utf8_lossy(letter.key().unwrap())).collect();
    assert_eq!(keys, ["key 16", "key 17"]);
    for (letter, n) in letters.iter().zip(16..) {
        assert_eq!(header(letter, "freqcap-reason").unwrap(), "too_many_kinds");
        assert_eq!(header(letter, "freqcap-offset").unwrap(), n.to_string());
        assert_eq!(header(letter, "trace").unwrap(), n.to_string());
        assert_eq!(letter.timestamp(), Timestamp::CreateTime(then));
        let value: serde_json::Value = serde_json::from_slice(letter.payload().unwrap()).unwrap();
        assert_eq!(value["kind"], format!("k{n}"));
    }
}

#[test]
fn what_a_writer_refuses_becomes_a_letter_with_all_that_its_record_had() {
    let (broker, then) = (Broker::start(), now_ms() as i64 - 3_600_000);
    make_topic(&broker, TOPIC, 1);
    make_topic(&broker, "dead", 1);
    produce(&broker, TOPIC, kinds(then));
    let site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    caught_up(&server);
    are_of_kinds(&all(&broker, "dead"), then);
    assert_eq!(server.metric("freqcap_kafka_dead_letters_total{reason=\"too_many_kinds\"}"), 2.0);
    assert!(server.terminate().success());
    // They are done with.
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 0.0);
}

#[test]
fn a_letter_for_what_a_writer_refused_outlives_a_crash() {
    let (broker, then) = (Broker::start(), now_ms() as i64 - 3_600_000);
    make_topic(&broker, TOPIC, 1);
    produce(&broker, TOPIC, kinds(then));
    // The topic for dead letters is not there yet: the writer's mark is beyond records whose letters cannot be sent.
    let site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    counted(&server, 16);
    wait_for("what was refused to be durable", || {
        (server.metric("freqcap_kafka_dead_letters_total{reason=\"too_many_kinds\"}") == 2.0).then_some(())
    });
    server.kill();
    make_topic(&broker, "dead", 1);
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_skipped_total"), 16.0);
    are_of_kinds(&all(&broker, "dead"), then);
    assert!(server.terminate().success());
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.metric("freqcap_kafka_records_total"), 0.0);
}

#[test]
fn a_record_of_a_user_whose_row_cannot_be_read_becomes_a_letter() {
    const USERS: usize = 2_000;
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    make_topic(&broker, "dead", 1);
    let then = now_ms() as i64 - 3_600_000;
    let events = |trace: &str| {
        let headers = vec![("trace".to_owned(), Some(trace.to_owned()))];
        let event = move |n: usize| {
            let user = format!("user-{n}");
            let value = json!({"user": user, "da": "77"}).to_string();
            Record { ts: Some(then), headers: headers.clone(), ..record(user, value) }
        };
        (0..USERS).map(event)
    };
    produce(&broker, TOPIC, events("a"));
    let site = site(&broker, &["--kafka-dlq", "dead"]);
    let server = site.start();
    counted(&server, USERS);
    assert!(server.terminate().success());
    spoil(&site.data());
    produce(&broker, TOPIC, events("b"));
    let server = site.start();
    caught_up(&server);
    let spoilt = |user: &str| {
        let (status, body) = server.get(&format!("/cap/{user}/77?at={then}"));
        assert!(status == 503 && body["code"] == "row_unreadable" || body["count"] == 2, "{body}");
        status == 503
    };
    let mut expected: Vec<String> = (0..USERS).map(|n| format!("user-{n}")).filter(|user| spoilt(user)).collect();
    assert!(!expected.is_empty() && expected.len() < USERS / 2);
    let letters = all(&broker, "dead");
    let mut keys: Vec<String> =
        letters.iter().map(|letter| String::from_utf8(letter.key().unwrap().to_vec()).unwrap()).collect();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
    for letter in &letters {
        assert_eq!(header(letter, "freqcap-reason").unwrap(), "row_unreadable");
        assert_eq!(header(letter, "trace").unwrap(), "b");
        assert_eq!(letter.timestamp(), Timestamp::CreateTime(then));
    }
}

/// Makes two blocks of the largest file of rows unreadable.
fn spoil(data: &Path) {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "sst"));
    let file = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    for at in [bytes.len() / 3, bytes.len() / 3 + 9_000] {
        bytes[at] ^= 0x55;
    }
    std::fs::write(file, bytes).unwrap();
}
