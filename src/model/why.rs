//! Why a verdict is what it is.

use super::{DisplacedBy, Kind, RuleId, TsMs};
use std::sync::Arc;

/// The most events that an explanation lists: the newest of those that the binding rule counts.
pub const MAX_WHY_EVENTS: usize = 256;

/// The reason of a verdict, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyCode {
    /// An enforced rule caps.
    Capped,
    /// The rule that binds has events left.
    UnderLimit,
    /// A rule without limit exempts a key from all others of its kind, and no other binds.
    Exempt,
    /// No rule speaks for the keys.
    NoRule,
    /// Only shadow rules speak for the keys; they never cap.
    ShadowOnly,
}

/// Why a verdict is what it is, judged on the same logs and rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// In one word.
    pub code: WhyCode,
    /// In a sentence.
    pub text: String,
    /// When the count of the binding rule changes by itself, and to what.
    pub next: Option<NextCount>,
    /// Events until the binding rule caps; `None` where it caps already, or none binds.
    pub needed: Option<u64>,
    /// The newest of what the binding rule counts, oldest first, and then the reservations.
    pub events: Vec<CountedEvent>,
    /// How many more it counts that are not listed: a lifetime count goes beyond what a log keeps.
    pub events_omitted: u64,
    /// Enforced rules that would speak for a key if another did not take their place.
    pub displaced: Vec<Displaced>,
    /// The instant that was judged.
    pub as_of: TsMs,
    /// The revision of the rules.
    pub revision: u64,
}

/// What a rule will count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextCount {
    /// From this instant on.
    pub at: TsMs,
    /// The count then, if no event comes.
    pub count: u64,
}

/// An event, or a reservation, that the binding rule counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedEvent {
    /// When it happened or was reserved.
    pub ts: TsMs,
    /// The ad, where the log is that of an ad: the logs of other keys do not keep it.
    pub da: Option<Arc<str>>,
    /// Of its ad and id; `None` where it had no id.
    pub hash: Option<u64>,
    /// Of a reservation: when it lapses.
    pub expires_at: Option<TsMs>,
    /// The first instant at which the rule no longer counts it.
    pub leaves_at: TsMs,
}

/// An enforced rule that does not speak for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displaced {
    /// The rule.
    pub rule: RuleId,
    /// The key.
    pub key: Arc<str>,
    /// The kind of events that both rules count.
    pub kind: Kind,
    /// The rule that took its place.
    pub by: RuleId,
    /// Why.
    pub reason: DisplacedBy,
}
