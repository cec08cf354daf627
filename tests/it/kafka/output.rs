//! Changes of caps, told to a topic.

use crate::kafka::world::{config, make_topic};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, Site, now_ms, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const OUTPUT: &str = "cap-changes";

/// What was told: key of the record, sequence, value.
type Told = (String, String, Value);

/// Reads the topic from its beginning.
struct Listener {
    consumer: BaseConsumer,
    told: Vec<Told>,
}

impl Listener {
    fn new(broker: &Broker) -> Self {
        let consumer: BaseConsumer = config(broker).set("group.id", "listener").create().unwrap();
        let mut all = TopicPartitionList::new();
        (0..2).for_each(|partition| all.add_partition_offset(OUTPUT, partition, Offset::Beginning).unwrap());
        consumer.assign(&all).unwrap();
        Self { consumer, told: Vec::new() }
    }

    /// Hears what there is, until `done`.
    fn hear<T>(&mut self, what: &str, done: impl Fn(&[Told]) -> Option<T>) -> T {
        wait_for(what, || {
            while let Some(message) = self.consumer.poll(Duration::from_millis(20)) {
                // The broker may be away.
                let Ok(message) = message else { break };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let header = message.headers().unwrap().get(0);
                assert_eq!(header.key, "freqcap-seq");
                let value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                self.told.push((text(message.key().unwrap()), text(header.value.unwrap()), value));
            }
            done(&self.told)
        })
    }
}

fn site(broker: &Broker, flags: &[&str]) -> Site {
    let brokers = broker.bootstrap();
    Site::new(&[&["--kafka-brokers", &brokers, "--kafka-output", OUTPUT, "--limit", "2"][..], flags].concat())
}

/// What a listener that goes by the latest record of each key knows to be capped at this moment, and until when.
fn capped(told: &[Told]) -> BTreeMap<(String, String), u64> {
    let mut caps = BTreeMap::new();
    for (user, _, value) in told {
        let key = (user.clone(), value["key"].as_str().unwrap().to_owned());
        match value["capped_until"].as_u64() {
            Some(until) => caps.insert(key, until),
            None => caps.remove(&key),
        };
    }
    let now = now_ms();
    caps.retain(|_, until| *until > now);
    caps
}

fn truth(server: &Server, users: usize) -> BTreeMap<(String, String), u64> {
    let mut caps = BTreeMap::new();
    for user in (0..users).map(|user| format!("u{user}")) {
        for cap in server.ok(&format!("/users/{user}/caps"))["caps"].as_array().unwrap() {
            let key = cap["key"].as_str().unwrap().to_owned();
            caps.insert((user.clone(), key), cap["capped_until"].as_u64().unwrap());
        }
    }
    caps
}

#[test]
fn every_change_of_a_cap_is_told_in_order_with_its_sequence() {
    let broker = Broker::start();
    make_topic(&broker, OUTPUT, 2);
    let site = site(&broker, &["--window", "2s"]);
    let server = site.start();
    let mut listener = Listener::new(&broker);
    let now = now_ms();
    let event = |back: u64| json!({"user": "u1", "da": "77", "ts": now - back});
    server.count(&json!([event(900), event(800)]));
    server.count(&event(100));
    let told = listener.hear("the end of the cap", |told| {
        let ended = told.last().is_some_and(|(_, _, value)| value["change"] == "ended");
        ended.then(|| told.to_vec())
    });
    let changes: Vec<_> = told.iter().map(|(_, _, value)| value["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["capped", "extended", "ended"]);
    assert!(told.iter().all(|(user, _, value)| user == "u1" && value["user"] == "u1" && value["key"] == "da:77"));
    let untils: Vec<_> = told.iter().map(|(_, _, value)| value["capped_until"].as_u64()).collect();
    assert_eq!(untils, [Some(now - 900 + 2_000), Some(now - 800 + 2_000), None]);
    let seqs: Vec<u64> = told.iter().map(|(_, seq, _)| seq.split_once('-').unwrap().1.parse().unwrap()).collect();
    assert!(seqs[0] < seqs[1] && seqs[1] < seqs[2], "{seqs:?}");
    drop(server);
}

#[test]
fn whoever_listens_knows_what_is_capped_over_crashes_and_a_broker_that_is_away() {
    const USERS: usize = 30;
    let mut broker = Broker::start();
    make_topic(&broker, OUTPUT, 2);
    let site = site(&broker, &[]);
    let mut listener = Listener::new(&broker);
    let events = |first: usize| {
        let event = |n: usize| json!({"user": format!("u{}", n * 7 % USERS), "da": (n * 13 % 11).to_string()});
        json!((first..first + 150).map(event).collect::<Vec<_>>())
    };
    for round in 0..3 {
        let server = site.start();
        server.count(&events(round * 150));
        server.kill();
    }
    broker.kill();
    let server = site.start();
    server.count(&events(450));
    server.put_rule("tight", &json!({"key": "da:3", "limit": 1, "window": "1d"}));
    broker.start_again();
    listener.hear("the topic to tell what is capped", |told| (capped(told) == truth(&server, USERS)).then_some(()));
    assert!(!truth(&server, USERS).is_empty());
    wait_for("the changes that were told to be dropped", || {
        (server.metric("freqcap_kafka_output_waiting") == 0.0).then_some(())
    });
    // A run without the output: its changes are told by what is capped afterwards.
    drop(server);
    let mut quiet = Site { dir: site.dir, flags: ["--limit", "2"].map(str::to_owned).to_vec() };
    let server = quiet.start();
    server.count(&events(600));
    drop(server);
    let brokers = broker.bootstrap();
    quiet.flags.extend(["--kafka-brokers", &brokers, "--kafka-output", OUTPUT].map(str::to_owned));
    let server = quiet.start();
    listener.hear("the topic to tell it again", |told| {
        let (told, truth) = (capped(told), truth(&server, USERS));
        truth.iter().all(|(key, until)| told.get(key) == Some(until)).then_some(())
    });
}
