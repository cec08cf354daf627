//! Instants and spans, in whole milliseconds.

use super::iso8601::DateTime;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TsMs(pub u64);

/// Why a number or a text is no log time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TsError {
    #[error("is not between 10^11 and 10^14, so it is not in milliseconds since 1970")]
    NotMilliseconds,
    #[error("is neither an integer of milliseconds nor a date and time with its offset (RFC 3339)")]
    Form,
}

impl TsMs {
    /// The earliest and the latest log time (1973 and 5138): a time in seconds or microseconds is outside.
    pub const RANGE: std::ops::RangeInclusive<i128> = 100_000_000_000..=100_000_000_000_000;

    /// Takes milliseconds since the epoch as a log time.
    pub fn from_millis(ms: i128) -> Result<Self, TsError> {
        if Self::RANGE.contains(&ms) { Ok(Self(ms as u64)) } else { Err(TsError::NotMilliseconds) }
    }

    /// Takes text of a date and a time of day with its offset, such as `2024-11-22T07:20:00.5Z`: RFC 3339 and its usual
    /// variants, see [`DateTime::read`].
    pub fn from_iso8601(text: &str) -> Result<Self, TsError> {
        let ms = DateTime::read(text).and_then(|written| written.unix_ms()).ok_or(TsError::Form)?;
        Self::from_millis(ms.into())
    }

    /// Takes text of an instant: the same, or an integer of milliseconds, which serialisers of 64-bit integers write in
    /// quotes.
    pub fn from_text(text: &str) -> Result<Self, TsError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::from_iso8601(text);
        }
        // An integer that is too long to parse is far out of range, too.
        text.parse().map_or(Err(TsError::NotMilliseconds), |ms: i64| Self::from_millis(ms.into()))
    }

    /// Later by `ms`; at most the last instant.
    pub fn saturating_add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Earlier by `ms`; 1970 at the earliest.
    pub fn saturating_sub(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl fmt::Display for TsMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A span as it was written: one positive integer and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy)]
pub struct Span {
    count: u64,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ms,
    S,
    M,
    H,
    D,
}

impl Unit {
    const ALL: [(&'static str, Unit, u64); 5] = [
        ("ms", Unit::Ms, 1),
        ("s", Unit::S, 1_000),
        ("m", Unit::M, 60_000),
        ("h", Unit::H, 3_600_000),
        ("d", Unit::D, 86_400_000),
    ];

    fn row(self) -> (&'static str, Unit, u64) {
        Self::ALL[self as usize]
    }
}

/// Why a text is no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum SpanError {
    #[error("is not one positive integer followed by one of ms, s, m, h, d (such as 90s or 5d)")]
    Form,
    #[error("is longer than 36500d")]
    TooLong,
}

impl Span {
    /// The longest span: a hundred years, so that no sum with a log time overflows.
    pub const MAX_MS: u64 = 36_500 * 86_400_000;

    /// So many days of 24 hours.
    pub const fn days(count: u64) -> Self {
        Self { count, unit: Unit::D }
    }

    /// So many hours.
    pub const fn hours(count: u64) -> Self {
        Self { count, unit: Unit::H }
    }

    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self { count, unit: Unit::S }
    }

    /// So many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self { count, unit: Unit::Ms }
    }

    /// Its length in milliseconds.
    pub fn as_millis(&self) -> u64 {
        self.count.saturating_mul(self.unit.row().2)
    }

    /// Its length as a standard duration.
    pub fn as_duration(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.as_millis())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let (_, unit, ms) = Unit::ALL.into_iter().find(|row| row.0 == unit).ok_or(SpanError::Form)?;
        if count.is_empty() {
            return Err(SpanError::Form);
        }
        let count: u64 = count.parse().map_err(|_| SpanError::TooLong)?;
        match count.checked_mul(ms) {
            Some(0) => Err(SpanError::Form),
            Some(all) if all <= Self::MAX_MS => Ok(Self { count, unit }),
            _ => Err(SpanError::TooLong),
        }
    }
}

impl PartialEq for Span {
    /// Equal when as long: `24h` is `1d`.
    fn eq(&self, other: &Self) -> bool {
        self.as_millis() == other.as_millis()
    }
}

impl Eq for Span {}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.row().0)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_an_integer_and_a_unit_and_prints_as_written() {
        for (text, ms) in [("90s", 90_000), ("5d", 432_000_000), ("250ms", 250), ("1h", 3_600_000), ("2m", 120_000)] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_millis(), span.to_string().as_str()), (ms, text));
        }
        assert_eq!("24h".parse::<Span>().unwrap(), "1d".parse().unwrap());
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for bad in ["", "5", "d", "0s", "-1s", "1.5h", "5 d", "5D", "1h30m", "+5s", "99999999999999999999d", "36501d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn seconds_and_microseconds_are_no_log_time() {
        assert!(TsMs::from_millis(1_732_233_600).is_err());
        assert!(TsMs::from_millis(1_732_233_600_000_000).is_err());
        assert!(TsMs::from_millis(-5).is_err());
    }

    #[test]
    fn an_instant_is_text_of_a_date_or_of_an_integer() {
        for text in ["1732233600000", "2024-11-22T00:00:00Z", "2024-11-22 09:00+09"] {
            assert_eq!(TsMs::from_text(text), Ok(TsMs(1_732_233_600_000)), "{text}");
        }
        for outside in ["1732233600", "-5", "0", "99999999999999999999999999"] {
            assert_eq!(TsMs::from_text(outside), Err(TsError::NotMilliseconds), "{outside}");
        }
        for bad in ["", "-", "1732233600000.0", "1.7e12", " 1732233600000", "+1732233600000", "soon"] {
            assert_eq!(TsMs::from_text(bad), Err(TsError::Form), "{bad:?}");
        }
    }
}
