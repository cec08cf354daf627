//! Verdicts, as they are answered.

use super::is_zero;
use super::why::WhyAnswer;
use crate::model::{self, Kind, Limit, RuleId, TsMs, Window};
use serde::{Serialize, Serializer};

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
pub(super) fn window_of_rule() -> utoipa::openapi::Schema {
    window_forms().into()
}

/// The window of a verdict: null where no rule binds.
fn window_of_verdict() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{Object, Type};
    window_forms().item(Object::with_type(Type::Null)).into()
}

/// What a rule that caps does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It caps.
    Enforce,
    /// Evaluated, reported and measured; never caps.
    Shadow,
}

impl From<model::Mode> for Mode {
    fn from(mode: model::Mode) -> Self {
        match mode {
            model::Mode::Enforce => Self::Enforce,
            model::Mode::Shadow => Self::Shadow,
        }
    }
}

/// What one rule says of one key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RuleVerdict<'a> {
    #[schema(value_type = String, example = "default")]
    rule: &'a RuleId,
    #[schema(example = "da:77")]
    key: &'a str,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    mode: Mode,
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    #[schema(schema_with = window_of_verdict)]
    window: &'a Window,
    /// Events in the window, at most `history_limit` (not for a lifetime).
    count: u64,
    /// `limit - count`, never negative; null where the limit is.
    #[schema(value_type = Option<u64>)]
    remaining: Limit,
    /// For a shadow rule: what it would have done.
    capped: bool,
    #[schema(value_type = Option<u64>)]
    capped_until: Option<TsMs>,
    /// Whether `count` is but a lower bound: an `at` before what a full log keeps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<'a> From<&'a model::RuleVerdict> for RuleVerdict<'a> {
    fn from(said: &'a model::RuleVerdict) -> Self {
        Self {
            rule: &said.rule,
            key: &said.key,
            kind: said.kind,
            mode: said.mode.into(),
            limit: said.limit,
            window: &said.window,
            count: said.count,
            remaining: said.remaining,
            capped: said.capped,
            capped_until: said.capped_until,
            partial: said.partial,
        }
    }
}

/// Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from `rule` to
/// `remaining` speak for the rule that binds, and are null where no enforced rule does.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Verdict<'a> {
    capped: bool,
    #[schema(value_type = Option<u64>)]
    capped_until: Option<TsMs>,
    #[schema(value_type = Option<String>)]
    rule: Option<&'a RuleId>,
    key: Option<&'a str>,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    #[schema(schema_with = window_of_verdict)]
    window: Option<&'a Window>,
    count: u64,
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    #[schema(value_type = Option<u64>)]
    remaining: Limit,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    /// By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    #[schema(value_type = Vec<RuleVerdict>)]
    rules: Rules<'a>,
    /// How many more shadow rules were judged and are not listed. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    shadow_omitted: usize,
}

/// What each rule says. Each is converted as it is written: an answer with many rules needs no second list of them.
#[derive(Debug)]
struct Rules<'a>(&'a [model::RuleVerdict]);

impl Serialize for Rules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(RuleVerdict::from))
    }
}

impl<'a> From<&'a model::Verdict> for Verdict<'a> {
    fn from(verdict: &'a model::Verdict) -> Self {
        Self {
            capped: verdict.capped,
            capped_until: verdict.capped_until,
            rule: verdict.rule.as_ref(),
            key: verdict.key.as_deref(),
            kind: verdict.kind,
            window: verdict.window.as_ref(),
            count: verdict.count,
            limit: verdict.limit,
            remaining: verdict.remaining,
            partial: verdict.partial,
            rules: Rules(&verdict.rules),
            shadow_omitted: verdict.shadow_omitted,
        }
    }
}

/// A verdict with whom and what it is about.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "user": "u1", "da": "77", "capped": true, "capped_until": 1732665600000u64, "rule": "default", "key": "da:77",
    "kind": "impression", "window": "5d", "count": 5, "limit": 5, "remaining": 0,
    "rules": [{"rule": "default", "key": "da:77", "kind": "impression", "mode": "enforce", "limit": 5, "window": "5d",
               "count": 5, "remaining": 0, "capped": true, "capped_until": 1732665600000u64}]
}))]
pub struct CapAnswer<'a> {
    /// The user.
    pub user: &'a str,
    /// The ad.
    pub da: &'a str,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict<'a>,
    /// Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub keys_cut: usize,
    /// Why. Only where `explain=true` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Box<WhyAnswer<'a>>>,
}
