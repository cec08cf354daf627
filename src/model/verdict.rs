//! Verdicts: capped or not, until when, by which rule.

use super::{Kind, Limit, Mode, RuleId, TsMs, Window};
use std::sync::Arc;

/// The most shadow rules that an answer lists; of the rest it only says how many there are.
pub const MAX_SHADOWS: usize = 16;

/// What one rule says of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: RuleId,
    /// The key that it counts.
    pub key: Arc<str>,
    /// The kind of events that it counts.
    pub kind: Kind,
    /// Whether it caps.
    pub mode: Mode,
    /// Its limit.
    pub limit: Limit,
    /// Its window.
    pub window: Window,
    /// Events in the window, at most `history_limit` (not for a lifetime).
    pub count: u64,
    /// `limit - count`, never negative; null where the limit is.
    pub remaining: Limit,
    /// For a shadow rule: what it would have done.
    pub capped: bool,
    /// Until when it caps, or would cap.
    pub capped_until: Option<TsMs>,
    /// Whether `count` is but a lower bound: an `at` before what a full log keeps.
    pub partial: bool,
}

/// Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from `rule` to
/// `remaining` speak for the rule that binds, and are null where no enforced rule does.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether any enforced rule caps.
    pub capped: bool,
    /// When the last of those caps ends.
    pub capped_until: Option<TsMs>,
    /// The rule that binds.
    pub rule: Option<RuleId>,
    /// The key that the rule counts.
    pub key: Option<Arc<str>>,
    /// The kind that was asked for.
    pub kind: Kind,
    /// The window of the rule.
    pub window: Option<Window>,
    /// Events in the window.
    pub count: u64,
    /// The limit of the rule.
    pub limit: Limit,
    /// Events left until the rule caps.
    pub remaining: Limit,
    /// Whether `count` is a lower bound.
    pub partial: bool,
    /// By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    pub rules: Vec<RuleVerdict>,
    /// How many more shadow rules were judged and are not listed. Only where there are any.
    pub shadow_omitted: usize,
}

/// A key of a user that is capped now.
#[derive(Debug, Clone, PartialEq)]
pub struct UserCap {
    /// The key.
    pub key: Arc<str>,
    /// When the cap ends.
    pub capped_until: TsMs,
    /// The rule that caps for longest.
    pub rule: RuleId,
    /// The kind of events that the rule counts.
    pub kind: Kind,
}
