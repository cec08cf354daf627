//! Verdicts: capped or not, until when, by which rule.

use super::{Kind, Limit, Mode, RuleId, TsMs, Window};
use serde::Serialize;
use std::sync::Arc;

/// A window as it is written: text (`"5d"`, `"lifetime"`) or an object (`{"calendar":"day","tz":"Asia/Seoul"}`).
fn window_forms() -> utoipa::openapi::schema::OneOfBuilder {
    use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Type};
    let text = ObjectBuilder::new().schema_type(Type::String).examples(["5d", "lifetime"]);
    let calendar = ObjectBuilder::new()
        .property(
            "calendar",
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["day", "week", "month"])),
        )
        .property("tz", Object::with_type(Type::String))
        .required("calendar")
        .required("tz");
    OneOfBuilder::new().item(text).item(calendar)
}

/// The window of a rule.
pub fn rule_window_schema() -> utoipa::openapi::Schema {
    window_forms().into()
}

/// The window of a verdict: null where no rule binds.
fn window_schema() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{Object, Type};
    window_forms().item(Object::with_type(Type::Null)).into()
}

/// The most shadow rules that an answer lists; of the rest it only says how many there are.
pub const MAX_SHADOWS: usize = 16;

/// What one rule says of one key.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RuleVerdict {
    #[schema(value_type = String, example = "default")]
    pub rule: RuleId,
    #[schema(value_type = String, example = "da:77")]
    pub key: Arc<str>,
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    pub mode: Mode,
    #[schema(value_type = Option<u64>)]
    pub limit: Limit,
    #[schema(schema_with = window_schema)]
    pub window: Window,
    /// Events in the window, at most `history_limit` (not for a lifetime).
    pub count: u64,
    /// `limit - count`, never negative; null where the limit is.
    #[schema(value_type = Option<u64>)]
    pub remaining: Limit,
    /// For a shadow rule: what it would have done.
    pub capped: bool,
    #[schema(value_type = Option<u64>)]
    pub capped_until: Option<TsMs>,
    /// Whether `count` is but a lower bound: an `at` before what a full log keeps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from `rule` to
/// `remaining` speak for the rule that binds, and are null where no enforced rule does.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Verdict {
    pub capped: bool,
    #[schema(value_type = Option<u64>)]
    pub capped_until: Option<TsMs>,
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    #[schema(value_type = Option<String>)]
    pub key: Option<Arc<str>>,
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    #[schema(schema_with = window_schema)]
    pub window: Option<Window>,
    pub count: u64,
    #[schema(value_type = Option<u64>)]
    pub limit: Limit,
    #[schema(value_type = Option<u64>)]
    pub remaining: Limit,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    pub rules: Vec<RuleVerdict>,
    /// How many more shadow rules were judged and are not listed. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub shadow_omitted: usize,
}

pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A key of a user that is capped now.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct UserCap {
    #[schema(value_type = String, example = "da:77")]
    pub key: Arc<str>,
    #[schema(value_type = u64)]
    pub capped_until: TsMs,
    #[schema(value_type = String, example = "default")]
    pub rule: RuleId,
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
}
