//! The topic of the log: made where it is missing, checked where it is there.

use super::topic_rules::{TopicFacts, UnfitTopic, check_partitions, wanted_in_sync, wanted_replicas, wanted_retention};
use crate::kafka::{ClientContext, Cluster, KafkaError, client_config, make_client};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use std::time::{Duration, Instant};

/// Timeout of one request to the brokers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a topic that was just made may take until every broker knows it.
const MADE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The topic that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOptions {
    /// Its name.
    pub name: String,
    /// How many partitions it gets where it is made. A power of two up to 256.
    pub partitions: u32,
    /// How many replicas; fewer where there are fewer brokers.
    pub replication: u32,
    /// For how long a snapshot may be the newest: the log must reach back further.
    pub snapshot_age: Duration,
}

/// Why the topic cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// It is not as it must be.
    #[error("--cluster-topic {topic}: {why}")]
    Unfit {
        /// Its name.
        topic: String,
        /// What is wrong.
        why: UnfitTopic,
    },
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] KafkaError),
    /// The brokers do not answer, or refuse. Worth another try, unless they refuse.
    #[error("--cluster-topic {topic}: {doing}: {why}")]
    Brokers {
        /// Its name.
        topic: String,
        /// What was asked of them.
        doing: &'static str,
        /// What they said.
        why: String,
    },
}

/// A topic that may be the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTopic {
    /// How many partitions it has: for ever.
    pub partitions: u32,
    /// How long it keeps records; `None` is for ever.
    pub retention: Option<Duration>,
    /// Whether it was made by this call.
    pub was_made: bool,
}

type Client = AdminClient<ClientContext>;

/// Makes the topic where it is missing, and checks it. Blocks for some seconds at most, unless the brokers do not answer.
pub async fn ensure_topic(cluster: &Cluster, options: &TopicOptions) -> Result<LogTopic, TopicError> {
    let unfit = |why| TopicError::Unfit { topic: options.name.clone(), why };
    check_partitions(options.partitions).map_err(unfit)?;
    let client: Client = make_client(&client_config(cluster, &[]), ClientContext::default())?;
    let mut was_made = false;
    if shape(&client, options)?.partitions == 0 {
        was_made = make(&client, options).await?;
        wait_for_leaders(&client, options).await?;
    }
    let facts = facts(&client, options).await?;
    facts.check(options.replication, options.snapshot_age).map_err(unfit)?;
    if facts.partitions != options.partitions {
        tracing::warn!(
            topic = options.name,
            partitions = facts.partitions,
            asked = options.partitions,
            "the topic of the log has another number of partitions than asked for, and keeps it"
        );
    }
    Ok(LogTopic { partitions: facts.partitions, retention: facts.retention, was_made })
}

fn failed(options: &TopicOptions, doing: &'static str, why: impl ToString) -> TopicError {
    TopicError::Brokers { topic: options.name.clone(), doing, why: why.to_string() }
}

struct Shape {
    brokers: u32,
    /// 0 where there is no such topic.
    partitions: u32,
    replicas: u32,
    has_leaders: bool,
}

fn shape(client: &Client, options: &TopicOptions) -> Result<Shape, TopicError> {
    const DOING: &str = "asking for its partitions";
    let metadata = client.inner().fetch_metadata(Some(&options.name), REQUEST_TIMEOUT);
    let metadata = metadata.map_err(|why| failed(options, DOING, why))?;
    let brokers = u32::try_from(metadata.brokers().len()).unwrap_or(u32::MAX);
    let absent = Shape { brokers, partitions: 0, replicas: 0, has_leaders: false };
    let Some(topic) = metadata.topics().first() else { return Ok(absent) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(absent),
        Some(why) => return Err(failed(options, DOING, why)),
    }
    let partitions = topic.partitions();
    Ok(Shape {
        brokers,
        partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
        replicas: partitions.iter().map(|one| one.replicas().len() as u32).min().unwrap_or(0),
        has_leaders: partitions.iter().all(|one| one.leader() >= 0),
    })
}

/// Returns false where another node was first.
async fn make(client: &Client, options: &TopicOptions) -> Result<bool, TopicError> {
    const DOING: &str = "making it";
    let replicas = wanted_replicas(options.replication, shape(client, options)?.brokers);
    let in_sync = wanted_in_sync(replicas).to_string();
    let retention_ms = wanted_retention(options.snapshot_age).as_millis().to_string();
    let partitions = i32::try_from(options.partitions).unwrap_or(i32::MAX);
    let topic = NewTopic::new(&options.name, partitions, TopicReplication::Fixed(replicas as i32))
        .set("message.timestamp.type", "LogAppendTime")
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention_ms)
        .set("retention.bytes", "-1")
        .set("min.insync.replicas", &in_sync)
        .set("unclean.leader.election.enable", "false");
    let made = client.create_topics(&[topic], &admin_options()).await.map_err(|why| failed(options, DOING, why))?;
    match made.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, why))) => Err(failed(options, DOING, why)),
        None => Err(failed(options, DOING, "the brokers did not say whether they did")),
    }
}

async fn wait_for_leaders(client: &Client, options: &TopicOptions) -> Result<(), TopicError> {
    let started = Instant::now();
    loop {
        let shape = shape(client, options)?;
        if shape.partitions > 0 && shape.has_leaders {
            return Ok(());
        }
        if started.elapsed() > MADE_WITHIN {
            return Err(failed(
                options,
                "waiting for its leaders",
                "it was made, and not every partition has a leader",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn facts(client: &Client, options: &TopicOptions) -> Result<TopicFacts, TopicError> {
    const DOING: &str = "asking for its settings";
    let shape = shape(client, options)?;
    let asked = [ResourceSpecifier::Topic(&options.name)];
    let described = client.describe_configs(&asked, &admin_options()).await;
    let described = described.map_err(|why| failed(options, DOING, why))?.into_iter().next();
    let settings = match described {
        Some(Ok(settings)) => settings,
        Some(Err(why)) => return Err(failed(options, DOING, ClientError::AdminOp(why))),
        None => return Err(failed(options, DOING, "the brokers did not say")),
    };
    let number = |name: &'static str| -> Result<i64, TopicError> {
        let text = setting(&settings, name);
        text.parse().map_err(|_| failed(options, DOING, format!("{name} is {text:?}")))
    };
    Ok(TopicFacts {
        partitions: shape.partitions,
        replicas: shape.replicas,
        brokers: shape.brokers,
        timestamps: setting(&settings, "message.timestamp.type").to_owned(),
        cleanup: setting(&settings, "cleanup.policy").to_owned(),
        retention: u64::try_from(number("retention.ms")?).ok().map(Duration::from_millis),
        retention_bytes: u64::try_from(number("retention.bytes")?).ok(),
        in_sync_min: u32::try_from(number("min.insync.replicas")?).unwrap_or_default(),
        elects_unclean: setting(&settings, "unclean.leader.election.enable") == "true",
    })
}

fn setting<'s>(settings: &'s ConfigResource, name: &str) -> &'s str {
    settings.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default()
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}
