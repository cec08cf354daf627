//! The answers to `/check`, `/reserve` and `/release`.

use super::is_zero;
use super::why::WhyAnswer;
use crate::model::{Limit, RuleId, TsMs};
use crate::shard;
use serde::{Deserialize, Serialize, Serializer};

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
    /// Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub keys_cut: usize,
}

/// The verdicts of a call, and the pixels of those that are not capped, where they are asked for. Each is converted as it is
/// written.
pub struct CandidateVerdicts<'a>(pub &'a [shard::CandidateVerdict<'a>], pub &'a [Option<String>]);

impl Serialize for CandidateVerdicts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pixels = self.1.iter().map(Option::as_deref).chain(std::iter::repeat(None));
        let verdicts = self.0.iter().zip(pixels);
        serializer.collect_seq(verdicts.map(|(said, pixel)| CandidateVerdict { pixel, ..CandidateVerdict::from(said) }))
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
    /// Path and query of a signed pixel that counts the ad once. Only where `pixel` asks for it and the ad is not capped; not
    /// where its URL would be too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pixel: Option<&'a str>,
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
            pixel: None,
        }
    }
}

/// What became of the candidates that were looked at, in their order.
// The form of [`crate::model::ReserveAnswer`], which is stored as it is written.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
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
    /// Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    #[serde(default, skip_serializing_if = "is_zero")]
    keys_cut: usize,
}

/// An ad that was reserved.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reserved {
    da: String,
    /// When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the event with
    /// this id was counted before.
    expires_at: Option<u64>,
    /// Path and query of a signed pixel that confirms it. Only where `pixel` asks for it; not where its URL would be too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pixel: Option<String>,
}

/// Adds to the stored answer of a reservation what is of this call alone: the pixels of what was reserved, by their ads in the
/// order of the answer, and keys that were left out. `None` where the answer is none.
pub fn completed_reservation(
    stored: &[u8],
    keys_cut: usize,
    mut pixel_of: impl FnMut(&str, &str) -> Option<String>,
) -> Option<Vec<u8>> {
    let mut answer: ReserveAnswer = serde_json::from_slice(stored).ok()?;
    answer.keys_cut = keys_cut;
    for reserved in &mut answer.reserved {
        reserved.pixel = pixel_of(&answer.id, &reserved.da);
    }
    serde_json::to_vec(&answer).ok()
}

/// An ad that is capped, and by what for longest.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
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
            reserved: vec![Reserved { da: da.clone(), expires_at: Some(5), pixel: None }],
            refused: vec![Refused { da, rule, key, capped_until: 7 }],
            keys_cut: 0,
        };
        let stored = serde_json::to_string(&stored).unwrap();
        assert_eq!(stored, serde_json::to_string(&documented).unwrap());
        let same = completed_reservation(stored.as_bytes(), 0, |_, _| None).unwrap();
        assert_eq!(String::from_utf8(same).unwrap(), stored);
        let more = completed_reservation(stored.as_bytes(), 2, |id, da| Some(format!("/{id}/{da}"))).unwrap();
        let more: serde_json::Value = serde_json::from_slice(&more).unwrap();
        assert_eq!((&more["reserved"][0]["pixel"], &more["keys_cut"]), (&"/r/77".into(), &2.into()));
    }
}
