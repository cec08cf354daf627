//! The names of the mirror in Redis, and which names are ours.
//!
//! `%`, `{` and `}` in ids are percent-encoded. So the first brace of a name opens the hash tag and the next one closes
//! it, and all names of a user are in one slot of a Redis Cluster.

use crate::model::{CapKey, UserId};
use std::borrow::Cow;

/// How caps are stored in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Layout {
    /// `<prefix>{<user>}` is a sorted set: member = key, score = end of the cap in ms.
    #[default]
    Zset,
    /// `<prefix>{<user>}:<key>` is a string: the end of the cap in ms.
    String,
}

/// What a name under the prefix stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// The sorted set of a user.
    User(String),
    /// The string of a user and a key.
    Pair(String, String),
}

impl Named {
    pub fn user(&self) -> &str {
        match self {
            Self::User(user) | Self::Pair(user, _) => user,
        }
    }
}

/// Makes and parses the names under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    marker: String,
    owner: String,
    /// What the markers of all units begin with, and the owner of a process with one unit.
    all_markers: String,
    sole_owner: String,
}

impl Layout {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Zset => "zset",
            Self::String => "string",
        }
    }
}

impl Names {
    pub fn new(prefix: &str) -> Self {
        let (all_markers, sole_owner) = (format!("freqcap:{prefix}:seq"), format!("freqcap:{prefix}:owner"));
        Self {
            prefix: prefix.to_owned(),
            marker: all_markers.clone(),
            owner: sole_owner.clone(),
            all_markers,
            sole_owner,
        }
    }

    /// Those of one of several units: it has a marker and an owner of its own.
    pub fn of_unit(prefix: &str, unit: usize) -> Self {
        let names = Self::new(prefix);
        let (marker, owner) = (format!("{}:{unit}", names.marker), format!("{}:{unit}", names.owner));
        Self { marker, owner, ..names }
    }

    /// The name by which a process with one unit would own the prefix.
    pub fn sole_owner(&self) -> &str {
        &self.sole_owner
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the marker.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The name that holds the id of the store that owns the prefix.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn user(&self, user: &str) -> String {
        format!("{}{{{}}}", self.prefix, encode(user))
    }

    pub fn pair(&self, user: &str, key: &str) -> String {
        format!("{}{{{}}}:{}", self.prefix, encode(user), encode(key))
    }

    /// A glob for SCAN that matches at least every name of ours.
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 2);
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push_str("{*");
        pattern
    }

    /// What a name stands for; `None` if we would not have made it. Such a name is left alone.
    pub fn parse(&self, name: &[u8]) -> Option<Named> {
        let name = std::str::from_utf8(name).ok()?;
        let rest_of_owner = name.strip_prefix(&self.sole_owner);
        if name.starts_with(&self.all_markers)
            || rest_of_owner.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        {
            return None;
        }
        let (user, rest) = name.strip_prefix(&self.prefix)?.strip_prefix('{')?.split_once('}')?;
        let user = UserId::new(decode(user)?).ok()?.as_str().to_owned();
        match rest.strip_prefix(':') {
            None if rest.is_empty() => Some(Named::User(user)),
            None => None,
            Some(key) => Some(Named::Pair(user, parse_member(key.as_bytes())?)),
        }
    }
}

/// A key as a member of a sorted set.
pub(super) fn member(key: &str) -> Cow<'_, str> {
    encode(key)
}

/// The key of a member; `None` if we would not have made it.
pub(super) fn parse_member(member: &[u8]) -> Option<String> {
    let key = decode(std::str::from_utf8(member).ok()?)?;
    CapKey::new(key).ok().map(|key| key.as_str().to_owned())
}

fn encode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'{' | b'}')) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 6);
    for c in text.chars() {
        match c {
            '%' => encoded.push_str("%25"),
            '{' => encoded.push_str("%7B"),
            '}' => encoded.push_str("%7D"),
            c => encoded.push(c),
        }
    }
    Cow::Owned(encoded)
}

/// Reverses [`encode`], for exactly what it makes.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '{', '}']) {
        decoded.push_str(&rest[..at]);
        decoded.push(match rest.get(at..at + 3)? {
            "%25" => '%',
            "%7B" => '{',
            "%7D" => '}',
            _ => return None,
        });
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let names = Names::new("cap:");
        assert_eq!(names.user("u1"), "cap:{u1}");
        assert_eq!(names.pair("u1", "da:77"), "cap:{u1}:da:77");
        assert_eq!(names.user("a%b{c}"), "cap:{a%25b%7Bc%7D}");
        assert_eq!(member("da:{x}"), "da:%7Bx%7D");
        assert_eq!((names.marker(), names.owner()), ("freqcap:cap::seq", "freqcap:cap::owner"));
        let unit = Names::of_unit("cap:", 17);
        assert_eq!((unit.marker(), unit.owner()), ("freqcap:cap::seq:17", "freqcap:cap::owner:17"));
        assert_eq!((unit.user("u1"), unit.sole_owner()), ("cap:{u1}".to_owned(), "freqcap:cap::owner"));
    }

    #[test]
    fn what_we_would_not_have_made_is_not_ours() {
        let names = Names::new("cap:");
        for foreign in [
            "cap:",
            "cap:settings",
            "cap:{}",
            "cap:{u1",
            "cap:{u1}x",
            "cap:{u1}:stuff",
            "cap:{u1}:da:",
            "cap:{u%2f}",
            "cap:{u%7b}",
            "cap:{u%}",
            "cap:{u1}:da:{x}",
            "cap2:{u1}",
            "freqcap:cap::seq",
        ] {
            assert_eq!(names.parse(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(names.parse(b"cap:{\xff}"), None);
        assert_eq!(Names::new("").parse(b"{u1}"), Some(Named::User("u1".to_owned())));
    }

    #[test]
    fn a_prefix_with_glob_characters_is_taken_as_it_is() {
        assert_eq!(Names::new("a*b[c]?\\").pattern(), "a\\*b\\[c\\]\\?\\\\{*");
    }

    proptest! {
        #[test]
        fn a_name_gives_back_its_user_and_key(user in "[^\\pC*]{1,20}", da in "[^\\pC*]{1,20}", prefix in "[^\\pC]{0,6}") {
            let names = Names::new(&prefix);
            let key = format!("da:{da}");
            prop_assert_eq!(names.parse(names.user(&user).as_bytes()), Some(Named::User(user.clone())));
            let pair = Named::Pair(user.clone(), key.clone());
            prop_assert_eq!(names.parse(names.pair(&user, &key).as_bytes()), Some(pair));
            prop_assert_eq!(parse_member(member(&key).as_bytes()), Some(key));
        }
    }
}
