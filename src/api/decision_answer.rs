//! The answers to `/check`, `/reserve` and `/release`.

use super::is_zero;
use super::why::WhyAnswer;
use crate::model::{Limit, RuleId, TsMs};
use crate::shard;
use serde::{Serialize, Serializer};

/// The verdicts, in the order asked.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({"user": "u1", "results": [
    {"da": "77", "capped": true, "capped_until": 1732665600000u64, "rule": "default", "key": "da:77", "count": 5, "limit": 5, "remaining": 0},
    {"da": "78", "capped": false, "capped_until": null, "rule": "brand-x", "key": "campaign:42", "count": 1, "limit": 3, "remaining": 2}
]}))]
pub struct CheckAnswer<'a> {
    /// The user that was asked about.
    pub user: &'a str,
    /// A verdict for each candidate, in the order asked.
    #[schema(value_type = Vec<CandidateVerdict>)]
    pub results: CandidateVerdicts<'a>,
}

/// The verdicts of a call. Each is converted as it is written.
pub struct CandidateVerdicts<'a>(pub &'a [shard::CandidateVerdict<'a>]);

impl Serialize for CandidateVerdicts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(CandidateVerdict::from))
    }
}

/// What is said of one candidate of many.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CandidateVerdict<'a> {
    #[schema(example = "77")]
    da: &'a str,
    capped: bool,
    #[schema(value_type = Option<u64>)]
    capped_until: Option<TsMs>,
    #[schema(value_type = Option<String>, example = "default")]
    rule: Option<&'a RuleId>,
    #[schema(example = "da:77")]
    key: Option<&'a str>,
    #[schema(example = 2)]
    count: u64,
    #[schema(value_type = Option<u64>, example = 5)]
    limit: Limit,
    #[schema(value_type = Option<u64>, example = 3)]
    remaining: Limit,
    /// The instant asked for lies before what a full log keeps: `count` is a lower bound. Only where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    /// The shadow rules that would have capped, the first 16 of them. Only where there are any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>)]
    would_cap: &'a [&'a RuleId],
    /// How many more would have capped. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    shadow_omitted: usize,
    /// Why. Only where `explain` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<WhyAnswer<'a>>,
}

impl<'a> From<&'a shard::CandidateVerdict<'a>> for CandidateVerdict<'a> {
    fn from(said: &'a shard::CandidateVerdict<'a>) -> Self {
        Self {
            da: said.da,
            capped: said.capped,
            capped_until: said.capped_until,
            rule: said.rule,
            key: said.key,
            count: said.count,
            limit: said.limit,
            remaining: said.remaining,
            partial: said.partial,
            would_cap: &said.would_cap,
            shadow_omitted: said.shadow_omitted,
            why: said.why.as_deref().map(WhyAnswer::from),
        }
    }
}

/// What became of the candidates that were looked at, in their order.
// The form of [`crate::model::ReserveAnswer`], which is stored as it is written.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "req-9",
    "reserved": [{"da": "78", "expires_at": 1732233660000u64}],
    "refused": [{"da": "77", "rule": "default", "key": "da:77", "capped_until": 1732665600000u64}]
}))]
pub struct ReserveAnswer {
    /// That of the events which confirm what was reserved; made up where the call had none.
    id: String,
    reserved: Vec<Reserved>,
    refused: Vec<Refused>,
}

/// An ad that was reserved.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Reserved {
    da: String,
    /// When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the event with
    /// this id was counted before.
    expires_at: Option<u64>,
}

/// An ad that is capped, and by what for longest.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Refused {
    da: String,
    #[schema(example = "default")]
    rule: String,
    #[schema(example = "da:77")]
    key: String,
    capped_until: u64,
}

/// How much was given back.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReleaseAnswer {
    /// Candidates given back; what is confirmed, lapsed or unknown is none.
    #[schema(example = 1)]
    pub released: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn the_stored_answer_of_a_reservation_is_written_as_documented() {
        let (da, key, rule) = ("77".to_owned(), "da:77".to_owned(), "default".to_owned());
        let stored = model::ReserveAnswer {
            id: "r".to_owned(),
            reserved: vec![model::Reserved { da: da.clone(), expires_at: Some(TsMs(5)) }],
            refused: vec![model::Refused {
                da: da.clone(),
                rule: RuleId::new(&rule).unwrap(),
                key: key.clone(),
                capped_until: TsMs(7),
            }],
        };
        let documented = ReserveAnswer {
            id: "r".to_owned(),
            reserved: vec![Reserved { da: da.clone(), expires_at: Some(5) }],
            refused: vec![Refused { da, rule, key, capped_until: 7 }],
        };
        assert_eq!(serde_json::to_string(&stored).unwrap(), serde_json::to_string(&documented).unwrap());
    }
}
