//! Who writes and who reads: 256 shards, owned by a few writer threads, read by anybody.
//!
//! A block of events goes through [`Router::count`] to the writers of its shards, each of which takes what its mailbox
//! holds, runs the engine over it and commits one write. Reads go straight to the store through [`Reader`] and never
//! wait for a write.

mod block;
mod health;
mod mailbox;
mod metrics;
mod reader;
mod recheck;
mod router;
mod service;
mod syncer;
mod timers;
mod turn;
mod writer;

pub use block::{BlockBuilder, EventBlock};
pub use health::{Health, Refusal};
pub use reader::{AdQuery, Reader, ReaderError};
pub use router::{CappedKey, Counted, Router};
pub use service::{Options, Shards};
