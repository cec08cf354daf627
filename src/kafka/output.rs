//! The output: every change of a cap goes to a topic, at least once, in order for each user.
//!
//! It reads the change log as the mirror does. But a record has what the change says, not the state of now. At its
//! first start, and if changes are gone that it has not sent (it was away for too long, or they were not kept), it
//! sends everything that is capped first.
//!
//! A record's key is the user, its value `{"user":..,"key":..,"change":"capped|extended|shortened|ended",
//! "capped_until":MS|null,"at":MS|null}`, and its header `freqcap-seq` the shard and the sequence there (`240-17`): of two
//! records of a user the one with the higher sequence is the later, and one that comes twice is the same.

use super::client::{config, log, make};
use super::log_throttle::LogThrottle;
use super::{KafkaError, OutputOptions, RunningOutput};
use crate::model::{CapChange, SHARDS, ShardId, TsMs};
use crate::store::{Bounds, ChangeCursor, Store, StoreError, Taken};
use crate::telemetry::unit_labels;
use metrics::{Counter, Gauge, counter, gauge};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use serde::Serialize;
use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Maximum records sent before their acknowledgements are awaited.
const BATCH: usize = 10_000;
/// How often the position is stored and changes are acknowledged in the change log.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before a refused batch is sent again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Time for the last changes at the end.
const FINISH: Duration = Duration::from_secs(2);
/// With more changes waiting, they are dropped and all caps are sent instead.
const WAITING_MAX: u64 = 5_000_000;

/// The last delivery error.
#[derive(Clone, Default)]
struct Deliveries {
    failed: Arc<Mutex<Option<ClientError>>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }
}

/// A record's value.
#[derive(Serialize)]
struct Told<'a> {
    user: &'a str,
    key: &'a str,
    change: CapChange,
    capped_until: Option<TsMs>,
    /// When the change was made; null if that is not known.
    at: Option<TsMs>,
}

struct Output {
    /// One at least.
    units: Vec<UnitOutput>,
    sender: Sender,
    kept_at: Instant,
    trouble: LogThrottle,
}

/// How far one unit was told.
struct UnitOutput {
    store: Arc<Store>,
    changes: ChangeCursor,
    /// By shard, the sequence of the last change sent.
    told: Box<Taken>,
    /// All caps must be sent before changes.
    must_send_all: bool,
    kept: Option<Box<Taken>>,
    waiting: Gauge,
}

/// Sends records, of all units.
struct Sender {
    options: OutputOptions,
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    stop: CancellationToken,
    /// When to give up, once it is stopping.
    until: Cell<Option<Instant>>,
    sent: Counter,
}

/// Why a batch was not sent.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the service stops")]
    Stopping,
    #[error("Kafka does not take it: {0}")]
    Client(ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts the output of the changes in these stores, one at least. Its own thread waits for brokers that are away.
pub fn start_output(options: OutputOptions, stores: Vec<Arc<Store>>) -> Result<RunningOutput, KafkaError> {
    super::status::describe();
    let mut config = config(&options.cluster, &[("linger.ms", "5"), ("queue.buffering.max.kbytes", "32768")]);
    // In order for each user and without gaps, whatever brokers do. What times out is sent again by us.
    config.set("enable.idempotence", "true").set("message.timeout.ms", "10000").set("partitioner", "murmur2_random");
    let deliveries = Deliveries::default();
    let producer = make(&config, deliveries.clone())?;
    let alarm = stores[0].alarm().clone();
    let bounds = Bounds { total: WAITING_MAX / stores.len() as u64, of_shard: u64::MAX };
    let mut units = Vec::with_capacity(stores.len());
    for store in stores {
        units.push(UnitOutput::begin(store, &options.topic, bounds)?);
    }
    let (stop, signal) = (CancellationToken::new(), units[0].changes.signal());
    // One wait is for the changes of all.
    units[1..].iter().for_each(|unit| unit.changes.signal().pass_on_to(&signal));
    let sender = Sender {
        options,
        producer,
        deliveries,
        stop: stop.clone(),
        until: Cell::new(None),
        sent: counter!("freqcap_kafka_output_total"),
    };
    let output = Output { units, sender, kept_at: Instant::now(), trouble: LogThrottle::default() };
    let thread = std::thread::Builder::new().name("kafka-output".to_owned()).spawn(move || {
        let _watched = alarm.watch("kafka-output");
        output.run();
    });
    Ok(RunningOutput { stop, signal, thread: thread.map_err(|error| KafkaError::Client(error.to_string()))? })
}

impl Output {
    fn run(mut self) {
        while !self.sender.gives_up() {
            match self.step() {
                Ok(true) => {}
                Ok(false) if self.sender.is_stopping() => break,
                Ok(false) => self.units[0].changes.wait(CHECKPOINT_INTERVAL),
                Err(trouble) => {
                    if let Some(others) = self.trouble.say(Instant::now()) {
                        let topic = &self.sender.options.topic;
                        tracing::warn!(topic, %trouble, others, "changes of caps are not told; it is tried again");
                    }
                    let again = Instant::now() + RETRY_DELAY;
                    while Instant::now() < again && !self.sender.gives_up() && !self.sender.is_stopping() {
                        self.units[0].changes.wait(again.saturating_duration_since(Instant::now()));
                    }
                }
            }
        }
        // The next run sends it again.
        self.sender.producer.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = self.store_positions() {
            tracing::error!(%error, "how far the output topic was told is not stored: some is told again");
        }
    }

    /// Sends a batch of each unit. Returns whether there was anything to send, and so may be more.
    fn step(&mut self) -> Result<bool, Trouble> {
        let mut any = false;
        self.units.iter().for_each(UnitOutput::look);
        if self.kept_at.elapsed() >= CHECKPOINT_INTERVAL {
            self.store_positions()?;
        }
        for unit in &mut self.units {
            any |= unit.step(&self.sender)?;
        }
        Ok(any)
    }

    fn store_positions(&mut self) -> Result<(), StoreError> {
        self.kept_at = Instant::now();
        let topic = &self.sender.options.topic;
        self.units.iter_mut().map(|unit| unit.store_position(topic)).fold(Ok(()), Result::and)
    }
}

impl UnitOutput {
    fn begin(store: Arc<Store>, topic: &str, bounds: Bounds) -> Result<Self, StoreError> {
        let known = store.kafka_offsets().output_seqs(topic)?;
        let changes = store.changes().subscribe("kafka-output", bounds);
        let unit = Self {
            must_send_all: known.is_none(),
            told: known.unwrap_or_else(|| Box::new([0; SHARDS])),
            kept: None,
            changes,
            waiting: gauge!("freqcap_kafka_output_waiting", unit_labels(store.unit(), &[])),
            store,
        };
        unit.acknowledge();
        Ok(unit)
    }

    /// Says how many changes wait.
    fn look(&self) {
        let of_shard =
            |shard: ShardId| self.store.changes().durable_seq(shard).saturating_sub(self.told[shard.index()]);
        let waiting: u64 = self.store.shards().iter().map(of_shard).sum();
        self.waiting.set(waiting as f64);
        self.store.shards().iter().for_each(|shard| self.changes.advance(shard, self.told[shard.index()]));
    }

    fn step(&mut self, sender: &Sender) -> Result<bool, Trouble> {
        let lags = self.store.shards().iter().any(|shard| self.changes.trimmed_to(shard) > self.told[shard.index()]);
        if self.must_send_all || lags {
            // A full send that cannot finish is not begun.
            return if sender.is_stopping() { Ok(false) } else { self.send_all(sender) };
        }
        self.tell_changes(sender)
    }

    fn tell_changes(&mut self, sender: &Sender) -> Result<bool, Trouble> {
        let mut told = self.told.clone();
        let mut sent = 0;
        for shard in self
            .store
            .shards()
            .iter()
            .filter(|&shard| self.store.changes().durable_seq(shard) > self.told[shard.index()])
        {
            let changes = self.store.changes().after(shard, self.told[shard.index()], BATCH - sent)?;
            for change in &changes {
                if let Some((user, key)) = change.user_and_key() {
                    let (change, capped_until, at, seq) = (change.change, change.until, Some(change.at), change.seq);
                    sender.send(&Told { user, key: &key, change, capped_until, at }, shard, seq)?;
                }
                told[shard.index()] = change.seq;
            }
            sent += changes.len();
            if sent == BATCH {
                break;
            }
        }
        sender.acknowledged()?;
        self.told = told;
        sender.sent.increment(sent as u64);
        Ok(sent > 0)
    }

    /// Sends everything that is capped, then resumes with the changes from where that began. Returns whether it
    /// finished.
    fn send_all(&mut self, sender: &Sender) -> Result<bool, Trouble> {
        // Nothing is kept back meanwhile: a cap is either in it, or in a change after its beginning.
        let begin: Vec<u64> = ShardId::all().map(|shard| self.store.changes().durable_seq(shard)).collect();
        self.told.copy_from_slice(&begin);
        self.must_send_all = true;
        // Changes must not pile up while the topic refuses records. The stored position is older, so a start before the
        // end of this sends everything again.
        self.acknowledge();
        self.changes.log().trim()?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.caps().after(after.as_deref(), BATCH)?;
            for cap in &page.caps {
                let shard = ShardId::of_user(cap.user.as_bytes());
                let (user, key, capped_until) = (cap.user.as_str(), cap.key.as_str(), Some(cap.until));
                let told = Told { user, key, change: CapChange::Capped, capped_until, at: None };
                sender.send(&told, shard, begin[shard.index()])?;
            }
            sender.acknowledged()?;
            sender.sent.increment(page.caps.len() as u64);
            match page.next {
                Some(_) if sender.stop.is_cancelled() => return Ok(false),
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.must_send_all = false;
        self.store_position(&sender.options.topic)?;
        Ok(true)
    }

    /// Acknowledges the changes that were sent.
    fn acknowledge(&self) {
        for shard in self.store.shards().iter() {
            self.changes.advance(shard, self.told[shard.index()]);
            self.changes.ack(shard, self.told[shard.index()]);
        }
    }

    /// Stores the position, then acknowledges.
    fn store_position(&mut self, topic: &str) -> Result<(), StoreError> {
        if !self.must_send_all && self.kept.as_ref() != Some(&self.told) {
            // In this order: after a crash, the output resumes from the stored position and needs the changes above it.
            self.store.kafka_offsets().put_output_seqs(topic, &self.told)?;
            self.acknowledge();
            self.kept = Some(self.told.clone());
        }
        self.changes.log().trim()
    }
}

impl Sender {
    /// Whether it is stopping and its time is over.
    fn gives_up(&self) -> bool {
        if !self.is_stopping() && self.stop.is_cancelled() {
            self.until.set(Some(Instant::now() + FINISH));
        }
        self.until.get().is_some_and(|until| Instant::now() >= until)
    }

    fn is_stopping(&self) -> bool {
        self.until.get().is_some()
    }

    fn send(&self, told: &Told<'_>, shard: ShardId, seq: u64) -> Result<(), Trouble> {
        // Serializing plain structs to memory cannot fail.
        let value = serde_json::to_vec(told).unwrap_or_default();
        let seq = format!("{}-{seq}", shard.0);
        let headers = OwnedHeaders::new().insert(Header { key: "freqcap-seq", value: Some(&seq) });
        let mut record = BaseRecord::to(&self.options.topic).key(told.user).payload(&value).headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, again)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if self.gives_up() {
                        return Err(Trouble::Stopping);
                    }
                    self.producer.poll(Duration::from_millis(10));
                    record = again;
                }
                Err((error, _)) => return Err(Trouble::Client(error)),
            }
        }
    }

    /// Waits until everything sent is acknowledged, or one record is refused.
    fn acknowledged(&self) -> Result<(), Trouble> {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(10));
            if self.gives_up() {
                return Err(Trouble::Stopping);
            }
        }
        match self.deliveries.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(Trouble::Client(error)),
            None => Ok(()),
        }
    }
}
