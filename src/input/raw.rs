//! A JSON value that stays text until it is needed.

use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a text stops being JSON, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {at}: {why}")]
pub struct NotJson {
    /// Bytes before the error.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl NotJson {
    #[cold]
    pub(super) fn new(json: &str, error: &serde_json::Error) -> Self {
        let lines = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let at = if error.is_eof() { json.len() } else { (lines + error.column()).saturating_sub(1) };
        let told = error.to_string();
        Self { at, why: told.rsplit_once(" at line ").map_or(told.as_str(), |(why, _)| why).to_owned() }
    }
}

/// A value that was found and not parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// Valid JSON without white space around it.
    Json(&'a str),
    /// The same for a string without escapes, with its quotes.
    Plain(&'a str),
    /// The cell of a table, which has no type.
    Cell(&'a str),
}

impl<'a> Raw<'a> {
    /// Takes a text that is exactly one value.
    pub fn new(json: &'a str) -> Result<Self, NotJson> {
        serde_json::from_str::<&RawValue>(json).map(Self::from).map_err(|error| NotJson::new(json, &error))
    }

    pub fn source(self) -> &'a str {
        match self {
            Self::Json(source) | Self::Plain(source) | Self::Cell(source) => source,
        }
    }

    /// The text of a string or a cell; `None` for anything else, and for a string that is not valid text (a lone
    /// surrogate).
    #[inline]
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Cell(text) => Some(Cow::Borrowed(text)),
            Self::Plain(json) => Some(Cow::Borrowed(&json[1..json.len() - 1])),
            Self::Json(json) => match json.strip_prefix('"')?.strip_suffix('"')? {
                escaped if escaped.contains('\\') => serde_json::from_str(json).ok().map(Cow::Owned),
                plain => Some(Cow::Borrowed(plain)),
            },
        }
    }

    /// The digits of a number without fraction and exponent.
    pub fn integer(self) -> Option<&'a str> {
        Some(self.source()).filter(|source| is_integer(source))
    }

    pub fn is_null(self) -> bool {
        matches!(self, Self::Json("null"))
    }

    /// Its type, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cell(_) | Self::Plain(_) => "a string",
            Self::Json(json) => match json.as_bytes().first() {
                Some(b'"') => "a string",
                Some(b'{') => "an object",
                Some(b'[') => "an array",
                Some(b't' | b'f') => "true or false",
                Some(b'n') => "null",
                _ if is_integer(json) => "an integer",
                _ => "a number with fraction or exponent",
            },
        }
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self::Json(value.get())
    }
}

pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
