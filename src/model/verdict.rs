//! Verdicts: capped or not, until when, by which rule.

use super::{Kind, Limit, Mode, RuleId, TsMs, Window};
use std::sync::Arc;

/// The most shadow rules that an answer lists; of the rest it only says how many there are.
pub const MAX_SHADOWS: usize = 16;

/// What one rule says of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleVerdict {
    pub rule: RuleId,
    pub key: Arc<str>,
    pub kind: Kind,
    pub mode: Mode,
    pub limit: Limit,
    pub window: Window,
    /// Events in the window, at most `history_limit` (not for a lifetime).
    pub count: u64,
    /// `limit - count`, never negative; null where the limit is.
    pub remaining: Limit,
    /// For a shadow rule: what it would have done.
    pub capped: bool,
    pub capped_until: Option<TsMs>,
    /// Whether `count` is but a lower bound: an `at` before what a full log keeps.
    pub partial: bool,
}

/// Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from `rule` to
/// `remaining` speak for the rule that binds, and are null where no enforced rule does.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub capped: bool,
    pub capped_until: Option<TsMs>,
    pub rule: Option<RuleId>,
    pub key: Option<Arc<str>>,
    pub kind: Kind,
    pub window: Option<Window>,
    pub count: u64,
    pub limit: Limit,
    pub remaining: Limit,
    pub partial: bool,
    /// By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    pub rules: Vec<RuleVerdict>,
    /// How many more shadow rules were judged and are not listed. Only where there are any.
    pub shadow_omitted: usize,
}

/// A key of a user that is capped now.
#[derive(Debug, Clone, PartialEq)]
pub struct UserCap {
    pub key: Arc<str>,
    pub capped_until: TsMs,
    pub rule: RuleId,
    pub kind: Kind,
}
