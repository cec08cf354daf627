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

/// The most records and bytes of values between two looks at everything else.
const PULL_RECORDS: usize = 8_192;
const PULL_BYTES: usize = 8 << 20;
/// How often frontiers are stored.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a partition of which nothing could be found out waits.
const REFETCH_DELAY: Duration = Duration::from_millis(500);
/// How long in a row is asked what Kafka has of partitions.
const REFETCH_BUDGET: Duration = Duration::from_millis(100);
/// How long what was read may take to become durable once the adapter is to stop.
const FINISH: Duration = Duration::from_secs(3);

/// What a puller is told of a partition.
pub(super) enum Command {
    /// It is to be read.
    Read(u32, PulledPartition),
    /// It is no longer there.
    Gone(u32),
    /// It is there again, as another one.
    Back(u32),
}

pub(super) struct Puller {
    options: Options,
    parts: Parts,
    consumer: Consumer,
    /// Asks what Kafka has: on the connections of the one that reads, an answer would wait for the read under way.
    asker: Consumer,
    /// What becomes of partitions.
    commands: Receiver<Command>,
    partitions: BTreeMap<u32, Partition>,
    dead: DeadLetters,
    /// The partition whose records were set aside first, the last time: at the next it is another's turn.
    aside_first: u32,
    status: Handle,
    stop: CancellationToken,
    kept_at: Instant,
    witness: Witness,
    /// How often the topic was doubted that this puller knows of.
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
            kept_at: now,
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
            self.keep(CHECKPOINT_INTERVAL)?;
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

    /// Collects what is durable and sends what waits; whether the writers refused anything.
    fn drive(&mut self) -> bool {
        let now = Instant::now();
        let partitions = &mut self.partitions;
        self.dead.drive(now, |letter| {
            if let Some(partition) = partitions.get_mut(&letter.partition) {
                partition.buried(letter.chunk, letter.offset);
            }
        });
        let mut refused = None;
        for partition in partitions.values_mut() {
            refused = refused.or(partition.drive());
        }
        self.set_aside(now);
        for partition in self.partitions.values_mut() {
            partition.tell(&self.status);
        }
        if let Some(why) = refused
            && let Some(others) = self.refusals.say(now)
        {
            tracing::debug!(%why, others, "reading waits for the writers");
        }
        refused.is_some()
    }

    /// Sets aside what the writers could not count, of one partition after another.
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

    /// Finds out where to begin, for partitions with nothing under way of which that is not known.
    fn begin(&mut self) -> Result<(), KafkaError> {
        let now = Instant::now();
        for partition in self.partitions.values_mut().filter(|partition| partition.in_flight.is_empty()) {
            // The others at the next turn: what is read already must not wait for them.
            if self.stop.is_cancelled() || now.elapsed() >= REFETCH_BUDGET {
                break;
            }
            if let Phase::Changed(why) = &partition.phase {
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
                        tracing::warn!(
                            code = "kafka_topic_changed",
                            topic,
                            partition = number,
                            why,
                            "the topic is not the one that was read before: it is read from its beginning"
                        );
                        let frontier = Frontier::default();
                        let resets = partition.forget();
                        self.parts.store.kafka_offsets().reset(topic, number, &frontier, resets)?;
                        self.status.reset(number);
                        partition.begin(frontier, Phase::Ask);
                        // What a topic's beginning lacks is no loss of this one.
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

    /// Has partitions whose end has offsets without records step over them.
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
    fn keep(&mut self, every: Duration) -> Result<(), KafkaError> {
        if self.kept_at.elapsed() < every {
            return Ok(());
        }
        self.kept_at = Instant::now();
        self.keep_early()?;
        let changed = self.partitions.values_mut().filter_map(|partition| {
            let frontier = partition.in_flight.frontier();
            (partition.stored.replace(frontier) != Some(frontier)).then(|| (partition.number(), frontier))
        });
        let changed: Vec<_> = changed.collect();
        let rows = changed.iter().map(|(number, frontier)| (*number, frontier));
        match self.parts.store.kafka_offsets().put_frontiers(&self.options.topic, rows) {
            // The process asks to be restarted; until then it reads no further, and others do.
            Err(_) if self.parts.store.is_poisoned() => return Ok(()),
            result => result?,
        }
        // Not before the frontiers: what was set aside is above those that were stored before.
        for partition in self.partitions.values_mut() {
            match partition.forget_left_out(&self.parts.store, &self.options.topic) {
                Err(_) if self.parts.store.is_poisoned() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Reads what there is, but not too much at once.
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
        // Before any mark of a writer goes beyond them.
        self.keep_early()?;
        for partition in self.partitions.values_mut() {
            partition.cut(&self.status);
        }
        if let Some(error) = trouble {
            self.look_into(&error);
        }
        Ok(())
    }

    fn keep_early(&mut self) -> Result<(), KafkaError> {
        for partition in self.partitions.values_mut() {
            match partition.keep_early(&self.parts.store, &self.options.topic) {
                Err(_) if self.parts.store.is_poisoned() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Says what went wrong; where the topic may not be what it was, it is looked at anew.
    fn look_into(&mut self, error: &ClientError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        if matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve)) {
            // That the brokers are away is told by who asks them every second.
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

    /// Has every partition begin anew: with a look at what Kafka has of it, and at the record before.
    fn revalidate(&mut self) {
        for partition in self.partitions.values_mut() {
            if matches!(partition.phase, Phase::Read | Phase::Check(_)) {
                partition.phase = Phase::Ask;
                partition.ask_at = Some(Instant::now() + REFETCH_DELAY);
            }
        }
    }

    /// Waits for what was read, and stores how far that is.
    fn finish(mut self) -> Result<(), KafkaError> {
        let until = Instant::now() + FINISH;
        while self.partitions.values().any(|partition| !partition.in_flight.is_empty()) && Instant::now() < until {
            // What is refused for good now is read again by whoever starts next.
            if self.drive() && self.parts.router.health().refusal().is_some() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.keep(Duration::ZERO)
    }
}

/// Asks what Kafka has of a partition, and begins to read it accordingly.
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
            // A topic that was never read has lost nothing of ours.
            if lost > 0 && frontier != Frontier::default() {
                status.counters().lost.increment(lost);
                tracing::warn!(topic, partition = number, lost, "records were deleted before they were read");
            }
        }
    }
    partition.tell(status);
    Ok(())
}
