//! Clients of librdkafka.

use super::{Cluster, KafkaError, Options};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the brokers are given to answer one question: short, for whoever asks must also notice that it is to stop.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What clients tell us.
#[derive(Clone, Default)]
pub(super) struct Context {
    trouble: Arc<Mutex<String>>,
    commits: Arc<AtomicUsize>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Context {
    /// The last that went wrong, in librdkafka's words: it knows more than the error of a call ("timed out").
    pub(super) fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last commit was refused, if it was.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commits answered so far.
    pub(super) fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }
}

/// Passes on what librdkafka logs. A broker that is away is told by us, once.
pub(super) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
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

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let refused = result.err().map(|error| error.to_string());
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        self.commits.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) type Consumer = BaseConsumer<Context>;

/// What every client is set up with: `defaults`, unless `--kafka-set` says otherwise.
pub(super) fn config(cluster: &Cluster, defaults: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    let common = [("client.id", "freqcap"), ("log.connection.close", "false"), ("reconnect.backoff.max.ms", "1000")];
    let settings = common.into_iter().chain(defaults.iter().copied()).chain(cluster.settings.iter());
    settings.for_each(|(key, value)| {
        config.set(key, value);
    });
    config.set("bootstrap.servers", &cluster.brokers);
    config
}

pub(super) fn make<C: FromClientConfigAndContext<T>, T: ClientContext>(
    config: &ClientConfig,
    context: T,
) -> Result<C, KafkaError> {
    C::from_config_and_context(config, context).map_err(|error| match error {
        // Its text would repeat the value, which may be a password.
        ClientError::ClientConfig(_, _, key, _) => KafkaError::Setting { key },
        other => KafkaError::Client(other.to_string()),
    })
}

/// A consumer that is told what to read and from where. It never decides so itself.
pub(super) fn consumer(options: &Options) -> Result<Consumer, KafkaError> {
    // Read ahead, by all consumers together. A record takes some hundred bytes beside its own, and what comes compressed
    // is several times as much unpacked.
    let share = |all: usize| (all / options.consumers.max(1)).to_string();
    let (queued_kib, queued, fetched) = (share(16 << 10), share(40_000), share(8 << 20));
    let mut config = config(
        &options.cluster,
        &[
            ("queued.max.messages.kbytes", &queued_kib),
            ("queued.min.messages", &queued),
            ("fetch.max.bytes", &fetched),
            ("fetch.message.max.bytes", "1048576"),
            // How soon reading goes on once the queue has room again; by default after a second.
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
        // An offset that is not there is looked into by us.
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

/// Reads a partition from an offset on, or no longer.
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
