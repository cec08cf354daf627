//! What a user, a key, an event, a window, a rule, a log and a verdict is. Pure: no clock, no I/O.

mod cap;
mod event;
mod id;
mod key;
mod kind;
mod log;
mod rule;
mod shard;
mod time;
mod verdict;
mod window;

pub use cap::{CapPlan, CapRow};
pub use event::{Event, MAX_KEYS};
pub use id::{DaId, EventId, IdError, MAX_ID_BYTES, UserId};
pub use key::{CapKey, KeyError, KeyPattern, Level};
pub use kind::{Kind, KindError, NAME_MAX};
pub use log::{Entry, Inserted, Log, Section};
pub use rule::{Limit, Mode, Rule, RuleError, RuleId, RuleSet};
pub use shard::{SHARDS, ShardId, murmur2};
pub use time::{Span, SpanError, TsError, TsMs};
pub use verdict::{RuleVerdict, UserCap, Verdict};
pub use window::{CalendarUnit, Period, Window, WindowError, Zone};
