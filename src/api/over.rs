//! What is told of over-delivery.

use crate::model::{Kind, OverCause, RuleId, TsMs};
use crate::store::OverRow;
use serde::Serialize;

/// Events of keys that were capped when they happened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OverAnswer {
    /// Newest first.
    pub events: Vec<OverEntry>,
    /// Where older ones go on; null where there are none.
    #[schema(example = "42")]
    pub cursor: Option<String>,
}

/// An event, or several alike of one user that were counted at once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OverEntry {
    /// When it happened; of several, the last.
    #[schema(value_type = u64, example = 1732233600000u64)]
    pub ts: TsMs,
    /// When it was counted.
    #[schema(value_type = u64, example = 1732233600120u64)]
    pub at: TsMs,
    /// How many events there are: more than one only where many came at once.
    #[schema(example = 1)]
    pub events: u64,
    /// The user.
    #[schema(example = "u1")]
    pub user: String,
    /// The key that was capped.
    #[schema(example = "da:77")]
    pub key: String,
    /// The kind of the event.
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    /// The rule that had capped it.
    #[schema(value_type = String, example = "default")]
    pub rule: RuleId,
    /// Why it was served nevertheless, as in the answer to the event.
    #[schema(value_type = String, example = "ignored")]
    pub cause: OverCause,
    /// What the rule counted before it.
    #[schema(example = 5)]
    pub count: u64,
    /// The limit of the rule.
    #[schema(example = 5)]
    pub limit: u64,
    /// From `ts` to `at`, in ms.
    #[schema(example = 120)]
    pub delay_ms: u64,
}

impl From<OverRow> for OverEntry {
    fn from(row: OverRow) -> Self {
        let OverRow { ts, at, events, user, key, kind, rule, cause, count, limit, .. } = row;
        let delay_ms = at.0.saturating_sub(ts.0);
        Self { ts, at, events, user, key, kind, rule, cause, count, limit, delay_ms }
    }
}

/// How many of the events that were counted are over.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OverSummary {
    /// From when on: the beginning of an hour.
    #[schema(value_type = u64, example = 1732233600000u64)]
    pub since: TsMs,
    /// Events that were counted since then.
    #[schema(example = 1000000)]
    pub impressions: u64,
    /// Those of them whose key was capped when they happened.
    #[schema(example = 31)]
    pub over: u64,
    /// `over` of `impressions`; 0 where there are none.
    #[schema(example = 0.000031)]
    pub share: f64,
    /// By what was asked for, most first (hours in order); at most 1,000.
    pub by: Vec<OverGroup>,
    /// Of `over`, those that are not in `by`. Only where there are any.
    #[serde(skip_serializing_if = "is_nothing")]
    pub other: u64,
    /// Only where more events were over than are kept: from when on all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub complete_from: Option<TsMs>,
}

/// Leaves a count of nothing out of an answer.
fn is_nothing(count: &u64) -> bool {
    *count == 0
}

/// The events of one rule, cause, key or hour. It has the member that was asked for.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct OverGroup {
    /// With `by=rule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "default")]
    pub rule: Option<RuleId>,
    /// With `by=cause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<OverCause>,
    /// With `by=key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// With `by=hour`: its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub hour: Option<TsMs>,
    /// How many.
    #[schema(example = 31)]
    pub over: u64,
}
