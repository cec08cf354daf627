//! What cannot be used: sent to the topic of dead letters and waited for, or counted and logged.

use super::client::{config, log, make};
use super::seldom::Seldom;
use super::{KafkaError, Options};
use metrics::counter;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A record that could not be used.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub partition: u32,
    pub offset: u64,
    /// The chunk that waits for it.
    pub chunk: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub code: &'static str,
    pub detail: String,
}

/// From so many letters on their way on, nothing more is read.
const LETTERS_MAX: usize = 5_000;
/// Or from so many bytes of them on.
const BYTES_MAX: usize = 32 << 20;
/// How long a letter that was refused waits before it is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// A letter, and what kept it from being taken.
type Outcome = (Letter, Option<ClientError>);

/// What became of letters, told from within [`BaseProducer::poll`].
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Letter {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len) + self.key.as_ref().map_or(0, Vec::len)
    }

    /// With its headers it is larger than it was: then the headers alone must do.
    fn cut(&mut self) {
        self.value = None;
        self.key = None;
        self.detail.push_str(" (the record itself was too large to be sent)");
    }
}

fn is_too_large(error: &ClientError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

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

/// Where records go that cannot be used.
pub(super) struct DeadLetters {
    /// The topic read, for the headers.
    source: String,
    post: Option<Post>,
    lines: Seldom,
}

/// The way to the topic of dead letters.
struct Post {
    topic: String,
    producer: BaseProducer<Outcomes>,
    outcomes: Outcomes,
    waiting: VecDeque<Letter>,
    again_at: Option<Instant>,
    /// Not yet acknowledged, those waiting included.
    open: usize,
    open_bytes: usize,
}

impl DeadLetters {
    pub(super) fn new(options: &Options) -> Result<Self, KafkaError> {
        let post = options.dead_letters.as_ref().map(|topic| Post::new(options, topic)).transpose()?;
        Ok(Self { source: options.topic.clone(), post, lines: Seldom::default() })
    }

    /// Takes a letter; whether it must be waited for.
    pub(super) fn bury(&mut self, letter: Letter, now: Instant) -> bool {
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

    /// Whether there is a topic for them.
    pub(super) fn has_topic(&self) -> bool {
        self.post.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.post.as_ref().is_some_and(|post| post.open >= LETTERS_MAX || post.open_bytes >= BYTES_MAX)
    }

    /// Sends what waits, and tells `done` every letter that is acknowledged.
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
        // Nothing is given up: a topic that is away makes the reading wait.
        config.set("message.timeout.ms", "0").set("acks", "all");
        let outcomes = Outcomes::default();
        let producer = make(&config, outcomes.clone())?;
        let topic = topic.to_owned();
        Ok(Self { topic, producer, outcomes, waiting: VecDeque::new(), again_at: None, open: 0, open_bytes: 0 })
    }

    fn send(&mut self, source: &str, now: Instant, lines: &mut Seldom) {
        if self.again_at.is_some_and(|at| now < at) {
            return;
        }
        self.again_at = None;
        while let Some(letter) = self.waiting.pop_front() {
            let (key, value) = (letter.key.clone(), letter.value.clone());
            let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(letter));
            record.headers = Some(headers(source, &record.delivery_opaque));
            record.key = key.as_deref();
            record.payload = value.as_deref();
            if let Err((error, record)) = self.producer.send::<[u8], [u8]>(record) {
                let mut letter = *record.delivery_opaque;
                if is_too_large(&error) && letter.bytes() > 0 {
                    self.open_bytes = self.open_bytes.saturating_sub(letter.bytes());
                    letter.cut();
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

    fn put_back(&mut self, mut letter: Letter, error: &ClientError, now: Instant, lines: &mut Seldom) {
        if let Some(others) = lines.say(now) {
            let topic = &self.topic;
            tracing::warn!(topic, %error, others, "a dead letter was not taken; it is sent again");
        }
        if is_too_large(error) && letter.bytes() > 0 {
            self.open_bytes = self.open_bytes.saturating_sub(letter.bytes());
            letter.cut();
            return self.waiting.push_back(letter);
        }
        self.waiting.push_back(letter);
        self.again_at = Some(now + AGAIN);
    }
}

fn headers(source: &str, letter: &Letter) -> OwnedHeaders {
    let text = |key, value: &str| (key, value.to_owned());
    let all = [
        text("freqcap-reason", letter.code),
        text("freqcap-detail", &letter.detail),
        text("freqcap-topic", source),
        text("freqcap-partition", &letter.partition.to_string()),
        text("freqcap-offset", &letter.offset.to_string()),
    ];
    let insert = |headers: OwnedHeaders, (key, value): (&str, String)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    };
    all.into_iter().fold(OwnedHeaders::new(), insert)
}
