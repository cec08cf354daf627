//! Writes and reads of the 256 shards. A few writer threads own them; any thread reads.
//!
//! A batch of events goes through [`Router::count`] to the writers of its shards. A writer takes what its mailbox
//! holds, runs the engine over it and commits one write. Reads go straight to the store through [`Reader`] and never
//! wait for a write.

mod backfill;
mod bucket_commit;
#[cfg(test)]
mod bucket_tests;
mod catalogue;
mod clock_watch;
mod command;
mod count;
mod ended_caps;
mod erase;
mod eraser;
mod erasures;
mod event_batch;
mod group_commit;
mod health;
mod kafka_batch;
mod mailbox;
mod metrics;
mod opt_outs;
mod options;
mod over;
mod partition_sender;
mod precondition;
mod progress;
mod reader;
mod recheck;
mod refusal;
mod reserve;
mod router;
mod rule_lines;
mod rule_source;
mod rulebook;
mod service;
mod survey;
mod sync_watch;
mod tally;
mod task;
#[cfg(test)]
mod tests;
mod timers;
mod tombstones;
mod turn;
mod unit;
mod user_reader;
mod working_set;
mod writer;

pub use backfill::BackfillPage;
pub use catalogue::{AdsSeen, Catalogue, Joined, MAX_ADS};
pub use clock_watch::{ask_to_accept_clock, is_asked_to_accept_clock};
pub use count::TOO_MANY_KINDS;
pub use event_batch::{EventBatch, EventBatchBuilder};
pub use health::Health;
pub use metrics::describe as describe_metrics;
pub use opt_outs::{OptOuts, OptedOutVerdict};
pub use options::{Options, SettingFlags, Settings};
pub use over::OverKey;
pub use partition_sender::PartitionSender;
pub use precondition::Precondition;
pub use reader::{BLOCKING_THREADS, CandidateVerdict, Reader, ReaderError};
pub use refusal::{BUCKET_UNAVAILABLE, ROW_UNREADABLE, Refusal, SUPERSEDED};
pub use reserve::{Reserve, ReserveOutcome};
pub use router::{CappedKey, Counted, Router};
pub use rule_source::Source;
#[cfg(any(test, fuzzing))]
pub(crate) use rulebook::stored_rule;
pub use rulebook::{MAX_RULES, RuleView, Rulebook, RulebookError};
pub use service::Shards;
pub use survey::{Answer, Asked, Found, Progress, Question as SurveyQuestion, Survey, SurveyBusy, TopKey, TopReach};
pub use unit::{Resources, Unit, UnitError, UnitHandle, UnitOptions};
pub use user_reader::{PageStart, UserCall, UserEvent, UserLog, UserPage};
