//! Several nodes: who owns which partition of the log, and what its records mean.
//!
//! From the bottom up: `epoch` (fencing, the time of a partition), `command` and `record` (the log's records), `lease` and
//! `ownership` (who serves a partition), `snapshot_fence` (which snapshot may follow which); `position`, `policy` and `replica` (a unit
//! as a function of its log), `digest` (tells whether two are the same); `owner` and `owner_map` (what nodes
//! tell each other), `route` and `split` (where a call goes), `node_key` (how nodes know each other); and with Kafka: `topic`
//! (makes and checks the log's topic), `member` (this node in the consumer group), `owners` (reads the owner map).

mod command;
mod digest;
mod epoch;
#[cfg(test)]
mod explorer;
mod lease;
#[cfg(feature = "kafka")]
mod member;
mod node_key;
mod node_url;
mod owner;
mod owner_map;
#[cfg(feature = "kafka")]
mod owners;
mod ownership;
#[cfg(test)]
mod ownership_tests;
mod policy;
mod position;
mod record;
mod record_error;
mod replica;
#[cfg(test)]
mod replica_tests;
mod route;
mod settings;
mod snapshot_fence;
mod split;
#[cfg(feature = "kafka")]
mod topic;
mod topic_rules;

pub use command::{Claim, Command, EraseUser, Policy, PolicySettings, ReleaseReservation};
pub use digest::Digest;
pub use epoch::{Epoch, Fence, Former, RecordClock, RunId};
pub use lease::{Gate, LEASE_MS, Lease, TAKEOVER_WAIT_MS};
#[cfg(feature = "kafka")]
pub use member::{
    COMMIT_INTERVAL, Leave, Member, MemberError, MemberOptions, MemberStatus, PartitionCommit, Partitions, SESSION_MIN,
    Taken,
};
pub use node_key::{Call, Caller, HOP_HEADER, HopError, NodeKey, SECRET_MIN, ShortSecret};
pub use node_url::{NodeUrl, NodeUrlError};
#[cfg(any(test, fuzzing))]
pub(crate) use owner::fuzz as fuzz_owner;
pub use owner::{NODE_TEXT_MAX, OWNER_MAX, Owner, OwnerState};
pub use owner_map::{GONE_AFTER_MS, OwnerMap};
#[cfg(feature = "kafka")]
pub use owners::{Owners, OwnersOptions};
pub use ownership::{Action, Ownership, State};
pub use policy::{ENGINE, InForce, PolicyError};
pub use position::Position;
#[cfg(any(test, fuzzing))]
pub(crate) use record::fuzz as fuzz_command;
pub use record::{COMMAND_MAX, EncodedCommand, HEADER, Head, Record, decode, encode};
pub use record_error::{RecordError, VERSION};
pub use replica::{Applied, Effect, LogRecord, Replica, ReplicaError};
pub use route::{Arrived, PARTITION_MOVING, Route, Search, Unanswered};
pub use settings::{Reads, SettingFlags, Settings, Surroundings};
pub use snapshot_fence::{SnapshotMark, SnapshotRefused, may_follow};
pub use split::{Answers, Part, Split, WrongNumber};
#[cfg(feature = "kafka")]
pub use topic::{LogTopic, TopicError, TopicOptions, ensure_topic};
pub use topic_rules::{PARTITIONS_MAX, RETENTION_MIN, TopicFacts, UnfitTopic};
