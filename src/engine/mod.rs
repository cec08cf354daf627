//! What an event does to the logs, and what the logs and rules say: pure functions of (log, rules, now).
//!
//! Nothing here reads a clock, a disk or a socket. A shard's writer, a reader, the backtest and the model test all run
//! this same code.

mod cap;
mod count;
mod judge;
mod ledger;
mod logs;
mod policy;
mod reserve;
mod why;
mod window_exit;

pub use cap::plan_cap;
pub use count::{Outcome, TsInFuture, admit, count, takes_kind};
pub use judge::{Applied, Bound, KeyLog, Question, Shadow, Tally, bind, capped_until, judge, unbound_count, user_cap};
pub use ledger::{Ledger, ReservationRequest};
pub use logs::Logs;
pub use policy::Policy;
pub use reserve::{ReservationTerm, has_room, is_counted, release, reserve};
pub use why::why;
pub use window_exit::{RuleExit, event_exits, reservation_exits};
