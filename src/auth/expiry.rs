//! When a key expires.

use crate::model::TsMs;

/// Reads an instant: RFC 3339 with its offset, as TOML's own date and time or as text.
pub(super) fn read(value: &toml::Value) -> Result<TsMs, &'static str> {
    const EXPECTED: &str = "is not an instant with its offset, such as 2030-01-01T00:00:00Z";
    let text = match value {
        toml::Value::Datetime(at) => at.to_string(),
        toml::Value::String(text) => text.clone(),
        _ => return Err(EXPECTED),
    };
    TsMs::from_iso8601(&text).map_err(|_| EXPECTED)
}
