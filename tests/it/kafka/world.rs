//! A broker, a topic, and a freqcap that reads it.

use crate::support::kafka_broker::Broker;
use crate::support::{Server, Site, wait_for};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

pub const TOPIC: &str = "impressions";

/// A record to send.
pub struct Record {
    pub key: String,
    pub value: Option<String>,
    /// Kafka's choice by the key, unless it is given.
    pub partition: Option<i32>,
    /// In ms; now, unless it is given. -1 is none.
    pub ts: Option<i64>,
    pub headers: Vec<(String, Option<String>)>,
}

pub fn record(key: impl Into<String>, value: impl Into<String>) -> Record {
    Record { key: key.into(), value: Some(value.into()), partition: None, ts: None, headers: Vec::new() }
}

pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    // As Kafka's own producer spreads them, and as freqcap's shards are cut.
    config.set("partitioner", "murmur2_random");
    config
}

fn admin<T>(broker: &Broker, what: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client: AdminClient<_> = config(broker).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    runtime.block_on(what(&client, &options))
}

/// Makes a topic; one that is still being deleted is waited for.
pub fn make_topic(broker: &Broker, name: &str, partitions: i32) {
    make_topic_with(broker, name, partitions, &[]);
}

/// As [`make_topic`], with settings of its own.
pub fn make_topic_with(broker: &Broker, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    wait_for("a topic to be made", || {
        let made = admin(broker, async |client, options| {
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
            let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
            client.create_topics(&[topic], options).await
        });
        made.unwrap().into_iter().all(|result| result.is_ok()).then_some(())
    });
}

pub fn delete_topic(broker: &Broker, name: &str) {
    let done = admin(broker, async |client, options| client.delete_topics(&[name], options).await);
    done.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
}

pub fn add_partitions(broker: &Broker, name: &str, partitions: usize) {
    let done = admin(broker, async |client, options| {
        client.create_partitions(&[NewPartitions::new(name, partitions)], options).await
    });
    done.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
}

/// Deletes what lies before an offset, as retention does.
pub fn delete_records(broker: &Broker, name: &str, partition: i32, before: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(name, partition, Offset::Offset(before)).unwrap();
    admin(broker, async |client, options| client.delete_records(&offsets, options).await.map(drop)).unwrap();
}

/// Sends records, and returns once the broker has them.
pub fn produce(broker: &Broker, topic: &str, records: impl IntoIterator<Item = Record>) {
    let producer: BaseProducer = config(broker).set("linger.ms", "5").create().unwrap();
    send(&producer, topic, records);
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// As [`produce`], in a transaction that is committed or aborted.
pub fn transact(broker: &Broker, topic: &str, commit: bool, records: impl IntoIterator<Item = Record>) {
    transact_later(broker, topic, commit, records, || ());
}

/// As [`transact`]; `meanwhile` runs once the broker has the records, before the end of the transaction.
pub fn transact_later(
    broker: &Broker,
    topic: &str,
    commit: bool,
    records: impl IntoIterator<Item = Record>,
    meanwhile: impl FnOnce(),
) {
    let producer: BaseProducer = config(broker).set("transactional.id", "test").create().unwrap();
    let timeout = Duration::from_secs(30);
    producer.init_transactions(timeout).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, topic, records);
    producer.flush(timeout).unwrap();
    meanwhile();
    if commit { producer.commit_transaction(timeout) } else { producer.abort_transaction(timeout) }.unwrap();
}

fn send(producer: &BaseProducer, topic: &str, records: impl IntoIterator<Item = Record>) {
    for Record { key, value, partition, ts, headers } in records {
        let mut next = BaseRecord::<str, str>::to(topic).key(&key);
        if let Some(value) = &value {
            next = next.payload(value);
        }
        if let Some(partition) = partition {
            next = next.partition(partition);
        }
        next.timestamp = ts;
        if !headers.is_empty() {
            let insert = |all: OwnedHeaders, (key, value): &(String, Option<String>)| {
                all.insert(Header { key, value: value.as_deref() })
            };
            next.headers = Some(headers.iter().fold(OwnedHeaders::new(), insert));
        }
        let mut unsent = producer.send(next);
        while let Err((_, again)) = unsent {
            producer.poll(Duration::from_millis(5));
            unsent = producer.send(again);
        }
    }
}

/// A data directory for a freqcap that reads the topic from its beginning.
pub fn site(broker: &Broker, flags: &[&str]) -> Site {
    let brokers = broker.bootstrap();
    let kafka = ["--kafka-brokers", &brokers, "--kafka-topic", TOPIC, "--kafka-from", "earliest"];
    Site::new(&[&kafka[..], flags].concat())
}

/// Waits until everything that the topic held when the server started is counted.
pub fn caught_up(server: &Server) {
    wait_for("the back-fill", || (server.get("/readyz?kafka").0 == 200).then_some(()));
}

/// Waits until so many events were taken by this process.
pub fn counted(server: &Server, events: usize) {
    wait_for(&format!("{events} events"), || {
        (server.metric("freqcap_events_total{result=\"counted\"}") >= events as f64).then_some(())
    });
}

/// Waits for a line of the log.
pub fn logged(server: &Server, what: &str) -> String {
    wait_for(what, || server.log.try_iter().find(|line| line.contains(what)))
}
