//! Events, and what became of them.

use super::text::{IdText, InstantText};
use super::verdict::CapAnswer;
use crate::model::{OverCause, RuleId};
use crate::shard::{CappedKey, OverKey};
use serde::Serialize;

/// What became of one event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventAnswer<'a> {
    /// `counted`, `duplicate`, `late`, `erased` or `ignored`.
    #[schema(example = "counted")]
    pub result: &'static str,
    /// As `GET /cap` with the event's keys, after the event.
    pub cap: CapAnswer<'a>,
    /// Keys that a rule had capped when the event happened, and why it was served nevertheless. Of several the first capped for
    /// longest: the event is counted under that. Only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<EventOver>,
}

/// A key that a rule had capped when a counted event happened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventOver {
    /// Of a batch: which element, or line, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The key.
    #[schema(example = "da:77")]
    pub key: String,
    /// The rule that had capped it.
    #[schema(value_type = String, example = "default")]
    pub rule: RuleId,
    /// `in_flight`: before the cap could be known. `mirror`: Redis was not told yet. `ignored`: the cap could be read. `lapsed`:
    /// its reservation had expired or was released. `rule_change`: a rule that came later caps it. `backfill`: it came from
    /// Kafka more than `max_skew` late.
    #[schema(value_type = String, example = "ignored")]
    pub cause: OverCause,
    /// What the rule counted before the event.
    #[schema(example = 5)]
    pub count: u64,
    /// The limit of the rule.
    #[schema(example = 5)]
    pub limit: u64,
    /// From when the event happened to when it was counted, in ms.
    pub delay_ms: u64,
}

impl EventOver {
    /// Of a batch's event.
    pub fn of_batch(over: OverKey) -> Self {
        let OverKey { index, key, rule, cause, count, limit, delay_ms } = over;
        Self { index: Some(index), key, rule, cause, count, limit, delay_ms }
    }

    /// Of the only event.
    pub fn of_one(over: OverKey) -> Self {
        Self { index: None, ..Self::of_batch(over) }
    }
}

/// What became of a batch.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct BatchAnswer {
    /// Events that count.
    #[schema(example = 998)]
    pub counted: usize,
    /// Events whose id was counted before.
    #[schema(example = 1)]
    pub duplicate: usize,
    /// Events too old to count.
    pub late: usize,
    /// Events from before their user's erasure.
    pub erased: usize,
    /// Of users that mean nobody (`null`, the all-zero advertising id, macros that nobody replaced): kept nowhere.
    pub ignored: usize,
    /// Events that are invalid; `errors` says why.
    #[schema(example = 1)]
    pub rejected: usize,
    /// The first 100 rejected.
    pub errors: Vec<EventError>,
    /// The keys that went from not capped to capped by this call.
    pub capped: Vec<Capped>,
    /// Keys that a rule had capped when counted events happened, the first 100 by index. Only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<EventOver>,
    /// How many more there are.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub over_omitted: usize,
    /// Only in a 503: events that were not taken. Sending the whole call again is safe for events with ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<usize>,
}

/// What became of one event, or of a batch.
// The two forms; each is written by itself.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
pub enum EventsAnswer<'a> {
    /// The answer to one event.
    One(EventAnswer<'a>),
    /// The answer to a batch.
    Batch(BatchAnswer),
}

/// An event that was rejected.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventError {
    /// Which element, or line (blank ones are counted), from 0.
    pub index: usize,
    /// Stable; programs go by it.
    #[schema(example = "ts_not_milliseconds")]
    pub code: &'static str,
    /// For people; names the field.
    pub detail: String,
}

/// A key that became capped by the call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Capped {
    /// The user.
    pub user: String,
    /// The key.
    #[schema(example = "da:77")]
    pub key: String,
    /// When the cap ends, in ms since 1970.
    pub capped_until: u64,
}

/// An event.
// The form of what `crate::input` parses into a [`crate::model::Event`] without copying it; a test holds them equal.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "da": "77", "ts": 1732233600000u64, "id": "imp-1", "keys": ["campaign:42"]}))]
pub struct EventBody {
    /// Also `user_no`, `user_id`.
    pub user: IdText,
    /// Also `da_id`, `ad_id`.
    pub da: IdText,
    /// The log time; now without it. Also `logTime`, `log_time`, `timestamp`.
    pub ts: Option<InstantText>,
    /// With it a retry counts once. Also `event_id`.
    pub id: Option<IdText>,
    /// `impression` without it.
    pub kind: Option<String>,
    /// Keys counted besides the ad's own, `<level>:<id>`; at most 16.
    pub keys: Option<Vec<String>>,
}

impl From<CappedKey> for Capped {
    fn from(CappedKey { user, key, until }: CappedKey) -> Self {
        Self { user, key, capped_until: until.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{EventReader, FieldsConfig};
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    #[test]
    fn every_documented_member_of_an_event_is_read() {
        let schema = serde_json::to_value(EventBody::schema()).unwrap();
        let mut members: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(members, ["da", "id", "keys", "kind", "ts", "user"]);
        let reader = EventReader::new(&FieldsConfig::default()).unwrap();
        let example = schema["example"].clone();
        let read = |event: &Value| format!("{:?}", reader.event(event.to_string().as_bytes()).unwrap());
        let whole =
            json!({"user": "u", "da": "d", "ts": 1732233600000u64, "id": "i", "kind": "click", "keys": ["c:1"]});
        read(&example);
        // Without it, something is missing or the event is another one.
        for member in members {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(&member);
            let read_without = reader.event(without.to_string().as_bytes()).map(|event| format!("{event:?}"));
            assert_ne!(read_without.ok(), Some(read(&whole)), "{member}");
        }
    }
}
