//! This node in the consumer group: heartbeats, assignment, and commits that tell the others who owns what.
//!
//! The consumer subscribes, but reads nothing: partitions are paused as soon as they come. A thread polls it, which serves
//! the group's callbacks. Another commits each second and waits for the answer, since the client library tells of no
//! answer otherwise, and both must go on while one waits.

use super::owner::Owner;
use crate::clock::{BootClock, BootMs};
use crate::kafka::{Cluster, KafkaError, client_config, log_client, make_client};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often is committed.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest session that brokers take by default.
pub const SESSION_MIN: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(100);
/// How long leaving the group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Timeout of one request to the brokers. Beyond it the lease has lapsed anyhow.
const REQUEST_TIMEOUT_MS: &str = "3000";

/// What a member is.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// The brokers.
    pub cluster: Cluster,
    /// The topic of the log.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The node's name, the same after a restart: its partitions stay with it if it is back within the session.
    pub node: String,
    /// How long a member may be silent before its partitions go to others. 6 s at least, by the brokers' default.
    pub session: Duration,
}

/// Why partitions are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The group moves them. They go to another node once this call has returned.
    Planned,
    /// The group has given them to others, maybe some time ago.
    Lost,
}

/// What is committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCommit {
    /// The partition.
    pub partition: u32,
    /// The offset of the next record to apply.
    pub offset: u64,
    /// What others are told of its owner.
    pub owner: Owner,
}

/// What is done with the partitions that the group gives and takes. The calls come from two threads.
pub trait Partitions: Send + Sync + 'static {
    /// These are this node's from now on.
    fn assigned(&self, partitions: &[u32], now: BootMs);
    /// These are this node's no more.
    fn unassigned(&self, partitions: &[u32], taken: Taken);
    /// What to commit: the partitions that are assigned.
    fn commits(&self) -> Vec<PartitionCommit>;
    /// A commit of these partitions, sent at `sent`, was accepted.
    fn accepted(&self, partitions: &[u32], sent: BootMs, now: BootMs);
}

/// Why the node is a member no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Another process has joined with the same name.
    #[error(
        "cluster_node_in_use: another process has joined the group as node {0:?}; \
         give each node a --node-url of its own, and each its own data directory"
    )]
    SameNode(String),
    /// The client gave up.
    #[error("the member of the consumer group failed: {0}")]
    Failed(String),
    /// A thread of ours.
    #[error("a thread of the member ended by a panic")]
    Panicked,
}

/// What is known of the membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// When the last accepted commit was sent.
    pub accepted: Option<BootMs>,
    /// Why the last commit was refused, if it was.
    pub refused: Option<String>,
    /// What the client library last said is wrong.
    pub trouble: Option<String>,
    /// Why the node is a member no more.
    pub failed: Option<MemberError>,
}

#[derive(Clone)]
struct Context {
    partitions: Arc<dyn Partitions>,
    clock: BootClock,
    status: Arc<Mutex<MemberStatus>>,
}

type Consumer = BaseConsumer<Context>;

/// A running member.
pub struct Member {
    status: Arc<Mutex<MemberStatus>>,
    wake: Sender<()>,
    stop: Arc<Mutex<Option<Leave>>>,
    failed: CancellationToken,
    poller: JoinHandle<()>,
}

/// How a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It leaves the group: its partitions go to others at once.
    Group,
    /// It stays a member until the session is over: after a restart the partitions are the same.
    Nothing,
}

impl Member {
    /// Joins the group.
    pub fn start(
        options: MemberOptions,
        clock: BootClock,
        partitions: Arc<dyn Partitions>,
    ) -> Result<Self, KafkaError> {
        let status = Arc::<Mutex<MemberStatus>>::default();
        let context = Context { partitions, clock, status: status.clone() };
        let consumer: Arc<Consumer> = Arc::new(consumer(&options, context.clone())?);
        consumer.subscribe(&[&options.topic]).map_err(|why| KafkaError::Client(why.to_string()))?;
        let (wake, woken) = bounded(1);
        let stop = Arc::<Mutex<Option<Leave>>>::default();
        let failed = CancellationToken::new();
        let committer =
            Committer { consumer: consumer.clone(), context: context.clone(), topic: options.topic.clone() };
        let commits = spawn("freqcap-commit", move || committer.run(&woken))?;
        let poller = Poller {
            consumer,
            context,
            node: options.node,
            stop: stop.clone(),
            failed: failed.clone(),
            wake: wake.clone(),
        };
        let poller = spawn("freqcap-member", move || poller.run(commits))?;
        Ok(Self { status, wake, stop, failed, poller })
    }

    /// Commits soon: something that others are told has changed.
    pub fn publish(&self) {
        // One that waits already serves this one, too.
        let _ = self.wake.try_send(());
    }

    /// What is known of the membership.
    pub fn status(&self) -> MemberStatus {
        lock(&self.status).clone()
    }

    /// Cancelled when the node is a member no more; [`MemberStatus::failed`] says why.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Ends the membership; the partitions are taken away first. Blocks for some seconds at most.
    pub fn stop(self, leave: Leave) -> Result<(), MemberError> {
        let Self { status, wake, stop, failed: _, poller } = self;
        *lock(&stop) = Some(leave);
        // The thread that commits ends once nobody can wake it any more.
        drop(wake);
        poller.join().map_err(|_| MemberError::Panicked)?;
        match lock(&status).failed.clone() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, KafkaError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|why| KafkaError::Client(format!("a thread cannot be started: {why}")))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn consumer(options: &MemberOptions, context: Context) -> Result<Consumer, KafkaError> {
    let session_ms = options.session.as_millis();
    let mut config = client_config(&options.cluster, &[]);
    config
        .set("group.id", &options.group)
        .set("group.instance.id", &options.node)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session_ms.to_string())
        .set("heartbeat.interval.ms", (session_ms / 3).clamp(1, 2_000).to_string())
        // Also how long the group waits for a member that does not give its partitions up.
        .set("max.poll.interval.ms", session_ms.max(10_000).to_string())
        .set("socket.timeout.ms", REQUEST_TIMEOUT_MS)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "latest");
    make_client(&config, context)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log_client(level, fac, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
        lock(&self.status).trouble = Some(reason.to_owned());
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = numbers(list);
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(?partitions, "partitions were assigned to this node");
                take(consumer, list).map(|()| self.partitions.assigned(&partitions, self.clock.now()))
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let taken = if consumer.assignment_lost() { Taken::Lost } else { Taken::Planned };
                tracing::info!(?partitions, ?taken, "partitions were taken from this node");
                self.partitions.unassigned(&partitions, taken);
                consumer.incremental_unassign(list)
            }
            other => Err(ClientError::Rebalance(other.into())),
        };
        if let Err(why) = done {
            tracing::warn!(%why, "the consumer group cannot be followed");
            lock(&self.status).trouble = Some(why.to_string());
        }
    }
}

/// Takes the partitions without reading them.
fn take(consumer: &Consumer, list: &mut TopicPartitionList) -> KafkaResult<()> {
    list.set_all_offsets(Offset::End)?;
    consumer.incremental_assign(list)?;
    consumer.pause(list)
}

fn numbers(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}

struct Poller {
    consumer: Arc<Consumer>,
    context: Context,
    node: String,
    stop: Arc<Mutex<Option<Leave>>>,
    failed: CancellationToken,
    wake: Sender<()>,
}

impl Poller {
    fn run(self, commits: JoinHandle<()>) {
        let leave = loop {
            if let Some(leave) = *lock(&self.stop) {
                break leave;
            }
            if let Err(why) = self.poll() {
                tracing::error!(%why, "this node is a member of the cluster no more");
                lock(&self.context.status).failed = Some(why);
                self.failed.cancel();
                break Leave::Nothing;
            }
        };
        if leave == Leave::Group {
            self.leave();
        }
        // Its consumer is closed with the last of the two references: here, where callbacks are served.
        drop(self.wake);
        let Context { partitions, status, .. } = self.context;
        if commits.join().is_err() {
            lock(&status).failed.get_or_insert(MemberError::Panicked);
        }
        let rest = self.consumer.assignment().map(|list| numbers(&list)).unwrap_or_default();
        drop(self.consumer);
        // Where closing did not say so.
        if !rest.is_empty() {
            partitions.unassigned(&rest, Taken::Planned);
        }
    }

    fn poll(&self) -> Result<(), MemberError> {
        if let Some(Err(why)) = self.consumer.poll(POLL) {
            tracing::debug!(%why, "polling the consumer group");
            lock(&self.context.status).trouble = Some(why.to_string());
        }
        // Errors that end the client do not all come with what is polled.
        match self.consumer.client().fatal_error() {
            None => Ok(()),
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => Err(MemberError::SameNode(self.node.clone())),
            Some((_, why)) => Err(MemberError::Failed(why)),
        }
    }

    /// Leaves the group. Closing alone would leave a static member in it.
    fn leave(&self) {
        self.consumer.unsubscribe();
        let started = Instant::now();
        while started.elapsed() < LEAVE_WITHIN {
            if self.poll().is_err() || self.consumer.assignment().is_ok_and(|list| list.count() == 0) {
                return;
            }
        }
    }
}

struct Committer {
    consumer: Arc<Consumer>,
    context: Context,
    topic: String,
}

impl Committer {
    /// Until nobody can wake it any more.
    fn run(self, woken: &Receiver<()>) {
        let mut beat = 0;
        while !matches!(woken.recv_timeout(COMMIT_INTERVAL), Err(RecvTimeoutError::Disconnected)) {
            beat += 1;
            if let Err(why) = self.commit(beat) {
                tracing::debug!(%why, "a commit was refused");
                lock(&self.context.status).refused = Some(why.to_string());
            }
        }
    }

    fn commit(&self, beat: u64) -> KafkaResult<()> {
        let commits = self.context.partitions.commits();
        if commits.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for PartitionCommit { partition, offset, owner } in &commits {
            let mut element = list.add_partition(&self.topic, *partition as i32);
            element.set_offset(Offset::Offset(*offset as i64))?;
            element.set_metadata(Owner { beat, ..owner.clone() }.to_metadata());
        }
        let sent = self.context.clock.now();
        self.consumer.commit(&list, CommitMode::Sync)?;
        // A consumer that lost its membership could be taken for one that needs none.
        if self.consumer.assignment_lost() {
            return Ok(());
        }
        let partitions: Vec<u32> = commits.iter().map(|commit| commit.partition).collect();
        self.context.partitions.accepted(&partitions, sent, self.context.clock.now());
        let mut status = lock(&self.context.status);
        (status.accepted, status.refused) = (Some(sent), None);
        Ok(())
    }
}
