//! Dead letters: records that cannot be used. They are sent to a topic and acknowledged, or, without one, counted and
//! logged.

use super::client::{config, log, make};
use super::log_throttle::LogThrottle;
use super::{KafkaError, Options};
use metrics::counter;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A record that could not be used.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub partition: u32,
    pub offset: u64,
    /// The chunk that waits for the letter.
    pub chunk: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own timestamp, in ms; -1 if it has none.
    pub ts: i64,
    pub headers: Option<OwnedHeaders>,
    /// The batch that it was in was refused. It is sent alone, to find out which letter is the cause.
    alone: bool,
    /// The topic refuses its timestamp.
    timeless: bool,
    pub code: &'static str,
    pub detail: String,
}

/// With this many letters unacknowledged, reading stops.
const LETTERS_MAX: usize = 5_000;
/// With this many bytes of letters unacknowledged, reading stops.
const BYTES_MAX: usize = 32 << 20;
/// Delay before a refused letter is sent again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A letter, and the error if it was refused.
type Outcome = (Letter, Option<ClientError>);

/// The results of letters, collected from the callback in [`BaseProducer::poll`].
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Letter {
    /// The letter of a whole record, with what is wrong with it.
    pub(super) fn of(message: &BorrowedMessage<'_>, chunk: u64, code: &'static str, detail: String) -> Self {
        let mut letter = Self::unread((message.partition() as u32, message.offset() as u64), chunk, code, detail);
        letter.fill(message);
        letter
    }

    /// The letter of a record that is not in memory.
    pub(super) fn unread((partition, offset): (u32, u64), chunk: u64, code: &'static str, detail: String) -> Self {
        Self {
            partition,
            offset,
            chunk,
            key: None,
            value: None,
            ts: NO_TIME,
            headers: None,
            alone: false,
            timeless: false,
            code,
            detail,
        }
    }

    /// Copies key, value, timestamp and headers of the record.
    pub(super) fn fill(&mut self, message: &BorrowedMessage<'_>) {
        self.key = message.key().map(<[u8]>::to_vec);
        self.value = message.payload().map(<[u8]>::to_vec);
        self.ts = message.timestamp().to_millis().unwrap_or(NO_TIME);
        self.headers = message.headers().map(BorrowedHeaders::detach);
    }

    /// Whether it can be sent with its own timestamp: a zero would mean the current time.
    fn has_time(&self) -> bool {
        self.ts > 0 && !self.timeless
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter().flat_map(OwnedHeaders::iter);
        let headers: usize = headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum();
        self.value.as_ref().map_or(0, Vec::len) + self.key.as_ref().map_or(0, Vec::len) + headers
    }

    /// Drops key and value: with our headers the record is larger than the topic allows.
    fn cut(&mut self) {
        (self.value, self.key, self.headers) = (None, None, None);
        self.detail.push_str(" (the record itself was too large to be sent)");
    }

    /// Drops what the topic refuses every time, or sends the letter alone to find out what that is. Returns whether
    /// anything changed.
    fn leave_out_what_is_refused(&mut self, error: &ClientError) -> bool {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) if self.bytes() > 0 => self.cut(),
            Some(RDKafkaErrorCode::InvalidTimestamp | RDKafkaErrorCode::InvalidRecord) if !self.alone => {
                self.alone = true;
            }
            Some(RDKafkaErrorCode::InvalidTimestamp) if !self.timeless => {
                self.timeless = true;
                self.detail.push_str(" (the topic of dead letters does not take the record's time)");
            }
            // A compacted topic refuses records without a key.
            Some(RDKafkaErrorCode::InvalidRecord) if self.key.is_none() => {
                self.key = Some(format!("{}-{}", self.partition, self.offset).into_bytes());
            }
            _ => return false,
        }
        true
    }
}

/// Kafka's timestamp for "none".
const NO_TIME: i64 = -1;

impl ClientContext for Outcomes {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = Box<Letter>;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: Box<Letter>) {
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((*letter, error));
    }
}

/// The dead letters of one puller.
pub(super) struct DeadLetters {
    /// The topic that is read, for the headers.
    source: String,
    post: Option<Post>,
    lines: LogThrottle,
}

/// The producer to the topic of dead letters.
struct Post {
    topic: String,
    producer: BaseProducer<Outcomes>,
    outcomes: Outcomes,
    waiting: VecDeque<Letter>,
    again_at: Option<Instant>,
    /// Whether the letters under way have a timestamp.
    sends_timed: bool,
    /// Whether the letter under way is alone in its batch.
    sends_alone: bool,
    /// Letters not acknowledged yet, including those that wait.
    open: usize,
    open_bytes: usize,
}

impl DeadLetters {
    pub(super) fn new(options: &Options) -> Result<Self, KafkaError> {
        let post = options.dead_letters.as_ref().map(|topic| Post::new(options, topic)).transpose()?;
        Ok(Self { source: options.topic.clone(), post, lines: LogThrottle::default() })
    }

    /// Takes a letter. Returns whether its chunk must wait for it.
    pub(super) fn put(&mut self, letter: Letter, now: Instant) -> bool {
        counter!("freqcap_kafka_dead_letters_total", "reason" => letter.code).increment(1);
        if let Some(others) = self.lines.say(now) {
            let Letter { partition, offset, code, detail, .. } = &letter;
            let topic = &self.source;
            tracing::warn!(topic, partition, offset, code, detail, others, "a record cannot be used");
        }
        let Some(post) = &mut self.post else { return false };
        post.open += 1;
        post.open_bytes += letter.bytes();
        post.waiting.push_back(letter);
        true
    }

    /// Whether there is a topic of dead letters.
    pub(super) fn has_topic(&self) -> bool {
        self.post.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.post.as_ref().is_some_and(|post| post.open >= LETTERS_MAX || post.open_bytes >= BYTES_MAX)
    }

    /// Sends the letters that wait, and calls `done` for each that is acknowledged.
    pub(super) fn drive(&mut self, now: Instant, mut done: impl FnMut(&Letter)) {
        let Some(post) = self.post.as_mut().filter(|post| post.open > 0) else { return };
        post.send(&self.source, now, &mut self.lines);
        post.producer.poll(Duration::ZERO);
        let outcomes = std::mem::take(&mut *post.outcomes.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (letter, error) in outcomes {
            match error {
                None => {
                    post.open -= 1;
                    post.open_bytes = post.open_bytes.saturating_sub(letter.bytes());
                    done(&letter);
                }
                Some(error) => post.put_back(letter, &error, now, &mut self.lines),
            }
        }
    }
}

impl Post {
    fn new(options: &Options, topic: &str) -> Result<Self, KafkaError> {
        let mut config = config(&options.cluster, &[("linger.ms", "5"), ("queue.buffering.max.kbytes", "32768")]);
        // No letter is given up: while the topic is away, reading waits.
        config.set("message.timeout.ms", "0").set("acks", "all");
        let outcomes = Outcomes::default();
        let producer = make(&config, outcomes.clone())?;
        let topic = topic.to_owned();
        Ok(Self {
            topic,
            producer,
            outcomes,
            waiting: VecDeque::new(),
            again_at: None,
            sends_timed: true,
            sends_alone: false,
            open: 0,
            open_bytes: 0,
        })
    }

    fn send(&mut self, source: &str, now: Instant, lines: &mut LogThrottle) {
        if self.again_at.is_some_and(|at| now < at) {
            return;
        }
        self.again_at = None;
        while let Some(letter) = self.waiting.pop_front() {
            // In a batch whose first record has no timestamp, none has one. So letters with and without go in separate
            // batches.
            if self.producer.in_flight_count() == 0 {
                (self.sends_timed, self.sends_alone) = (letter.has_time(), letter.alone);
            } else if self.sends_alone || letter.alone || self.sends_timed != letter.has_time() {
                return self.waiting.push_front(letter);
            }
            let (key, value) = (letter.key.clone(), letter.value.clone());
            let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(letter));
            record.headers = Some(headers(source, &record.delivery_opaque));
            // Sent back to the first topic, it must count as it would have.
            let letter = &record.delivery_opaque;
            record.timestamp = Some(if letter.has_time() { letter.ts } else { NO_TIME });
            record.key = key.as_deref();
            record.payload = value.as_deref();
            if let Err((error, record)) = self.producer.send::<[u8], [u8]>(record) {
                let mut letter = *record.delivery_opaque;
                if self.leave_out(&mut letter, &error) {
                    self.waiting.push_front(letter);
                    continue;
                }
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                    self.waiting.push_front(letter);
                    return;
                }
                return self.put_back(letter, &error, now, lines);
            }
        }
    }

    fn leave_out(&mut self, letter: &mut Letter, error: &ClientError) -> bool {
        let before = letter.bytes();
        let left_out = letter.leave_out_what_is_refused(error);
        self.open_bytes = (self.open_bytes + letter.bytes()).saturating_sub(before);
        left_out
    }

    fn put_back(&mut self, mut letter: Letter, error: &ClientError, now: Instant, lines: &mut LogThrottle) {
        if let Some(others) = lines.say(now) {
            let topic = &self.topic;
            tracing::warn!(topic, %error, others, "a dead letter was not taken; it is sent again");
        }
        if self.leave_out(&mut letter, error) {
            return self.waiting.push_back(letter);
        }
        self.waiting.push_back(letter);
        self.again_at = Some(now + RETRY_DELAY);
    }
}

/// The headers of the record, and ours. A letter that was sent back and failed again gets only the new ones.
fn headers(source: &str, letter: &Letter) -> OwnedHeaders {
    let ours = [
        ("freqcap-reason", letter.code.to_owned()),
        ("freqcap-detail", letter.detail.clone()),
        ("freqcap-topic", source.to_owned()),
        ("freqcap-partition", letter.partition.to_string()),
        ("freqcap-offset", letter.offset.to_string()),
        ("freqcap-timestamp", letter.ts.to_string()),
    ];
    let mut headers = OwnedHeaders::new();
    for header in letter.headers.iter().flat_map(OwnedHeaders::iter) {
        if !ours.iter().any(|(key, _)| *key == header.key) {
            headers = headers.insert(Header { key: header.key, value: header.value });
        }
    }
    for (key, value) in &ours {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}
