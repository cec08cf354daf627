//! Rules in files.

use crate::input::json_text;
use crate::model::{KeyPattern, Kind, Limit, Mode, Rule, RuleId, Window};
use crate::settings::Value;
use serde::{Deserialize, Deserializer};

/// A rule in a file: `[[rules]]` in TOML, an object in JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    /// `campaign:42`, or `campaign:*` for every key of the level.
    pub key: String,
    /// The kind of event that is counted.
    #[serde(default)]
    pub kind: Kind,
    /// A positive integer; `"none"`, or null in JSON, exempts. Required.
    #[serde(deserialize_with = "limit")]
    pub limit: Limit,
    /// A duration, `lifetime`, or a calendar unit with a time zone.
    #[serde(deserialize_with = "window")]
    pub window: Window,
    /// Whether the rule caps, or only reports what it would do.
    #[serde(default)]
    pub mode: Mode,
}

impl RuleConfig {
    /// The rule `default`, for every ad.
    pub fn default_rule(limit: Limit, window: Window, kind: Kind) -> Self {
        let (id, key) = (RuleId::DEFAULT.to_owned(), "da:*".to_owned());
        Self { id, key, kind, limit, window, mode: Mode::Enforce }
    }

    /// Parses a window as flags have it. The error completes "`text` ...".
    pub fn read_window(text: &str) -> Result<Window, String> {
        Window::read(text)
    }

    /// Parses JSON: an array of rules, or an object with that array as `rules`.
    pub fn list(json: &str) -> Result<Vec<Self>, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Object {
            rules: Vec<RuleConfig>,
        }
        let json = json_text(json);
        let rules = if json.trim_start().starts_with('[') {
            serde_json::from_str(json)
        } else {
            serde_json::from_str(json).map(|Object { rules }| rules)
        };
        rules.map_err(|why| why.to_string())
    }

    /// Checks the rule. The error begins with its id.
    pub fn rule(&self, history_limit: usize) -> Result<Rule, String> {
        self.checked(history_limit).map_err(|why| format!("rule {:?}: {why}", self.id))
    }

    fn checked(&self, history_limit: usize) -> Result<Rule, String> {
        let rule = Rule {
            id: RuleId::new(&self.id).map_err(|why| why.to_string())?,
            key: KeyPattern::new(&self.key).map_err(|why| format!("key {:?} {why}", self.key))?,
            kind: self.kind,
            limit: self.limit,
            window: self.window.clone(),
            mode: self.mode,
        };
        rule.check(history_limit).map_err(|why| why.to_string())?;
        Ok(rule)
    }
}

/// The JSON types of a limit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Integer(u64),
    Text(String),
    Null,
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
    const EXPECTED: &str = "limit must be a positive integer, or \"none\" to exempt";
    match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(EXPECTED))? {
        Written::Integer(limit) => Ok(Some(limit)),
        Written::Text(text) if text == "none" => Ok(None),
        Written::Null => Ok(None),
        Written::Text(_) => Err(serde::de::Error::custom(EXPECTED)),
    }
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Other(serde_json::Value),
    }
    let text = match Form::deserialize(deserializer)? {
        Form::Text(text) => text,
        Form::Other(value) => value.to_string(),
    };
    Window::read(&text).map_err(|why| serde::de::Error::custom(format!("window {text:?} {why}")))
}
