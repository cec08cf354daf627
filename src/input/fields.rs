//! The `[fields]` of the settings file, for payloads with other names than the standard ones.

use crate::model::Zone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where the fields of an event are: dotted paths into JSON objects, or names of columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldsConfig {
    /// Where the user is.
    pub user: Option<String>,
    /// Where the ad is.
    pub da: Option<String>,
    /// Where the time is.
    pub ts: Option<String>,
    /// Where the id is.
    pub id: Option<String>,
    /// Where the kind is.
    pub kind: Option<String>,
    /// Paths by level: the value there makes the key `<level>:<value>`.
    pub keys: BTreeMap<String, String>,
    /// The path by which a change-data record says that its row was deleted: the value there is `d`, `true` or true
    /// (`payload.op`, `__deleted`).
    pub deleted: Option<String>,
    /// What precedes the JSON in a record's value.
    pub framing: Framing,
    /// Number of bytes before the JSON in a record's value, instead of a framing.
    pub skip_bytes: u16,
    /// The unit of the time at `ts`, or, without `ts`, under the standard names.
    pub ts_unit: TsUnit,
}

/// What precedes the JSON in a record's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Nothing.
    #[default]
    None,
    /// A zero byte and the four bytes of a schema id, as schema-registry serialisers write them.
    Confluent,
}

/// The unit of a time. Numbers may be quoted. RFC 3339 text is accepted with every unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum TsUnit {
    /// Integer of milliseconds since 1970.
    #[default]
    Ms,
    /// Integer or decimal of seconds since 1970.
    S,
    /// Integer of microseconds since 1970.
    Us,
    /// Integer of nanoseconds since 1970.
    Ns,
    /// Text of date and time with an offset; numbers are milliseconds.
    Text,
    /// Text without an offset, in this zone (`2024-11-22 10:00:00.123`).
    Civil(Zone),
}

/// Why `[fields]` are invalid; the text begins with the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum FieldsError {
    #[error("fields.{field}: {path:?} is no dotted path of at most {PATH_MAX} names (such as payload.user.id)")]
    Path { field: String, path: String },
    #[error("fields.skip_bytes: fields.framing says already what comes before the JSON")]
    TwoFramings,
    #[error("fields.keys.{0}: a level has the form [a-z][a-z0-9_]{{0,31}}, and `da` is the ad itself")]
    Level(String),
}

/// Paths are followed by recursion.
pub(super) const PATH_MAX: usize = 16;

impl fmt::Display for TsUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TsUnit::Ms => f.write_str("ms"),
            TsUnit::S => f.write_str("s"),
            TsUnit::Us => f.write_str("us"),
            TsUnit::Ns => f.write_str("ns"),
            TsUnit::Text => f.write_str("text"),
            TsUnit::Civil(zone) => write!(f, "text:{}", zone.name()),
        }
    }
}

impl Serialize for TsUnit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TsUnit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.strip_prefix("text:")) {
            ("ms", _) => Ok(Self::Ms),
            ("s", _) => Ok(Self::S),
            ("us", _) => Ok(Self::Us),
            ("ns", _) => Ok(Self::Ns),
            ("text", _) => Ok(Self::Text),
            (_, Some(zone)) => Zone::new(zone).map(Self::Civil).map_err(D::Error::custom),
            _ => Err(D::Error::custom(format!(
                "{text:?} is none of \"ms\", \"s\", \"us\", \"ns\", \"text\" (RFC 3339) and \"text:<IANA time zone>\""
            ))),
        }
    }
}
