//! A thread that reads some of the partitions.

use super::aside::{READ_FOR, set_aside};
use super::client::{Consumer, REQUEST_TIMEOUT, assign};
use super::dead_letters::DeadLetters;
use super::log_throttle::LogThrottle;
use super::options::OnChange;
use super::partition::{Partition, Phase, Taking};
use super::resume::{ResumeFrom, resume_from};
use super::status::{Handle, State};
use super::witness::Witness;
use super::{KafkaError, Options, Parts};
use crate::store::{Frontier, PulledPartition};
use crossbeam_channel::Receiver;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Maximum records, and bytes of values, of one round of reading.
const PULL_RECORDS: usize = 8_192;
const PULL_BYTES: usize = 8 << 20;
/// How often frontiers are stored.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before a partition's offsets are asked for again.
const REFETCH_DELAY: Duration = Duration::from_millis(500);
/// Time budget of one round for asking for offsets.
const REFETCH_BUDGET: Duration = Duration::from_millis(100);
/// How long what was read may take to become durable once the adapter stops.
const FINISH: Duration = Duration::from_secs(3);

/// A change of a partition that a puller reads.
pub(super) enum Command {
    /// The puller is to read it.
    Read(u32, PulledPartition),
    /// The partition was deleted.
    Gone(u32),
    /// The partition was deleted and made again.
    Back(u32),
}

pub(super) struct Puller {
    options: Options,
    parts: Parts,
    consumer: Consumer,
    /// Asks for offsets. On the connections of `consumer` an answer would wait for the fetch under way.
    asker: Consumer,
    /// Changes of partitions.
    commands: Receiver<Command>,
    partitions: BTreeMap<u32, Partition>,
    dead: DeadLetters,
    /// The partition whose records were set aside first last time; the next call begins after it.
    aside_first: u32,
    status: Handle,
    stop: CancellationToken,
    stored_at: Instant,
    witness: Witness,
    /// How many revalidations of the topic this puller has done.
    revalidations: u64,
    refusals: LogThrottle,
    errors: LogThrottle,
}

impl Puller {
    pub(super) fn new(
        options: &Options,
        parts: &Parts,
        consumer: Consumer,
        commands: Receiver<Command>,
        status: Handle,
        stop: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let now = Instant::now();
        Ok(Self {
            options: options.clone(),
            parts: parts.clone(),
            consumer,
            asker: super::client::consumer(options)?,
            commands,
            partitions: BTreeMap::new(),
            dead: DeadLetters::new(options)?,
            aside_first: 0,
            status,
            stop,
            stored_at: now,
            witness: Witness::default(),
            revalidations: 0,
            refusals: LogThrottle::default(),
            errors: LogThrottle::default(),
        })
    }

    pub(super) fn run(mut self) -> Result<(), KafkaError> {
        while !self.stop.is_cancelled() {
            for command in self.commands.try_iter().collect::<Vec<_>>() {
                self.handle(command);
            }
            if self.revalidations != self.status.revalidations() {
                self.revalidations = self.status.revalidations();
                self.revalidate();
            }
            let refused = self.drive();
            self.witness.ask(&self.options, self.partitions.keys().copied(), &self.parts.clock);
            self.begin()?;
            self.step();
            self.store_frontiers(CHECKPOINT_INTERVAL)?;
            let events: usize = self.partitions.values().map(Partition::events).sum();
            if refused {
                std::thread::park_timeout(Duration::from_millis(20));
            } else if events >= self.options.in_flight / self.options.consumers.max(1) || self.dead.is_full() {
                std::thread::park_timeout(Duration::from_micros(500));
            } else {
                self.pull()?;
            }
        }
        self.finish()
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Read(number, known) => {
                let partition = Partition::new(&self.parts.router, &self.options.topic, number, known);
                self.partitions.insert(number, partition);
            }
            Command::Gone(number) => {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.phase = Phase::Stopped;
                    let _ = assign(&self.consumer, &self.options.topic, number, None);
                }
            }
            Command::Back(number) => {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.phase = Phase::Changed("it was gone, and is there again".to_owned());
                }
            }
        }
    }

    /// Records what is durable and sends what waits. Returns whether the writers refused a batch.
    fn drive(&mut self) -> bool {
        let now = Instant::now();
        let partitions = &mut self.partitions;
        self.dead.drive(now, |letter| {
            if let Some(partition) = partitions.get_mut(&letter.partition) {
                partition.letter_acknowledged(letter.chunk, letter.offset);
            }
        });
        let mut refused = None;
        for partition in partitions.values_mut() {
            refused = refused.or(partition.drive());
        }
        self.set_aside(now);
        for partition in self.partitions.values_mut() {
            partition.report(&self.status);
        }
        if let Some(why) = refused
            && let Some(others) = self.refusals.say(now)
        {
            tracing::debug!(%why, others, "reading waits for the writers");
        }
        refused.is_some()
    }

    /// Sets aside records that the writers could not count, partition by partition.
    fn set_aside(&mut self, now: Instant) {
        let until = Instant::now() + READ_FOR;
        let numbers = self.partitions.iter().filter(|(_, it)| !it.left_out.is_empty()).map(|(number, _)| *number);
        let mut numbers: Vec<u32> = numbers.collect();
        let later = numbers.partition_point(|number| *number <= self.aside_first);
        numbers.rotate_left(later);
        self.aside_first = numbers.first().copied().unwrap_or(self.aside_first);
        for number in numbers {
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            if let Err(error) = set_aside(&self.asker, &self.options.topic, partition, &mut self.dead, until)
                && let Some(others) = self.errors.say(now)
            {
                tracing::warn!(%error, others, "a record that is to be set aside cannot be read; it is read again");
            }
        }
    }

    /// Finds where to begin, for partitions that have nothing under way and need it.
    fn begin(&mut self) -> Result<(), KafkaError> {
        let now = Instant::now();
        for partition in self.partitions.values_mut().filter(|partition| partition.in_flight.is_empty()) {
            // The others in the next round: records already read must not wait.
            if self.stop.is_cancelled() || now.elapsed() >= REFETCH_BUDGET {
                break;
            }
            if let Phase::Changed(why) = &partition.phase {
                let why = why.clone();
                let (topic, number) = (&self.options.topic, partition.number());
                match self.options.on_change {
                    OnChange::Stop => {
                        tracing::error!(
                            code = "kafka_topic_changed",
                            topic,
                            partition = number,
                            why,
                            "the topic is not the one that was read before: this partition is left alone; \
                             --kafka-on-change earliest reads it from its beginning"
                        );
                        partition.phase = Phase::Stopped;
                        self.status.state(number, State::Stopped);
                        let _ = assign(&self.consumer, topic, number, None);
                    }
                    OnChange::Earliest => {
                        if partition.ask_at.is_some_and(|at| now < at) {
                            continue;
                        }
                        let landmark = match partition.landmarks.last_there(&self.asker, (topic, number)) {
                            Ok(landmark) => landmark,
                            Err(error) => {
                                partition.ask_at = Some(Instant::now() + REFETCH_DELAY);
                                if let Some(others) = self.errors.say(now) {
                                    tracing::info!(partition = number, %error, others, "Kafka does not say what it has");
                                }
                                continue;
                            }
                        };
                        let (frontier, counts) = partition.forget(landmark);
                        warn_of_change(topic, number, &why, landmark.is_some(), frontier.next);
                        self.parts.offsets.reset(topic, number, &frontier, counts)?;
                        self.status.reset(number);
                        partition.begin(frontier, Phase::Ask);
                        // What is missing at the beginning of a new topic is not a loss.
                        partition.stored = Some(frontier);
                    }
                }
            }
            if partition.phase != Phase::Ask || partition.ask_at.is_some_and(|at| now < at) {
                continue;
            }
            partition.ask_at = None;
            let clients = (&self.asker, &self.consumer);
            if let Err(error) = begin(clients, &self.options.topic, partition, &self.status) {
                partition.ask_at = Some(Instant::now() + REFETCH_DELAY);
                if let Some(others) = self.errors.say(now) {
                    tracing::info!(partition = partition.number(), %error, others, "Kafka does not say what it has");
                }
            }
        }
        Ok(())
    }

    /// Makes partitions step over offsets without records at their end.
    fn step(&mut self) {
        let now = Instant::now();
        for partition in self.partitions.values_mut() {
            let number = partition.number();
            if let Some(from) = partition.step_from(self.status.end_of(number), now)
                && let Err(error) = assign(&self.consumer, &self.options.topic, number, Some(from))
            {
                tracing::debug!(partition = number, %error, "cannot be read again from its last record on");
                partition.phase = Phase::Ask;
                partition.ask_at = Some(now + REFETCH_DELAY);
            }
        }
    }

    /// Stores the frontiers that changed, if it is time.
    fn store_frontiers(&mut self, every: Duration) -> Result<(), KafkaError> {
        if self.stored_at.elapsed() < every {
            return Ok(());
        }
        self.stored_at = Instant::now();
        self.store_early()?;
        let changed = self.partitions.values_mut().filter_map(|partition| {
            let frontier = partition.in_flight.frontier();
            (partition.stored.replace(frontier) != Some(frontier)).then(|| (partition.number(), frontier))
        });
        let changed: Vec<_> = changed.collect();
        match self.parts.offsets.put_frontiers(&self.options.topic, &changed) {
            // The process asks to be restarted. Reading stops, reads go on.
            Err(_) if self.parts.offsets.are_poisoned() => return Ok(()),
            result => result?,
        }
        // After the frontiers: what was set aside may be above the frontier stored before.
        for partition in self.partitions.values_mut() {
            let (offsets, topic) = (&self.parts.offsets, &self.options.topic);
            let stored =
                partition.forget_left_out(offsets, topic).and_then(|()| partition.store_landmarks(offsets, topic));
            match stored {
                Err(_) if self.parts.offsets.are_poisoned() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Reads available records, within the limits of one round.
    fn pull(&mut self) -> Result<(), KafkaError> {
        let busy = self.partitions.values().any(|partition| !partition.in_flight.is_empty());
        let mut wait = Duration::from_millis(if busy { 2 } else { 50 });
        let (mut records, mut bytes) = (0, 0);
        let mut with = Taking {
            router: &self.parts.router,
            reader: &self.parts.events,
            clock: &self.parts.clock,
            witness: &self.witness,
            dead: &mut self.dead,
            now: Instant::now(),
        };
        let mut trouble = None;
        while records < PULL_RECORDS && bytes < PULL_BYTES {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    records += 1;
                    bytes += message.payload_len();
                    if let Some(partition) = self.partitions.get_mut(&(message.partition() as u32)) {
                        partition.take(&message, &mut with);
                    }
                    if with.dead.is_full() {
                        break;
                    }
                }
                Some(Err(ClientError::PartitionEOF(number))) => {
                    if let Some(partition) = self.partitions.get_mut(&(number as u32)) {
                        partition.reached_end(with.now);
                    }
                }
                Some(Err(error)) => {
                    trouble = Some(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        // Before a writer's mark covers them.
        self.store_early()?;
        for partition in self.partitions.values_mut() {
            partition.cut(&self.status);
        }
        if let Some(error) = trouble {
            self.handle_error(&error);
        }
        Ok(())
    }

    fn store_early(&mut self) -> Result<(), KafkaError> {
        for partition in self.partitions.values_mut() {
            match partition.store_early(&self.parts.offsets, &self.options.topic) {
                Err(_) if self.parts.offsets.are_poisoned() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Logs an error. If the topic may have been made anew, revalidates.
    fn handle_error(&mut self, error: &ClientError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        if matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve)) {
            // The service logs once that the brokers are away.
            return;
        }
        if let Some(others) = self.errors.say(Instant::now()) {
            tracing::warn!(%error, others, "reading from Kafka");
        }
        let doubtful = [
            Code::AutoOffsetReset,
            Code::OffsetOutOfRange,
            Code::UnknownPartition,
            Code::UnknownTopic,
            Code::UnknownTopicId,
            Code::UnknownTopicOrPartition,
        ];
        if code.is_some_and(|code| doubtful.contains(&code)) {
            self.revalidate();
        }
    }

    /// Makes every partition ask for its offsets and check the record before.
    fn revalidate(&mut self) {
        for partition in self.partitions.values_mut() {
            if matches!(partition.phase, Phase::Read | Phase::Check(_)) {
                partition.phase = Phase::Ask;
                partition.ask_at = Some(Instant::now() + REFETCH_DELAY);
            }
        }
    }

    /// Waits for what was read to become durable, and stores the frontiers.
    fn finish(mut self) -> Result<(), KafkaError> {
        let until = Instant::now() + FINISH;
        while self.partitions.values().any(|partition| !partition.in_flight.is_empty()) && Instant::now() < until {
            // What is refused for good is read again after the next start.
            if self.drive() && self.parts.router.health().refusal().is_some() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.store_frontiers(Duration::ZERO)
    }
}

/// Tells that a partition is begun again.
fn warn_of_change(topic: &str, partition: u32, why: &str, is_cut: bool, from: u64) {
    let code = "kafka_topic_changed";
    if is_cut {
        tracing::warn!(
            code,
            topic,
            partition,
            why,
            from,
            "the topic's end was cut off: it is read again from the last record that is known to be in it still"
        );
    } else {
        tracing::warn!(
            code,
            topic,
            partition,
            why,
            "the topic is not the one that was read before: it is read from its beginning"
        );
    }
}

/// Asks for a partition's offsets and begins to read accordingly.
fn begin(
    (asker, consumer): (&Consumer, &Consumer),
    topic: &str,
    partition: &mut Partition,
    status: &Handle,
) -> KafkaResult<()> {
    let number = partition.number();
    let (low, end) = asker.fetch_watermarks(topic, number as i32, REQUEST_TIMEOUT)?;
    let (low, end) = (low.max(0) as u64, end.max(0) as u64);
    let frontier = partition.in_flight.frontier();
    status.end(number, end);
    match resume_from(&frontier, low, end) {
        ResumeFrom::Changed => {
            let why = format!("it ends at offset {end}, and was read up to {}", frontier.next);
            partition.phase = Phase::Changed(why);
        }
        ResumeFrom::Read { at, check, lost } => {
            assign(consumer, topic, number, Some(at))?;
            match check {
                Some(check) => partition.begin(frontier, Phase::Check(check)),
                None => partition.begin(Frontier { next: at, last: None }, Phase::Read),
            }
            // A topic that was never read has lost nothing.
            if lost > 0 && frontier != Frontier::default() {
                status.counters().lost.increment(lost);
                tracing::warn!(topic, partition = number, lost, "records were deleted before they were read");
            }
        }
    }
    partition.report(status);
    Ok(())
}
