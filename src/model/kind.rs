//! The kind of an event: `impression`, `click`, `conversion` or any other short name.

use std::fmt;

/// The longest kind or level name: a letter and up to 31 of `[a-z0-9_]`.
pub const NAME_MAX: usize = 32;

/// The text is no kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not of the form [a-z][a-z0-9_]{{0,31}}")]
pub struct KindError;

/// A kind of event. Small and `Copy`: logs and events carry it by value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    name: [u8; NAME_MAX],
    len: u8,
}

/// Whether a text is a lower-case name: `[a-z][a-z0-9_]{0,31}`, the form of kinds and levels.
pub(super) const fn is_name(text: &[u8]) -> bool {
    if text.is_empty() || text.len() > NAME_MAX || !text[0].is_ascii_lowercase() {
        return false;
    }
    let mut i = 1;
    while i < text.len() {
        let c = text[i];
        if !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_') {
            return false;
        }
        i += 1;
    }
    true
}

impl Kind {
    /// The ad was shown.
    pub const IMPRESSION: Kind = Kind::known("impression");
    /// The ad was clicked.
    pub const CLICK: Kind = Kind::known("click");
    /// The user did what the ad is for.
    pub const CONVERSION: Kind = Kind::known("conversion");

    const fn known(name: &str) -> Kind {
        match Kind::from_bytes(name.as_bytes()) {
            Some(kind) => kind,
            None => panic!("a known kind is a valid name"),
        }
    }

    const fn from_bytes(text: &[u8]) -> Option<Kind> {
        if !is_name(text) {
            return None;
        }
        let mut name = [0; NAME_MAX];
        let mut i = 0;
        while i < text.len() {
            name[i] = text[i];
            i += 1;
        }
        Some(Kind { name, len: text.len() as u8 })
    }

    /// Takes `[a-z][a-z0-9_]{0,31}`.
    pub fn new(text: &str) -> Result<Kind, KindError> {
        Kind::from_bytes(text.as_bytes()).ok_or(KindError)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.name[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Default for Kind {
    fn default() -> Self {
        Kind::IMPRESSION
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Kind::new(&text).map_err(|why| serde::de::Error::custom(format!("kind {text:?} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_short_lower_case_name() {
        for good in ["impression", "a", "view_2", &"x".repeat(32)] {
            assert_eq!(Kind::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "2a", "_a", "A", "a-b", "a b", &"x".repeat(33), "é"] {
            assert_eq!(Kind::new(bad), Err(KindError), "{bad:?}");
        }
    }
}
