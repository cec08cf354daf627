//! What is answered to a call of `/reserve`.

use super::{RuleId, TsMs};
use serde::Serialize;

/// What became of the candidates that were looked at, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReserveAnswer {
    /// That of the events which confirm what was reserved; made up where the call had none.
    pub id: String,
    /// The ads that were reserved.
    pub reserved: Vec<Reserved>,
    /// The ads that are capped.
    pub refused: Vec<Refused>,
}

/// An ad that was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The ad.
    pub da: String,
    /// When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the event with
    /// this id was counted before.
    pub expires_at: Option<TsMs>,
}

/// An ad that is capped, and by what for longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The ad.
    pub da: String,
    /// The rule that caps it for longest.
    pub rule: RuleId,
    /// The key that the rule counts.
    pub key: String,
    /// When the cap ends.
    pub capped_until: TsMs,
}
