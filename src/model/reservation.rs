//! What is answered to a call of `/reserve`.

use super::{RuleId, TsMs};
use serde::Serialize;

/// What became of the candidates that were looked at, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "req-9",
    "reserved": [{"da": "78", "expires_at": 1732233660000u64}],
    "refused": [{"da": "77", "rule": "default", "key": "da:77", "capped_until": 1732665600000u64}]
}))]
pub struct ReserveAnswer {
    /// That of the events which confirm what was reserved; made up where the call had none.
    pub id: String,
    pub reserved: Vec<Reserved>,
    pub refused: Vec<Refused>,
}

/// An ad that was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reserved {
    pub da: String,
    /// When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the event with
    /// this id was counted before.
    #[schema(value_type = Option<u64>)]
    pub expires_at: Option<TsMs>,
}

/// An ad that is capped, and by what for longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Refused {
    pub da: String,
    #[schema(value_type = String, example = "default")]
    pub rule: RuleId,
    #[schema(example = "da:77")]
    pub key: String,
    #[schema(value_type = u64)]
    pub capped_until: TsMs,
}
