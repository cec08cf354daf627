//! The body of `PUT /rules/{id}`.

use super::json::{Raw, json_text, members};
use super::read::{Reject, kind_of};
use crate::model::{KeyPattern, Limit, Mode, Rule, RuleError, RuleId, Window};

/// Why a body is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleReject {
    #[error(transparent)]
    Json(#[from] Reject),
    #[error(transparent)]
    Rule(#[from] RuleError),
}

const FIELDS: [&str; 6] = ["id", "key", "limit", "window", "kind", "mode"];

/// Reads a rule; a member that is not a rule's is an error, for it was meant to say something. `id` may be there if it is
/// the path's. What depends on the settings is checked by [`Rule::check`].
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
    Ok(Rule {
        id: rule_id,
        key: read_key(present(key))?,
        kind: present(kind).map(kind_of).transpose()?.unwrap_or_default(),
        limit: read_limit(limit)?,
        window: read_window(present(window))?,
        mode: present(mode).map(read_mode).transpose()?.unwrap_or_default(),
    })
}

fn present(raw: Option<Raw<'_>>) -> Option<Raw<'_>> {
    raw.filter(|raw| !raw.is_null())
}

fn read_key(raw: Option<Raw<'_>>) -> Result<KeyPattern, Reject> {
    let raw = raw.ok_or_else(|| Reject::new("missing_key", "key is missing"))?;
    let invalid = |why: String| Reject::new(Reject::INVALID_KEY, format!("key {why}"));
    let text = raw.text().ok_or_else(|| invalid(format!("must be a string, not {}", raw.name())))?;
    KeyPattern::new(&text).map_err(|why| invalid(why.to_string()))
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

fn read_mode(raw: Raw<'_>) -> Result<Mode, Reject> {
    match raw.text().as_deref() {
        Some("enforce") => Ok(Mode::Enforce),
        Some("shadow") => Ok(Mode::Shadow),
        _ => Err(Reject::new("invalid_mode", "mode is neither \"enforce\" nor \"shadow\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rule = read_rule("brand-x", r#"{"key":"campaign:42","limit":3,"window":"24h"}"#).unwrap();
        assert_eq!((rule.id.as_str(), rule.key.to_string().as_str(), rule.limit), ("brand-x", "campaign:42", Some(3)));
        assert_eq!((rule.kind, rule.mode), (Kind::IMPRESSION, Mode::Enforce));
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
