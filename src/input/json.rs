//! JSON taken apart one level at a time. What is in a value stays text until somebody asks for it.

use super::fast_json;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A text without the byte order mark that some editors and serialisers put before it.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The JSON text that a text holds: the same without a byte order mark, be it behind white space.
#[inline]
pub fn json_text(text: &str) -> &str {
    // Nearly all begin with a bracket.
    if !text.bytes().next().is_some_and(|byte| byte == 0xef || byte.is_ascii_whitespace()) {
        return text;
    }
    text.trim_ascii_start().strip_prefix('\u{feff}').unwrap_or(text)
}

/// Where a text stops being JSON, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {at}: {why}")]
pub struct NotJson {
    /// Bytes before the spot.
    pub at: usize,
    pub why: String,
}

impl NotJson {
    #[cold]
    fn new(json: &str, error: &serde_json::Error) -> Self {
        let lines = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let at = if error.is_eof() { json.len() } else { (lines + error.column()).saturating_sub(1) };
        let told = error.to_string();
        Self { at, why: told.rsplit_once(" at line ").map_or(told.as_str(), |(why, _)| why).to_owned() }
    }
}

/// A value found, not yet understood.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// Valid JSON without white space around it.
    Json(&'a str),
    /// The same of a string without escapes, with its quotes.
    Plain(&'a str),
    /// The cell of a table, which says nothing of types.
    Cell(&'a str),
}

impl<'a> Raw<'a> {
    /// Takes a text that is one value.
    pub fn new(json: &'a str) -> Result<Self, NotJson> {
        serde_json::from_str::<&RawValue>(json).map(Self::from).map_err(|error| NotJson::new(json, &error))
    }

    pub fn source(self) -> &'a str {
        match self {
            Self::Json(source) | Self::Plain(source) | Self::Cell(source) => source,
        }
    }

    /// The text of a string or a cell; `None` of anything else, and of a string that is no text (a lone surrogate).
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

    /// What it is, for people.
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

/// Reads a text that is one array, giving each element to `each`.
pub(crate) fn elements<'a>(json: &'a str, each: impl FnMut(Raw<'a>)) -> Result<(), NotJson> {
    let mut deserializer = Deserializer::from_str(json);
    let read = deserializer.deserialize_seq(Elements(each)).and_then(|()| deserializer.end());
    read.map_err(|error| NotJson::new(json, &error))
}

/// Reads a text that is one object. `look` says by its name whether a member is wanted, and `keep` gets those.
#[inline]
pub(crate) fn members<'a, T>(
    json: &'a str,
    look: impl Fn(&str) -> Option<T>,
    mut keep: impl FnMut(T, Raw<'a>) -> Result<(), NotJson>,
) -> Result<(), NotJson> {
    match fast_json::members(json, &look) {
        Some(members) => members.into_iter().try_for_each(|(meaning, value)| keep(meaning, value)),
        None => members_by_library(json, look, keep),
    }
}

/// The same, of any object.
pub(super) fn members_by_library<'a, T>(
    json: &'a str,
    look: impl Fn(&str) -> Option<T>,
    keep: impl FnMut(T, Raw<'a>) -> Result<(), NotJson>,
) -> Result<(), NotJson> {
    let mut deserializer = Deserializer::from_str(json);
    let read = deserializer.deserialize_map(Members { look, keep }).and_then(|()| deserializer.end());
    read.map_err(|error| NotJson::new(json, &error))
}

struct Elements<F>(F);

impl<'de, F: FnMut(Raw<'de>)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(value) = array.next_element::<&RawValue>()? {
            (self.0)(value.into());
        }
        Ok(())
    }
}

struct Members<L, K> {
    look: L,
    keep: K,
}

impl<'de, T, L, K> Visitor<'de> for Members<L, K>
where
    L: Fn(&str) -> Option<T>,
    K: FnMut(T, Raw<'de>) -> Result<(), NotJson>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        // Names are taken raw, too: one that is no text (a lone surrogate) is still JSON, and names nothing known.
        while let Some(name) = object.next_key::<&RawValue>()? {
            match Raw::from(name).text().and_then(|name| (self.look)(&name)) {
                Some(wanted) => {
                    let value = object.next_value::<&RawValue>()?;
                    (self.keep)(wanted, value.into()).map_err(A::Error::custom)?;
                }
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
