//! What an event does to the logs, and what the logs and rules say: pure functions of (log, rules, now).
//!
//! Nothing here reads a clock, a disk or a socket. A shard's writer, a reader, the backtest and the model test all run
//! this same code.

mod cap;
mod count;
mod judge;
mod ledger;
mod policy;

pub use cap::plan_cap;
pub use count::{Outcome, TsInFuture, admit, classify};
pub use judge::{KeyLog, Question, capped_until, judge, user_cap};
pub use ledger::Ledger;
pub use policy::Policy;
