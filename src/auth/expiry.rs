//! When a key expires.

use crate::model::{TsError, TsMs};

/// Reads an instant: RFC 3339 with its offset, as TOML's own date and time or as text.
pub(super) fn read(value: &toml::Value) -> Result<TsMs, &'static str> {
    const EXPECTED: &str = "is not an instant with its offset, such as 2030-01-01T00:00:00Z";
    let text = match value {
        toml::Value::Datetime(at) => at.to_string(),
        toml::Value::String(text) => text.clone(),
        _ => return Err(EXPECTED),
    };
    match TsMs::from_iso8601(&text) {
        Ok(at) => Ok(at),
        Err(TsError::Form) => Err(EXPECTED),
        // Times of events are bounded, to tell seconds from milliseconds. A key may expire in the year 9999, or be long gone.
        Err(TsError::NotMilliseconds) if text.get(..4).is_some_and(|year| year > "5000") => Ok(TsMs(u64::MAX)),
        Err(TsError::NotMilliseconds) => Ok(TsMs(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_expire_at_any_time() {
        let of = |text: &str| read(&toml::Value::String(text.to_owned()));
        assert_eq!(of("2030-01-01T00:00:00Z"), Ok(TsMs(1_893_456_000_000)));
        assert_eq!(of("2030-01-01T09:00:00+09:00"), Ok(TsMs(1_893_456_000_000)));
        assert_eq!(of("9999-12-31T23:59:59Z"), Ok(TsMs(u64::MAX)));
        assert_eq!(of("1970-01-01T00:00:00Z"), Ok(TsMs(0)));
        assert!(of("2030-01-01").is_err() && of("9999").is_err() && of("").is_err());
    }
}
