//! Rules in the form of AdCP's `frequency_cap`: a limit in a window, and a pause after each impression. What cannot be enforced is
//! refused, never dropped.

use super::rule::RuleReject;
use crate::input::{Raw, Reject, json_text, members};
use crate::model::{KeyPattern, Kind, Mode, Rule, RuleId, Window};

/// What the rule of the pause is called after the other one.
const SUPPRESS: &str = ".suppress";
/// The code of what a rule cannot say.
const NOT_ENFORCEABLE: &str = "not_enforceable";
const INVALID: &str = "invalid_frequency_cap";

/// A rule in the form of AdCP.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({
    "key": "campaign:42",
    "frequency_cap": {"max_impressions": 3, "per": "individuals", "window": {"interval": 7, "unit": "days"}, "suppress": {"interval": 60, "unit": "minutes"}}
}))]
pub struct FrequencyCapBody {
    /// Of `POST /rules`: what the rules are called; made up without it
    pub id: Option<String>,
    /// One key (`campaign:42`) or every key of a level (`campaign:*`)
    pub key: String,
    /// The cap.
    pub frequency_cap: FrequencyCap,
    /// `enforce` without it
    pub mode: Option<super::verdict::Mode>,
}

/// AdCP's frequency cap. It makes two rules, `<id>` and `<id>.suppress`, of which both must allow an impression.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
pub struct FrequencyCap {
    /// At most so many impressions in `window`; they come together
    #[schema(minimum = 1)]
    pub max_impressions: Option<u64>,
    /// Who has them: `individuals`
    pub per: Option<String>,
    /// In which window.
    pub window: Option<AdcpDuration>,
    /// How long after an impression there is no other
    pub suppress: Option<AdcpDuration>,
    /// The same in minutes
    pub suppress_minutes: Option<u64>,
}

/// AdCP's duration.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"interval": 7, "unit": "days"}))]
pub struct AdcpDuration {
    /// How many of the unit.
    #[schema(minimum = 1)]
    pub interval: u64,
    /// `seconds`, `minutes`, `hours`, `days`, or `campaign`: for ever, with interval 1
    pub unit: String,
}

/// The rules that a frequency cap makes.
#[derive(Debug, Clone, PartialEq)]
pub struct AdcpRules {
    /// One or two.
    pub rules: Vec<Rule>,
    /// Those that an earlier frequency cap of the same id may have made, and this one does not.
    pub without: Vec<RuleId>,
}

/// Whether a body has a `frequency_cap`.
pub fn is_adcp(body: &str) -> bool {
    let mut is = false;
    let read = members(
        json_text(body),
        |name| (name == "frequency_cap").then_some(()),
        |(), _| {
            is = true;
            Ok(())
        },
    );
    read.is_ok() && is
}

/// Reads the body. `id` is that of the path; without one it is in the body, or `made_up`.
pub fn read_adcp(id: Option<&str>, made_up: &str, body: &str) -> Result<AdcpRules, RuleReject> {
    const FIELDS: [&str; 4] = ["id", "key", "frequency_cap", "mode"];
    let [told_id, key, cap, mode] = object(json_text(body), FIELDS, "the body", "unknown_field")?;
    let told =
        told_id.map(|raw| raw.text().ok_or_else(|| Reject::new("invalid_rule_id", "id is not text"))).transpose()?;
    let id = match (id, told.as_deref()) {
        (Some(path), Some(told)) if path != told => {
            return Err(Reject::new("invalid_rule_id", "id is not that of the path").into());
        }
        (Some(path), _) => path,
        (None, told) => told.unwrap_or(made_up),
    };
    let (id, suppress_id) = (RuleId::new(id)?, RuleId::new(&format!("{id}{SUPPRESS}"))?);
    let key = key.ok_or_else(|| Reject::new("missing_key", "key is missing"))?;
    let key = key.text().and_then(|text| KeyPattern::new(&text).ok());
    let key = key.ok_or_else(|| Reject::new(Reject::INVALID_KEY, "key is neither <level>:<id> nor <level>:*"))?;
    let mode = match mode.map(Raw::text) {
        None => Mode::Enforce,
        Some(text) => match text.as_deref() {
            Some("enforce") => Mode::Enforce,
            Some("shadow") => Mode::Shadow,
            _ => return Err(Reject::new("invalid_mode", "mode is neither \"enforce\" nor \"shadow\"").into()),
        },
    };
    let cap = cap.ok_or_else(|| Reject::new(INVALID, "frequency_cap is missing"))?;
    let Cap { limit, suppress } = read_cap(cap)?;
    let rule = |id: RuleId, limit: u64, window: Window| Rule {
        id,
        key: key.clone(),
        kind: Kind::IMPRESSION,
        limit: Some(limit),
        window,
        mode,
    };
    let (mut rules, mut without) = (Vec::new(), Vec::new());
    match limit {
        Some((limit, window)) => rules.push(rule(id, limit, window)),
        None => without.push(id),
    }
    match suppress {
        Some(window) => rules.push(rule(suppress_id, 1, window)),
        None => without.push(suppress_id),
    }
    Ok(AdcpRules { rules, without })
}

struct Cap {
    limit: Option<(u64, Window)>,
    suppress: Option<Window>,
}

fn read_cap(raw: Raw<'_>) -> Result<Cap, Reject> {
    const FIELDS: [&str; 5] = ["max_impressions", "per", "window", "suppress", "suppress_minutes"];
    let [max, per, window, suppress, minutes] = object(raw.source(), FIELDS, "frequency_cap", NOT_ENFORCEABLE)?;
    if let Some(per) = per {
        match per.text().as_deref() {
            Some("individuals" | "users" | "user") => {}
            Some(other) => {
                let detail = format!("per {other:?} cannot be enforced: events are counted by user (individuals)");
                return Err(Reject::new(NOT_ENFORCEABLE, detail));
            }
            None => return Err(Reject::new(INVALID, "per is not text")),
        }
    }
    let limit = match (max.map(|raw| positive(raw, "max_impressions")).transpose()?, window) {
        (Some(limit), Some(window)) => Some((limit, duration(window, "window")?)),
        (None, None) => None,
        (Some(_), None) => return Err(Reject::new(INVALID, "max_impressions needs a window")),
        (None, Some(_)) => return Err(Reject::new(INVALID, "window needs max_impressions")),
    };
    let suppress = match (suppress, minutes) {
        (Some(_), Some(_)) => return Err(Reject::new(INVALID, "suppress and suppress_minutes say the same")),
        (Some(raw), None) => Some(duration(raw, "suppress")?),
        (None, Some(raw)) => Some(rolling(positive(raw, "suppress_minutes")?, "m", "suppress_minutes")?),
        (None, None) => None,
    };
    if limit.is_none() && suppress.is_none() {
        return Err(Reject::new(INVALID, "frequency_cap has neither max_impressions nor suppress"));
    }
    Ok(Cap { limit, suppress })
}

fn duration(raw: Raw<'_>, name: &str) -> Result<Window, Reject> {
    let [interval, unit] = object(raw.source(), ["interval", "unit"], name, NOT_ENFORCEABLE)?;
    let missing = |member: &str| Reject::new(INVALID, format!("{name}.{member} is missing"));
    let interval = positive(interval.ok_or_else(|| missing("interval"))?, &format!("{name}.interval"))?;
    let unit = unit.ok_or_else(|| missing("unit"))?.text();
    match unit.as_deref() {
        Some("seconds") => rolling(interval, "s", name),
        Some("minutes") => rolling(interval, "m", name),
        Some("hours") => rolling(interval, "h", name),
        Some("days") => rolling(interval, "d", name),
        Some("campaign") if interval == 1 => Ok(Window::Lifetime),
        Some("campaign") => Err(Reject::new(INVALID, format!("{name}: the unit campaign has the interval 1"))),
        Some(other) => {
            let detail =
                format!("{name}.unit {other:?} cannot be enforced: seconds, minutes, hours, days or campaign can");
            Err(Reject::new(NOT_ENFORCEABLE, detail))
        }
        None => Err(Reject::new(INVALID, format!("{name}.unit is not text"))),
    }
}

fn rolling(count: u64, unit: &str, name: &str) -> Result<Window, Reject> {
    let window = Window::read_json(&format!("\"{count}{unit}\""));
    window.map_err(|why| Reject::new(why.code(), format!("{name} {why}")))
}

fn positive(raw: Raw<'_>, name: &str) -> Result<u64, Reject> {
    let count = raw.integer().and_then(|digits| digits.parse().ok()).filter(|count| *count > 0);
    count.ok_or_else(|| Reject::new(INVALID, format!("{name} is not a positive integer")))
}

/// The members of an object, in the order of `fields`; null is as absent. One that is not among them is refused with `code`.
fn object<'a, const N: usize>(
    json: &'a str,
    fields: [&str; N],
    name: &str,
    code: &'static str,
) -> Result<[Option<Raw<'a>>; N], Reject> {
    if json.trim_ascii_start().as_bytes().first() != Some(&b'{') {
        let value = Raw::new(json)?;
        return Err(Reject::new(Reject::NOT_AN_OBJECT, format!("{name} is an object, not {}", value.name())));
    }
    let (mut found, mut unknown) = ([None; N], None);
    members(
        json,
        |member| Some(fields.iter().position(|field| *field == member).ok_or_else(|| member.to_owned())),
        |field, value| {
            match field {
                Ok(field) => found[field] = Some(value).filter(|value| !value.is_null()),
                Err(member) => drop(unknown.get_or_insert(member)),
            }
            Ok(())
        },
    )?;
    match unknown {
        None => Ok(found),
        Some(member) => {
            Err(Reject::new(code, format!("{name} has the member {member:?}; it may have {}", fields.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(cap: &Value) -> Result<Vec<String>, String> {
        let body = json!({"key": "campaign:42", "frequency_cap": cap}).to_string();
        assert!(is_adcp(&body));
        let rules = read_adcp(Some("c"), "", &body).map_err(|why| match why {
            RuleReject::Json(reject) => reject.code.to_owned(),
            RuleReject::Rule(why) => why.to_string(),
        })?;
        let told = |rule: &Rule| {
            let window = serde_json::to_string(&rule.window).unwrap();
            format!("{} {} {} {window}", rule.id.as_str(), rule.key, rule.limit.unwrap())
        };
        let without = rules.without.iter().map(|id| format!("-{}", id.as_str()));
        Ok(rules.rules.iter().map(told).chain(without).collect())
    }

    #[test]
    fn a_frequency_cap_makes_a_limit_and_a_pause() {
        let days = json!({"interval": 7, "unit": "days"});
        for (cap, expected) in [
            (
                json!({"max_impressions": 3, "per": "individuals", "window": days, "suppress": {"interval": 60, "unit": "minutes"}}),
                vec!["c campaign:42 3 \"7d\"", "c.suppress campaign:42 1 \"60m\""],
            ),
            (json!({"max_impressions": 3, "window": days}), vec!["c campaign:42 3 \"7d\"", "-c.suppress"]),
            (json!({"suppress_minutes": 90, "window": null}), vec!["c.suppress campaign:42 1 \"90m\"", "-c"]),
            (
                json!({"max_impressions": 9, "window": {"interval": 1, "unit": "campaign"}, "suppress": {"interval": 5, "unit": "seconds"}}),
                vec!["c campaign:42 9 \"lifetime\"", "c.suppress campaign:42 1 \"5s\""],
            ),
        ] {
            assert_eq!(read(&cap), Ok(expected.into_iter().map(str::to_owned).collect()), "{cap}");
        }
    }

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        let days = json!({"interval": 7, "unit": "days"});
        for (cap, code) in [
            (json!({"max_impressions": 3, "per": "households", "window": days}), "not_enforceable"),
            (json!({"max_impressions": 3, "per": "devices", "window": days}), "not_enforceable"),
            (json!({"max_impressions": 3, "window": {"interval": 1, "unit": "weeks"}}), "not_enforceable"),
            (json!({"max_impressions": 3, "window": days, "scope": "creative"}), "not_enforceable"),
            (
                json!({"max_impressions": 3, "window": {"interval": 7, "unit": "days", "from": "monday"}}),
                "not_enforceable",
            ),
            (json!({"max_impressions": 3}), INVALID),
            (json!({"window": days}), INVALID),
            (json!({}), INVALID),
            (json!({"max_impressions": 0, "window": days}), INVALID),
            (json!({"max_impressions": 1.5, "window": days}), INVALID),
            (json!({"max_impressions": 3, "per": 7, "window": days}), INVALID),
            (json!({"max_impressions": 3, "window": {"interval": 2, "unit": "campaign"}}), INVALID),
            (json!({"max_impressions": 3, "window": {"unit": "days"}}), INVALID),
            (json!({"suppress": {"interval": 1, "unit": "hours"}, "suppress_minutes": 60}), INVALID),
            (json!({"suppress": "1h"}), "not_an_object"),
            (json!([]), "not_an_object"),
        ] {
            assert_eq!(read(&cap), Err(code.to_owned()), "{cap}");
        }
    }

    #[test]
    fn the_body_says_what_it_is_about() {
        let cap = json!({"suppress_minutes": 1});
        let code = |id: Option<&str>, body: Value| match read_adcp(id, "made-up", &body.to_string()) {
            Ok(rules) => rules.rules[0].id.as_str().to_owned(),
            Err(RuleReject::Json(reject)) => reject.code.to_owned(),
            Err(RuleReject::Rule(_)) => "rule".to_owned(),
        };
        assert_eq!(code(None, json!({"key": "c:1", "frequency_cap": cap})), "made-up.suppress");
        assert_eq!(code(None, json!({"id": "x", "key": "c:*", "frequency_cap": cap, "mode": "shadow"})), "x.suppress");
        assert_eq!(code(Some("y"), json!({"id": "x", "key": "c:1", "frequency_cap": cap})), "invalid_rule_id");
        assert_eq!(code(Some(&"y".repeat(60)), json!({"key": "c:1", "frequency_cap": cap})), "rule");
        assert_eq!(code(None, json!({"frequency_cap": cap})), "missing_key");
        assert_eq!(code(None, json!({"key": "c", "frequency_cap": cap})), "invalid_key");
        assert_eq!(code(None, json!({"key": "c:1", "frequency_cap": cap, "limit": 3})), "unknown_field");
        assert_eq!(code(None, json!({"key": "c:1", "frequency_cap": cap, "mode": "x"})), "invalid_mode");
        assert!(!is_adcp(r#"{"key":"c:1","limit":1,"window":"1h"}"#) && !is_adcp("[]") && !is_adcp("{"));
    }
}
