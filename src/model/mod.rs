//! What a user, a key, an event, a window, a rule, a log and a verdict is. Pure: no clock, no I/O.

mod cap;
mod event;
mod id;
mod iso8601;
mod key;
mod kind;
mod log;
mod nobody;
mod reservation;
mod reserve_answer;
mod rule;
mod shard;
mod time;
mod verdict;
mod why;
mod window;

pub use cap::{CapChange, CapPlan, CapRow};
pub use event::{Candidate, Event, MAX_KEYS, event_hash};
pub use id::{DaId, EventId, IdError, MAX_ID_BYTES, UserId};
pub use iso8601::DateTime;
pub use key::{CapKey, KeyError, KeyPattern, Level};
pub use kind::{Kind, KindError, NAME_MAX};
pub use log::{Entry, Inserted, Log, MAX_KINDS, MAX_LOG_EVENTS, MAX_ROW_BYTES, Section};
pub use nobody::{Nobody, NobodyError};
pub use reservation::{MAX_RESERVATION_BYTES, MAX_RESERVATIONS, Reservation};
pub use reserve_answer::{Refused, ReserveAnswer, Reserved};
pub use rule::{DisplacedBy, DisplacedRule, Limit, Mode, Rule, RuleError, RuleId, RuleSet};
pub use shard::{SHARDS, ShardId, ShardSet, murmur2};
pub use time::{Span, SpanError, TsError, TsMs};
pub use verdict::{MAX_SHADOWS, RuleVerdict, UserCap, Verdict};
pub use why::{CountedEvent, Displaced, MAX_WHY_EVENTS, NextCount, Why, WhyCode};
pub use window::{Calendar, CalendarUnit, Period, Window, WindowError, Zone};
