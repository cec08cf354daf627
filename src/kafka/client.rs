//! Clients of librdkafka.

use super::{Cluster, KafkaError, Options};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Timeout of one request to the brokers. Short, since a thread that waits cannot stop.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What librdkafka reports in the background.
#[derive(Clone, Default)]
pub(crate) struct Context {
    trouble: Arc<Mutex<String>>,
}

impl Context {
    /// The last error in librdkafka's words, which say more than the error of a call ("timed out").
    pub(crate) fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forwards librdkafka's log. That the brokers are away is logged once, elsewhere.
pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!("librdkafka: {fac}: {message}");
        }
        _ => tracing::debug!("librdkafka: {fac}: {message}"),
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AllBrokersDown))
        {
            return;
        }
        tracing::debug!("librdkafka: {error}: {reason}");
        reason.clone_into(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for Context {}

pub(super) type Consumer = BaseConsumer<Context>;

/// The configuration of every client: `defaults`, overridden by `--kafka-set`.
pub(crate) fn config(cluster: &Cluster, defaults: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    let common = [("client.id", "freqcap"), ("log.connection.close", "false"), ("reconnect.backoff.max.ms", "1000")];
    let settings = common.into_iter().chain(defaults.iter().copied()).chain(cluster.settings.iter());
    settings.for_each(|(key, value)| {
        config.set(key, value);
    });
    config.set("bootstrap.servers", &cluster.brokers);
    config
}

pub(crate) fn make<C: FromClientConfigAndContext<T>, T: ClientContext>(
    config: &ClientConfig,
    context: T,
) -> Result<C, KafkaError> {
    C::from_config_and_context(config, context).map_err(|error| match error {
        // The error's text would repeat the value, which may be a password.
        ClientError::ClientConfig(_, _, key, _) => KafkaError::Setting { key },
        other => KafkaError::Client(other.to_string()),
    })
}

/// A consumer that reads what it is assigned, from where it is told. It never chooses an offset itself.
pub(super) fn consumer(options: &Options) -> Result<Consumer, KafkaError> {
    // The read-ahead of all consumers together. A record takes some hundred bytes on top of its own, and compressed
    // ones grow when they are unpacked.
    let consumers = options.consumers.max(1);
    let queued_kib = ((16 << 10) / consumers).to_string();
    let queued = (40_000 / consumers).to_string();
    let fetched = ((8 << 20) / consumers).to_string();
    let mut config = config(
        &options.cluster,
        &[
            ("queued.max.messages.kbytes", &queued_kib),
            ("queued.min.messages", &queued),
            ("fetch.max.bytes", &fetched),
            ("fetch.message.max.bytes", "1048576"),
            // How soon fetching resumes once the queue has room. The default is a second.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "200"),
            ("fetch.error.backoff.ms", "200"),
            ("topic.metadata.refresh.interval.ms", "5000"),
        ],
    );
    config
        .set("group.id", &options.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // An offset out of range is handled by the puller.
        .set("auto.offset.reset", "error");
    make(&config, Context::default())
}

/// A consumer that is asked where partitions end, with what belongs to transactions that are open. It reads nothing.
pub(super) fn end_asker(options: &Options) -> Result<Consumer, KafkaError> {
    let mut config = config(&options.cluster, &[]);
    config
        .set("group.id", &options.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted");
    make(&config, Context::default())
}

/// Assigns a partition from an offset on, or unassigns it.
pub(super) fn assign(consumer: &Consumer, topic: &str, partition: u32, from: Option<u64>) -> KafkaResult<()> {
    let mut which = TopicPartitionList::with_capacity(1);
    which.add_partition(topic, partition as i32);
    if consumer.assignment()?.find_partition(topic, partition as i32).is_some() {
        consumer.incremental_unassign(&which)?;
    }
    if let Some(from) = from {
        which.set_partition_offset(topic, partition as i32, Offset::Offset(from as i64))?;
        consumer.incremental_assign(&which)?;
    }
    Ok(())
}
