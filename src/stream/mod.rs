//! The stream of cap changes: what becomes of caps goes to whoever follows, in order for each user, at least once.
//!
//! ```text
//!  change log ──▶ hub (one thread) ──▶ ring ──▶ follower ──▶ queue ──▶ answer
//!       │                                          ▲
//!       └───── table `changes`, table `caps` ──────┘  after a resume, and for a snapshot
//! ```
//!
//! The hub reads each durable change once, however many follow. It writes it as JSON and puts it into the ring, which has
//! room for the newest. A follower takes from the ring what its reader asked for. One that is not in the ring's reach reads
//! the tables itself until it is. A reader that does not take what comes is told that it lags, and is let go.
//!
//! Changes stay in the log for readers that are away, for a time and up to a number. A reader resumes from a cursor, which has
//! the sequence of every shard. Where its changes are gone it is reset, and gets a snapshot of all caps.

mod batch;
mod cursor;
mod filter;
mod follower;
mod frame;
mod hub;
mod lag;
mod options;
mod outcome;
mod position;
mod queue;
mod retention;
mod ring;
mod shared;
mod source;
mod status;
mod stores;
mod streams;

pub use filter::{Filter, FilterError};
pub use follower::Start;
pub use frame::Framing;
pub use hub::Hub;
pub use options::{Options, SettingFlags, Settings};
pub use queue::StreamBody;
pub use status::describe as describe_metrics;
pub use streams::{OpenStreamError, Streams, open};
