//! Takes JSON apart one level at a time. Values stay text until they are needed.

use super::fast_json;
use super::raw::{NotJson, Raw};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use std::fmt;

/// Removes the byte order mark that some editors and serialisers write.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The JSON text that a text holds: the same without a byte order mark, be it behind white space.
#[inline]
pub fn json_text(text: &str) -> &str {
    // Nearly all texts begin with a bracket.
    if !text.bytes().next().is_some_and(|byte| byte == 0xef || byte.is_ascii_whitespace()) {
        return text;
    }
    text.trim_ascii_start().strip_prefix('\u{feff}').unwrap_or(text)
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
