//! Rules, as they are read from `PUT /rules/{id}` and as they are answered.

use super::verdict::{Mode, window_of_rule};
use crate::input::{Raw, Reject, json_text, kind_of, members};
use crate::model::{self, KeyPattern, Kind, Limit, Rule, RuleError, RuleId, TsMs, Window};
use crate::shard::{self, RuleView};
use serde::Serialize;

/// The body of `PUT /rules/{id}`: a rule as it is written.
#[derive(Debug, Clone, PartialEq, utoipa::ToSchema)]
#[schema(description = "A rule.", example = json!({"key": "campaign:42", "limit": 3, "window": "24h"}))]
pub struct RuleBody {
    /// One key (`campaign:42`) or every key of a level (`campaign:*`)
    #[schema(value_type = String)]
    pub key: KeyPattern,
    /// A positive integer, at most `history_limit` unless the window is `lifetime`; null exempts. Must be there
    #[schema(value_type = Option<u64>, required = true, minimum = 1)]
    pub limit: Limit,
    /// The window in which events count.
    #[schema(schema_with = window_of_rule)]
    pub window: Window,
    /// `impression` without it
    #[schema(value_type = Option<String>)]
    pub kind: Kind,
    /// `enforce` without it
    #[schema(value_type = Option<Mode>)]
    pub mode: model::Mode,
}

/// Why a body is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RuleReject {
    #[error(transparent)]
    Json(#[from] Reject),
    #[error(transparent)]
    Rule(#[from] RuleError),
}

const FIELDS: [&str; 6] = ["id", "key", "limit", "window", "kind", "mode"];

/// Reads a rule. An unknown member is an error, for it was meant to say something. `id` may be there if it is the path's.
/// [`Rule::check`] checks what depends on the settings.
pub fn read_rule(id: &str, body: &str) -> Result<Rule, RuleReject> {
    let rule_id = RuleId::new(id)?;
    let body = json_text(body);
    if body.trim_ascii_start().as_bytes().first() != Some(&b'{') {
        let value = Raw::new(body).map_err(Reject::from)?;
        return Err(Reject::new(Reject::NOT_AN_OBJECT, format!("a rule is an object, not {}", value.name())).into());
    }
    let mut found: [Option<Raw<'_>>; FIELDS.len()] = [None; FIELDS.len()];
    let mut unknown = None;
    members(
        body,
        |name| Some(FIELDS.iter().position(|field| *field == name).ok_or_else(|| name.to_owned())),
        |field, value| {
            match field {
                Ok(field) => found[field] = Some(value),
                Err(name) => drop(unknown.get_or_insert(name)),
            }
            Ok(())
        },
    )
    .map_err(Reject::from)?;
    if let Some(name) = unknown {
        let detail = format!("a rule has no member {name:?}; it has key, limit, window, kind, mode");
        return Err(Reject::new("unknown_field", detail).into());
    }
    let [told_id, key, limit, window, kind, mode] = found;
    if told_id.is_some_and(|told| told.text().as_deref() != Some(id)) {
        return Err(Reject::new("invalid_rule_id", "id is not that of the path").into());
    }
    let body = RuleBody {
        key: read_key(present(key))?,
        kind: present(kind).map(kind_of).transpose()?.unwrap_or_default(),
        limit: read_limit(limit)?,
        window: read_window(present(window))?,
        mode: present(mode).map(read_mode).transpose()?.unwrap_or_default(),
    };
    let RuleBody { key, limit, window, kind, mode } = body;
    Ok(Rule { id: rule_id, key, kind, limit, window, mode })
}

fn present(raw: Option<Raw<'_>>) -> Option<Raw<'_>> {
    raw.filter(|raw| !raw.is_null())
}

fn read_key(raw: Option<Raw<'_>>) -> Result<KeyPattern, Reject> {
    let raw = raw.ok_or_else(|| Reject::new("missing_key", "key is missing"))?;
    let text = raw.text().ok_or_else(|| format!("must be a string, not {}", raw.name()));
    let key = text.and_then(|text| KeyPattern::new(&text).map_err(|why| why.to_string()));
    key.map_err(|why| Reject::new(Reject::INVALID_KEY, format!("key {why}")))
}

/// Null is a limit, too: it must be written out.
fn read_limit(raw: Option<Raw<'_>>) -> Result<Limit, RuleReject> {
    let missing = "limit is missing; null, which exempts, must be written out";
    let raw = raw.ok_or_else(|| Reject::new("missing_limit", missing))?;
    if raw.is_null() {
        return Ok(None);
    }
    let wrong =
        || Reject::new("invalid_limit", format!("limit must be a positive integer or null, not {}", raw.name()));
    let digits = raw.integer().ok_or_else(wrong)?;
    // What is negative or too long to read is out of range like zero.
    Ok(Some(digits.parse().unwrap_or(if digits.starts_with('-') { 0 } else { u64::MAX })))
}

fn read_window(raw: Option<Raw<'_>>) -> Result<Window, Reject> {
    let raw = raw.ok_or_else(|| Reject::new("missing_window", "window is missing"))?;
    Window::read_json(raw.source()).map_err(|why| Reject::new(why.code(), format!("window {why}")))
}

fn read_mode(raw: Raw<'_>) -> Result<model::Mode, Reject> {
    match raw.text().as_deref() {
        Some("enforce") => Ok(model::Mode::Enforce),
        Some("shadow") => Ok(model::Mode::Shadow),
        _ => Err(Reject::new("invalid_mode", "mode is neither \"enforce\" nor \"shadow\"")),
    }
}

/// A rule with what is known about it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "brand-x", "key": "campaign:42", "kind": "impression", "limit": 3, "window": "24h", "mode": "enforce",
    "source": "api", "mirror": {"done": 256, "total": 256}
}))]
pub struct RuleAnswer {
    /// Name of the rule.
    #[schema(example = "brand-x")]
    pub id: String,
    /// One key, or `<level>:*`, every key of the level that has no rule of this kind of its own.
    #[schema(example = "campaign:42")]
    pub key: String,
    /// The kind of events that it counts.
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    /// At most so many in the window; null exempts the key from every other rule of the kind.
    #[schema(value_type = Option<u64>)]
    pub limit: Limit,
    /// The window in which events count.
    #[schema(schema_with = window_of_rule)]
    pub window: Window,
    /// Whether it caps.
    pub mode: Mode,
    /// Who keeps it: only a rule of the `api` is changed here.
    pub source: Source,
    /// How far caps were judged by it.
    pub mirror: Mirrored,
    /// The rule reaches further back than events were held when it came: from here on its counts are whole. Only until
    /// then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub complete_from: Option<TsMs>,
}

/// How far what is mirrored follows the rule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Mirrored {
    /// Shards whose caps were judged since the rule changed, and what came of it told to Redis, where there is one.
    #[schema(example = 256)]
    pub done: usize,
    /// Shards in all.
    #[schema(example = 256)]
    pub total: usize,
}

/// All rules.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RulesAnswer {
    /// By id.
    pub rules: Vec<RuleAnswer>,
}

impl From<RuleView> for RuleAnswer {
    fn from(view: RuleView) -> Self {
        Self {
            id: view.rule.id.as_str().to_owned(),
            key: view.rule.key.to_string(),
            kind: view.rule.kind,
            limit: view.rule.limit,
            window: view.rule.window.clone(),
            mode: view.rule.mode.into(),
            source: view.source.into(),
            mirror: Mirrored { done: view.done, total: view.total },
            complete_from: view.complete_from,
        }
    }
}

/// Who keeps a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(description = "Who made a rule, and alone may change it.")]
pub enum Source {
    /// Made by `--limit` and `--window`.
    Flags,
    /// Made by the settings file.
    File,
    /// Made by a call.
    Api,
}

impl From<shard::Source> for Source {
    fn from(source: shard::Source) -> Self {
        match source {
            shard::Source::Flags => Self::Flags,
            shard::Source::File => Self::File,
            shard::Source::Api => Self::Api,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rule = read_rule("brand-x", r#"{"key":"campaign:42","limit":3,"window":"24h"}"#).unwrap();
        assert_eq!((rule.id.as_str(), rule.key.to_string().as_str(), rule.limit), ("brand-x", "campaign:42", Some(3)));
        assert_eq!((rule.kind, rule.mode), (Kind::IMPRESSION, model::Mode::Enforce));
        let body = r#"{"id":"r","key":"da:*","limit":null,"window":{"calendar":"day","tz":"Asia/Seoul"},"kind":"click",
            "mode":"enforce"}"#;
        let rule = read_rule("r", body).unwrap();
        assert_eq!((rule.limit, rule.kind), (None, Kind::CLICK));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        let with = |member: &str| format!(r#"{{"key":"da:1","limit":1,"window":"1d",{member}}}"#);
        for (body, expected) in [
            ("{".to_owned(), "invalid_json"),
            ("[]".to_owned(), "not_an_object"),
            (with(r#""limits":3"#), "unknown_field"),
            (with(r#""id":"other""#), "invalid_rule_id"),
            (with(r#""key":null"#), "missing_key"),
            (with(r#""key":"da""#), "invalid_key"),
            (with(r#""key":7"#), "invalid_key"),
            (r#"{"key":"da:1","window":"1d"}"#.to_owned(), "missing_limit"),
            (with(r#""limit":"3""#), "invalid_limit"),
            (with(r#""limit":3.5"#), "invalid_limit"),
            (with(r#""window":null"#), "missing_window"),
            (with(r#""window":5"#), "invalid_window"),
            (with(r#""window":"5x""#), "invalid_window"),
            (with(r#""window":"40000d""#), "window_too_long"),
            (with(r#""window":{"calendar":"day","tz":"Mars/Base"}"#), "unknown_zone"),
            (with(r#""window":{"calendar":"year","tz":"UTC"}"#), "invalid_window"),
            (with(r#""kind":"Click""#), "invalid_kind"),
            (with(r#""mode":"off""#), "invalid_mode"),
        ] {
            match read_rule("r", &body) {
                Err(RuleReject::Json(reject)) => assert_eq!(reject.code, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert_eq!(read_rule("a b", &with(r#""kind":null"#)), Err(RuleReject::Rule(RuleError::Id)));
        for (limit, read) in [("0", 0), ("-3", 0), ("99999999999999999999", u64::MAX)] {
            assert_eq!(read_rule("r", &with(&format!(r#""limit":{limit}"#))).unwrap().limit, Some(read));
        }
    }
}
