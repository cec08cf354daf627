//! Why a verdict is what it is, as it is answered.

use crate::model::{self, Kind, RuleId, TsMs};
use serde::{Serialize, Serializer};

/// The reason of a verdict, in one word.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyCode {
    /// An enforced rule caps.
    Capped,
    /// The rule that binds has events left.
    UnderLimit,
    /// A rule without limit exempts a key, and no other binds.
    Exempt,
    /// No rule speaks for the keys.
    NoRule,
    /// Only shadow rules speak for the keys; they never cap.
    ShadowOnly,
}

impl From<model::WhyCode> for WhyCode {
    fn from(code: model::WhyCode) -> Self {
        match code {
            model::WhyCode::Capped => Self::Capped,
            model::WhyCode::UnderLimit => Self::UnderLimit,
            model::WhyCode::Exempt => Self::Exempt,
            model::WhyCode::NoRule => Self::NoRule,
            model::WhyCode::ShadowOnly => Self::ShadowOnly,
        }
    }
}

/// Why a verdict is what it is, from the same logs and rules as the verdict.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Why)]
pub struct WhyAnswer<'a> {
    code: WhyCode,
    /// The same in a sentence, for people.
    #[schema(example = "5 of 5 impressions of da:77 in 5d; the first leaves at 2024-11-27T00:00:00Z")]
    text: &'a str,
    /// When the count of the binding rule falls if no event comes; null where it counts nothing, or none binds.
    #[schema(value_type = Option<NextCount>)]
    next: Option<NextCount>,
    /// Events until the binding rule caps; null where it does already, or none binds.
    needed: Option<u64>,
    /// What the binding rule counts: the newest 256, oldest first, and then reservations.
    #[schema(value_type = Vec<WhyEvent>)]
    events: WhyEvents<'a>,
    /// How many more it counts. Only where there are any.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(value_type = Option<u64>)]
    events_omitted: u64,
    /// Enforced rules on the keys or their levels that do not speak for them, and which do instead.
    #[schema(value_type = Vec<Displaced>)]
    displaced: WhyDisplaced<'a>,
    /// The instant that was judged.
    #[schema(value_type = u64)]
    as_of: TsMs,
    /// The revision of the rules: it rises with every change.
    revision: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What a rule will count if no event comes.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub struct NextCount {
    /// From this instant on.
    #[schema(value_type = u64)]
    at: TsMs,
    count: u64,
}

/// An event, or a reservation, that the binding rule counts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WhyEvent<'a> {
    #[schema(value_type = u64)]
    ts: TsMs,
    /// The ad; null in the log of another key, which does not keep it.
    #[schema(example = "77")]
    da: Option<&'a str>,
    /// 64 bits, in hex, of the ad and the event's id. Null where it had none.
    hash: Option<String>,
    /// Of a reservation: when it lapses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    expires_at: Option<TsMs>,
    /// Whether it is a reservation that no event has confirmed. Only where it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reserved: bool,
    /// The first instant at which the rule no longer counts it.
    #[schema(value_type = u64)]
    leaves_at: TsMs,
}

impl<'a> From<&'a model::CountedEvent> for WhyEvent<'a> {
    fn from(event: &'a model::CountedEvent) -> Self {
        Self {
            ts: event.ts,
            da: event.da.as_deref(),
            hash: event.hash.map(|hash| format!("{hash:016x}")),
            expires_at: event.expires_at,
            reserved: event.expires_at.is_some(),
            leaves_at: event.leaves_at,
        }
    }
}

/// Why a rule takes another's place.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisplacedBy {
    /// It is on the key itself, the other on the key's level.
    ExactOverWildcard,
    /// It exempts the key.
    Exempt,
}

/// An enforced rule that does not speak for a key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Displaced<'a> {
    #[schema(value_type = String, example = "default")]
    rule: &'a RuleId,
    #[schema(example = "da:77")]
    key: &'a str,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    /// The rule that took its place.
    #[schema(value_type = String, example = "brand-x")]
    by: &'a RuleId,
    reason: DisplacedBy,
}

impl<'a> From<&'a model::Displaced> for Displaced<'a> {
    fn from(displaced: &'a model::Displaced) -> Self {
        Self {
            rule: &displaced.rule,
            key: &displaced.key,
            kind: displaced.kind,
            by: &displaced.by,
            reason: match displaced.reason {
                model::DisplacedBy::ExactOverWildcard => DisplacedBy::ExactOverWildcard,
                model::DisplacedBy::Exempt => DisplacedBy::Exempt,
            },
        }
    }
}

/// The events of an explanation. Each is converted as it is written.
#[derive(Debug)]
struct WhyEvents<'a>(&'a [model::CountedEvent]);

impl Serialize for WhyEvents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(WhyEvent::from))
    }
}

/// The displaced rules of an explanation, likewise.
#[derive(Debug)]
struct WhyDisplaced<'a>(&'a [model::Displaced]);

impl Serialize for WhyDisplaced<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Displaced::from))
    }
}

impl<'a> From<&'a model::Why> for WhyAnswer<'a> {
    fn from(why: &'a model::Why) -> Self {
        Self {
            code: why.code.into(),
            text: &why.text,
            next: why.next.map(|next| NextCount { at: next.at, count: next.count }),
            needed: why.needed,
            events: WhyEvents(&why.events),
            events_omitted: why.events_omitted,
            displaced: WhyDisplaced(&why.displaced),
            as_of: why.as_of,
            revision: why.revision,
        }
    }
}
