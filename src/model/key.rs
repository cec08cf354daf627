//! Cap keys: what is counted. `da:<id>` for the ad itself, `<level>:<id>` besides.

use super::id::{DaId, IdError, check_id};
use super::kind::{NAME_MAX, is_name};
use std::borrow::Cow;
use std::fmt;

/// Why a text is no cap key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum KeyError {
    #[error("has no `:` between level and id")]
    NoColon,
    #[error("has a level that is not of the form [a-z][a-z0-9_]{{0,31}}")]
    Level,
    #[error("has an id that {0}")]
    Id(#[from] IdError),
    #[error("is of level `da`, which only the ad itself makes")]
    DaLevel,
}

/// The level of a key: `da`, `campaign`, `advertiser`, ...
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(Box<str>);

impl Level {
    /// The level of ads.
    pub const DA: &'static str = "da";

    /// Checks a level: `[a-z][a-z0-9_]{0,31}`.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if is_name(text.as_bytes()) { Ok(Self(text.into())) } else { Err(KeyError::Level) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A cap key, `<level>:<id>`; the level ends at the first colon.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapKey<'a>(Cow<'a, str>);

impl<'a> CapKey<'a> {
    /// The longest key in bytes: a level, the colon, an id.
    pub const MAX_BYTES: usize = NAME_MAX + 1 + super::id::MAX_ID_BYTES;

    /// Takes `<level>:<id>`, of any level.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, KeyError> {
        let text = text.into();
        let (level, id) = text.split_once(':').ok_or(KeyError::NoColon)?;
        if !is_name(level.as_bytes()) {
            return Err(KeyError::Level);
        }
        check_id(id)?;
        Ok(Self(text))
    }

    /// Takes a key that an event or a question names besides its ad: any level but `da`.
    pub fn extra(text: impl Into<Cow<'a, str>>) -> Result<Self, KeyError> {
        let key = Self::new(text)?;
        if key.level() == Level::DA { Err(KeyError::DaLevel) } else { Ok(key) }
    }

    /// The key of the ad itself.
    pub fn of_da(da: &DaId<'_>) -> CapKey<'static> {
        let mut text = String::with_capacity(3 + da.as_str().len());
        text.push_str("da:");
        text.push_str(da.as_str());
        CapKey(Cow::Owned(text))
    }

    /// The text, `<level>:<id>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the colon.
    pub fn level(&self) -> &str {
        self.0.split_once(':').map_or("", |(level, _)| level)
    }

    /// What stands after the colon.
    pub fn id(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, id)| id)
    }

    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> CapKey<'static> {
        CapKey(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for CapKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CapKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule is about: one key, or every key of a level (`campaign:*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPattern {
    /// One key.
    Exact(CapKey<'static>),
    /// Every key of a level.
    Level(Level),
}

impl KeyPattern {
    /// Reads `<level>:<id>` or `<level>:*`.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':').ok_or(KeyError::NoColon)? {
            (level, "*") => Ok(Self::Level(Level::new(level)?)),
            _ => Ok(Self::Exact(CapKey::new(text)?.into_owned())),
        }
    }

    /// The level of the keys.
    pub fn level(&self) -> &str {
        match self {
            Self::Exact(key) => key.level(),
            Self::Level(level) => level.as_str(),
        }
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(key) => fmt::Display::fmt(key, f),
            Self::Level(level) => write!(f, "{}:*", level.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_splits_at_its_first_colon() {
        let key = CapKey::new("campaign:a:b").unwrap();
        assert_eq!((key.level(), key.id()), ("campaign", "a:b"));
    }

    #[test]
    fn what_is_no_key_is_told_why() {
        assert_eq!(CapKey::new("campaign"), Err(KeyError::NoColon));
        assert_eq!(CapKey::new("Campaign:1"), Err(KeyError::Level));
        assert_eq!(CapKey::new(":1"), Err(KeyError::Level));
        assert_eq!(CapKey::new("campaign:"), Err(KeyError::Id(IdError::Empty)));
        assert_eq!(CapKey::new("campaign:*"), Err(KeyError::Id(IdError::Wildcard)));
        assert_eq!(CapKey::extra("da:1"), Err(KeyError::DaLevel));
        assert!(CapKey::extra("data:1").is_ok());
    }

    #[test]
    fn a_pattern_is_a_key_or_a_whole_level() {
        assert_eq!(KeyPattern::new("da:*").unwrap(), KeyPattern::Level(Level::new("da").unwrap()));
        assert_eq!(KeyPattern::new("da:7").unwrap().to_string(), "da:7");
        assert!(KeyPattern::new("*").is_err());
    }
}
