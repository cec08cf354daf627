//! Writes and reads of the 256 shards. A few writer threads own them; any thread reads.
//!
//! A batch of events goes through [`Router::count`] to the writers of its shards. A writer takes what its mailbox
//! holds, runs the engine over it and commits one write. Reads go straight to the store through [`Reader`] and never
//! wait for a write.

mod clock_watch;
mod command;
mod count;
mod erase;
mod eraser;
mod erasures;
mod event_batch;
mod group_commit;
mod health;
mod kafka_batch;
mod log_applier;
mod mailbox;
mod metrics;
mod options;
mod partition_sender;
mod progress;
mod reader;
mod recheck;
mod refusal;
mod reserve;
mod resources;
mod router;
mod rule_copies;
mod rule_lines;
mod rulebook;
mod service;
mod sync_watch;
mod tally;
mod task;
#[cfg(test)]
mod tests;
mod threads;
mod timers;
mod tombstones;
mod turn;
mod unit;
mod unit_host;
mod units;
mod user_reader;
mod watch;
mod working_set;
mod writer;

pub use clock_watch::{ask_to_accept_clock, is_asked_to_accept_clock};
pub use count::TOO_MANY_KINDS;
pub use event_batch::{EventBatch, EventBatchBuilder};
pub use health::Health;
pub use log_applier::{ApplyError, LogApplier, LogCommand, LogOutcome};
pub use metrics::describe as describe_metrics;
pub use options::{Options, SettingFlags, Settings};
pub use partition_sender::PartitionSender;
pub use reader::{BLOCKING_THREADS, CandidateVerdict, Reader, ReaderError};
pub use refusal::{ROW_UNREADABLE, Refusal, SUPERSEDED};
pub use reserve::{Reserve, ReserveOutcome};
pub use resources::Resources;
pub use router::{CappedKey, Counted, Router};
#[cfg(any(test, fuzzing))]
pub(crate) use rulebook::stored_rule;
pub use rulebook::{MAX_RULES, Precondition, RuleView, Rulebook, RulebookError, Source};
pub use service::Shards;
pub use unit::{Unit, UnitError, UnitHandle, UnitOptions};
pub use unit_host::UnitHost;
pub use units::Units;
pub use user_reader::{PageStart, UserCall, UserEvent, UserLog, UserPage};
