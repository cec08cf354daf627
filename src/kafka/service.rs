//! Starts the adapter and looks after the topic as a whole: who owns it, how many partitions it has, where they end,
//! and which offsets are committed.

use super::client::{Consumer, REQUEST_TIMEOUT, consumer};
use super::committer::Committer;
use super::log_throttle::LogThrottle;
use super::options::StartFrom;
use super::puller::{Command, Puller};
use super::status::{Handle, State};
use super::{KafkaError, Options, Parts, Running};
use crate::store::{Frontier, PulledPartition};
use crossbeam_channel::Sender;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often partitions and their ends are asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How often offsets are committed and the ownership of the group is checked.
const CLAIM: Duration = Duration::from_secs(2);
/// Timeout of the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// Starts the adapter. Its own thread waits for brokers that are away.
pub fn start(options: Options, parts: Parts) -> Result<Running, KafkaError> {
    let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
    let handle = Handle::new();
    // Made here, so that invalid settings are reported at once.
    let client = Arc::new(consumer(&options)?);
    let committer = Committer::start(client.clone())?;
    let topic = Topic {
        client,
        committer,
        partitions: BTreeSet::new(),
        pullers: Vec::new(),
        halt: stop.child_token(),
        gone: BTreeSet::new(),
        left: BTreeMap::new(),
        refresh_from: 0,
        uncommitted: LogThrottle::default(),
        taken_over: false,
        options,
        parts,
        status: handle.clone(),
    };
    let on_failure = failed.clone();
    let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
        let _watched = topic.parts.offsets.alarm().watch("kafka");
        let result = topic.run();
        match &result {
            Ok(()) => {}
            // The process asks to be restarted; what follows is decided there.
            Err(KafkaError::Panicked) => tracing::error!("reading from Kafka has ended by a panic"),
            Err(error) => {
                tracing::error!(%error, "reading from Kafka has ended");
                on_failure.cancel();
            }
        }
        result
    });
    let thread = thread.map_err(|error| KafkaError::Client(error.to_string()))?;
    Ok(Running { handle, stop, failed, thread })
}

type PullerThread = JoinHandle<Result<(), KafkaError>>;

struct Topic {
    options: Options,
    parts: Parts,
    client: Arc<Consumer>,
    committer: Committer,
    partitions: BTreeSet<u32>,
    /// Partitions that were deleted, in this run or an earlier one.
    gone: BTreeSet<u32>,
    left: BTreeMap<u32, PulledPartition>,
    /// The partition whose end is asked for first next time.
    refresh_from: u32,
    pullers: Vec<(Sender<Command>, PullerThread)>,
    uncommitted: LogThrottle,
    /// Stops the pullers.
    halt: CancellationToken,
    /// The group was taken from another store. That happens once.
    taken_over: bool,
    status: Handle,
}

/// Why a request to Kafka has no answer yet.
enum Trouble {
    Away(String),
    Fatal(KafkaError),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<KafkaError> for Trouble {
    fn from(error: KafkaError) -> Self {
        Self::Fatal(error)
    }
}

impl Topic {
    fn run(mut self) -> Result<(), KafkaError> {
        let result = self.serve();
        self.halt.cancel();
        let mut results = vec![result];
        for (commands, thread) in std::mem::take(&mut self.pullers) {
            drop(commands);
            results.push(thread.join().unwrap_or(Err(KafkaError::Panicked)));
        }
        if results.iter().all(Result::is_ok) {
            self.commit_last();
        }
        results.into_iter().collect()
    }

    fn serve(&mut self) -> Result<(), KafkaError> {
        for number in 0..self.options.consumers.max(1) {
            let (sender, commands) = crossbeam_channel::unbounded();
            let (halt, status) = (self.halt.clone(), self.status.clone());
            let puller =
                Puller::new(&self.options, &self.parts, consumer(&self.options)?, commands, status, halt.clone())?;
            let watched = self.parts.offsets.alarm().watch(format!("kafka-{number}"));
            let thread = std::thread::Builder::new().name(format!("kafka-{number}")).spawn(move || {
                let _watched = watched;
                // However this thread ends, the pullers end, too.
                let _halt = halt.drop_guard();
                puller.run()
            });
            self.pullers.push((sender, thread.map_err(|error| KafkaError::Client(error.to_string()))?));
        }
        if !self.until_done(Self::begin)? {
            return Ok(());
        }
        let (mut looked, mut claimed) = (Instant::now(), Instant::now());
        while !self.halt.is_cancelled() {
            // Runs librdkafka's callbacks.
            let _ = self.client.poll(Duration::from_millis(50));
            let look = looked.elapsed() >= REFRESH_INTERVAL;
            let claim = claimed.elapsed() >= CLAIM;
            let mut told = Ok(());
            if look {
                looked = Instant::now();
                told = self.refresh();
            }
            if claim && !matches!(told, Err(Trouble::Fatal(_))) {
                claimed = Instant::now();
                // A partition without a leader must not keep the others from being committed.
                told = told.and(self.claim(self.status.frontiers()));
            }
            match told {
                Ok(()) if look => self.status.connected(None),
                Ok(()) => {}
                Err(Trouble::Away(why)) => self.away(&why),
                Err(Trouble::Fatal(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Repeats `work` until it succeeds. Returns false if the adapter is to stop.
    fn until_done(&mut self, mut work: impl FnMut(&mut Self) -> Result<(), Trouble>) -> Result<bool, KafkaError> {
        while !self.halt.is_cancelled() {
            match work(self) {
                Ok(()) => {
                    self.status.connected(None);
                    return Ok(true);
                }
                Err(Trouble::Away(why)) => self.away(&why),
                Err(Trouble::Fatal(error)) => return Err(error),
            }
            let _ = self.client.poll(Duration::from_millis(300));
        }
        Ok(false)
    }

    fn away(&self, why: &str) {
        let trouble = self.client.context().trouble();
        let why = if trouble.is_empty() { why.to_owned() } else { format!("{why} ({trouble})") };
        self.status.connected(Some(&why));
    }

    /// Finds the topic, makes sure that no other store owns it, and begins to read.
    fn begin(&mut self) -> Result<(), Trouble> {
        let numbers = self.numbers()?;
        self.check_owner(&numbers)?;
        let topic = &self.options.topic.clone();
        let mut known = self.parts.offsets.partitions(topic).map_err(KafkaError::from)?;
        let is_new = known.values().all(|partition| partition.frontier.is_none());
        let fresh: Vec<u32> = match is_new {
            true => numbers.iter().copied().collect(),
            false => numbers.iter().copied().filter(|number| !known.contains_key(number)).collect(),
        };
        // A partition added later is read from its beginning: all its records are new.
        let starts = if is_new { self.first_offsets(&fresh)? } else { BTreeMap::new() };
        let mut rows = Vec::new();
        for number in fresh {
            let frontier = Frontier { next: starts.get(&number).copied().unwrap_or(0), last: None };
            known.entry(number).or_default().frontier = Some(frontier);
            rows.push((number, frontier));
        }
        self.parts.offsets.begin_frontiers(topic, &rows).map_err(KafkaError::from)?;
        let gone: Vec<u32> = known.keys().copied().filter(|number| !numbers.contains(number)).collect();
        if !gone.is_empty() {
            tracing::error!(
                code = "kafka_topic_changed",
                topic,
                ?gone,
                "partitions that were read are no longer there"
            );
        }
        (known, self.left) = known.into_iter().partition(|(number, _)| numbers.contains(number));
        self.claim(known.iter().filter_map(|(number, known)| Some((*number, known.frontier?))).collect())?;
        tracing::info!(topic, partitions = known.len(), "reading from Kafka");
        for (number, known) in known {
            self.add(number, known);
        }
        Ok(())
    }

    fn add(&mut self, number: u32, known: PulledPartition) {
        self.partitions.insert(number);
        self.status.frontier(number, known.frontier.unwrap_or_default());
        self.tell(number, Command::Read(number, known));
    }

    /// Sends a command to the partition's puller.
    fn tell(&self, number: u32, command: Command) {
        let puller = number as usize % self.pullers.len();
        // The puller is gone only if the adapter ends.
        let _ = self.pullers[puller].0.send(command);
    }

    /// The numbers of the topic's partitions.
    fn numbers(&self) -> Result<BTreeSet<u32>, Trouble> {
        let topic = &self.options.topic;
        let metadata = self.client.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let trouble = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
        if let Some(trouble) = trouble.filter(|code| *code != RDKafkaErrorCode::UnknownTopicOrPartition) {
            return Err(Trouble::Away(format!("the topic {topic:?} cannot be read: {trouble}")));
        }
        let partitions = found.filter(|found| found.error().is_none()).map(|found| found.partitions());
        let Some(partitions) = partitions.filter(|partitions| !partitions.is_empty()) else {
            // It was deleted. If it comes back, it is another topic.
            self.status.revalidate();
            return Err(Trouble::Away(format!("there is no topic {topic:?}")));
        };
        Ok(partitions.iter().filter_map(|partition| u32::try_from(partition.id()).ok()).collect())
    }

    /// The first offsets of partitions that were never read.
    fn first_offsets(&self, numbers: &[u32]) -> Result<BTreeMap<u32, u64>, Trouble> {
        let now = self.parts.clock.now();
        let from = match self.options.from {
            StartFrom::Earliest => return Ok(BTreeMap::new()),
            StartFrom::At(ts) => ts,
            StartFrom::Ago(ms) => now.saturating_sub(ms),
            StartFrom::Retention => now.saturating_sub(self.parts.retention_ms),
        };
        let topic = &self.options.topic;
        let mut asked = TopicPartitionList::with_capacity(numbers.len());
        for &number in numbers {
            asked.add_partition_offset(topic, number as i32, Offset::Offset(from.0 as i64))?;
        }
        let told = self.client.offsets_for_times(asked, REQUEST_TIMEOUT)?;
        let mut offsets = BTreeMap::new();
        for partition in told.elements() {
            partition.error()?;
            let offset = match partition.offset() {
                Offset::Offset(offset) => offset,
                // There is no record of that time or later.
                _ => self.client.fetch_watermarks(topic, partition.partition(), REQUEST_TIMEOUT)?.1,
            };
            offsets.insert(partition.partition() as u32, offset.max(0) as u64);
        }
        Ok(offsets)
    }

    /// Asks for new partitions and for the ends of all.
    fn refresh(&mut self) -> Result<(), Trouble> {
        let numbers = self.numbers()?;
        for &number in self.partitions.difference(&numbers) {
            let topic = &self.options.topic;
            tracing::error!(code = "kafka_topic_changed", topic, partition = number, "a partition is no longer there");
            self.status.state(number, State::Stopped);
            self.tell(number, Command::Gone(number));
            self.gone.insert(number);
        }
        self.partitions.retain(|number| numbers.contains(number));
        for number in numbers {
            if self.gone.remove(&number) {
                self.partitions.insert(number);
                self.tell(number, Command::Back(number));
            } else if let Some(known) = self.left.remove(&number) {
                // Whether it is the same partition is found out as at every start.
                self.add(number, known);
            } else if !self.partitions.contains(&number) {
                let (topic, frontier) = (&self.options.topic, Frontier::default());
                tracing::info!(topic, partition = number, "a new partition is read from its beginning");
                self.parts.offsets.begin_frontiers(topic, &[(number, frontier)]).map_err(KafkaError::from)?;
                self.add(number, PulledPartition { frontier: Some(frontier), ..PulledPartition::default() });
            }
        }
        self.refresh_ends()
    }

    /// Asks for the ends of partitions, within a time budget; the next call continues there. Returns the first error.
    fn refresh_ends(&mut self) -> Result<(), Trouble> {
        let (started, mut trouble) = (Instant::now(), Ok(()));
        let from = self.refresh_from;
        let in_turn = self.partitions.range(from..).chain(self.partitions.range(..from));
        for &number in in_turn {
            if self.halt.is_cancelled() || started.elapsed() >= REQUEST_TIMEOUT {
                self.refresh_from = number;
                break;
            }
            match self.client.fetch_watermarks(&self.options.topic, number as i32, REQUEST_TIMEOUT) {
                Ok((_, end)) => self.status.end(number, end.max(0) as u64),
                Err(error) if trouble.is_ok() => trouble = Err(error.into()),
                Err(_) => {}
            }
        }
        trouble
    }

    /// Checks that no other store owns the group.
    fn check_owner(&mut self, numbers: &BTreeSet<u32>) -> Result<(), Trouble> {
        let mut asked = TopicPartitionList::with_capacity(numbers.len());
        for &number in numbers {
            asked.add_partition(&self.options.topic, number as i32);
        }
        let committed = self.client.committed_offsets(asked, REQUEST_TIMEOUT)?;
        let ours = self.parts.offsets.store_id();
        let elements = committed.elements();
        let mut owners = elements.iter().filter_map(|partition| partition.metadata().strip_prefix(OWNER));
        let Some(other) = owners.find(|owner| *owner != ours) else { return Ok(()) };
        // A store in memory has a new id after every start, so it may take the group.
        let may_take = self.options.takeover || self.parts.offsets.are_in_memory();
        if may_take && !self.taken_over {
            return Ok(());
        }
        let (group, owner) = (self.options.group.clone(), other.to_owned());
        Err(KafkaError::GroupInUse { group, owner }.into())
    }

    /// Commits the frontiers with the store's id, unless another store owns the group by now.
    fn claim(&mut self, frontiers: Vec<(u32, Frontier)>) -> Result<(), Trouble> {
        let numbers: BTreeSet<u32> = frontiers.iter().map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        self.check_owner(&numbers)?;
        let mut told = TopicPartitionList::with_capacity(frontiers.len());
        for (number, frontier) in frontiers {
            let next = Offset::Offset(frontier.next as i64);
            told.add_partition_offset(&self.options.topic, number as i32, next)?;
        }
        let owner = format!("{OWNER}{}", self.parts.offsets.store_id());
        for mut partition in told.elements() {
            partition.set_metadata(&owner);
        }
        // What became of the commit before.
        self.hear(Duration::ZERO);
        if self.committer.begin(told) && !self.taken_over {
            // The first commit is awaited: from then on the group is ours.
            self.hear(REQUEST_TIMEOUT);
        }
        Ok(())
    }

    /// Notes what became of a commit, waiting for it for so long.
    fn hear(&mut self, wait: Duration) {
        match self.committer.result(wait) {
            Some(Ok(())) => self.taken_over = true,
            Some(Err(why)) => self.warn_of_refusal(&why),
            None => {}
        }
    }

    fn warn_of_refusal(&mut self, why: &str) {
        if let Some(others) = self.uncommitted.say(Instant::now()) {
            let group = &self.options.group;
            tracing::warn!(
                group,
                why,
                others,
                "offsets are not committed, so nobody else is kept from counting the topic: do other consumers use the group?"
            );
        }
    }

    fn commit_last(&mut self) {
        if self.partitions.is_empty() {
            return;
        }
        // One that is under way holds older offsets.
        self.hear(LAST_COMMIT);
        if self.claim(self.status.frontiers()).is_ok() {
            self.hear(LAST_COMMIT);
        }
    }
}

/// Prefix of the metadata of committed offsets; the store's id follows.
const OWNER: &str = "freqcap:";
