//! User ids that mean nobody: what SDKs, macros and databases send where there is no user.

use std::fmt;
use std::str::FromStr;

/// Known everywhere as no user: the words of languages for nothing, and macros that nobody replaced. The advertising id
/// of who does not want one is besides.
const KNOWN: [&str; 7] = ["null", "undefined", "unknown", "[*]", "${*}", "%%*%%", "{{*}}"];
/// Digits of an advertising id.
const ZEROS: usize = 32;
/// The most patterns that may be added.
const MAX_PATTERNS: usize = 1_000;

/// Which user ids mean nobody: patterns in which `*` stands for any text, also none. Upper and lower case are alike.
///
/// As text: patterns with commas between; they are added to those that are known everywhere, which `builtin` stands for.
/// `none` takes away all that stand before it.
#[derive(Clone, PartialEq, Eq)]
pub struct Nobody {
    /// By the first byte of an id: most ids are looked at no further.
    by_first: Box<[Vec<Pattern>; 256]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// The all-zero advertising id, with hyphens or without.
    Zeros,
    /// Without a `*`, in lower case.
    Exact(Box<str>),
    /// What stands before the first `*` and what comes after it, in lower case.
    Parts(Box<str>, Box<str>),
}

/// Why a text is no list of patterns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum NobodyError {
    #[error("has an empty pattern")]
    Empty,
    #[error("has a pattern that is longer than an id (256 bytes)")]
    TooLong,
    #[error("has more than {MAX_PATTERNS} patterns")]
    TooMany,
    #[error("has the pattern {0:?}, which means everybody")]
    Everybody(String),
}

impl Default for Nobody {
    /// No id means nobody.
    fn default() -> Self {
        Self { by_first: Box::new([const { Vec::new() }; 256]) }
    }
}

impl Nobody {
    /// Those that are known everywhere.
    pub fn builtin() -> Self {
        let mut nobody = Self::default();
        nobody.add_builtin();
        nobody
    }

    /// Whether this user is none.
    #[inline]
    pub fn is_meant_by(&self, user: &str) -> bool {
        let patterns = user.as_bytes().first().map_or(&[][..], |&first| &self.by_first[usize::from(first)]);
        !patterns.is_empty() && patterns.iter().any(|pattern| pattern.matches(user))
    }

    fn add_builtin(&mut self) {
        self.by_first[usize::from(b'0')].push(Pattern::Zeros);
        KNOWN.iter().for_each(|pattern| self.add(pattern));
    }

    fn add(&mut self, pattern: &str) {
        let pattern = pattern.to_ascii_lowercase();
        let first = pattern.as_bytes()[0];
        // Every event is held against some of them: they are taken apart here, once.
        let read = match pattern.split_once('*') {
            None => Pattern::Exact(pattern.as_str().into()),
            Some((head, rest)) => Pattern::Parts(head.into(), rest.into()),
        };
        for (byte, patterns) in self.by_first.iter_mut().enumerate() {
            if first == b'*' || usize::from(first) == byte || usize::from(first.to_ascii_uppercase()) == byte {
                patterns.push(read.clone());
            }
        }
    }
}

impl Pattern {
    fn matches(&self, user: &str) -> bool {
        match self {
            Self::Zeros => {
                user.len() >= ZEROS
                    && user.len() <= ZEROS + 4
                    && user.bytes().all(|byte| matches!(byte, b'0' | b'-'))
                    && user.bytes().filter(|&byte| byte == b'0').count() >= ZEROS
            }
            Self::Exact(pattern) => pattern.eq_ignore_ascii_case(user),
            Self::Parts(head, rest) => {
                let begin = user.as_bytes().get(..head.len());
                begin.is_some_and(|begin| begin.eq_ignore_ascii_case(head.as_bytes()))
                    && has_parts(&user.as_bytes()[head.len()..].to_ascii_lowercase(), rest)
            }
        }
    }
}

/// Whether a text has the parts of a pattern in their order, the last at its end, with anything between them.
fn has_parts(mut text: &[u8], rest: &str) -> bool {
    let mut parts = rest.split('*');
    let last = parts.next_back().unwrap_or_default().as_bytes();
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(at) = text.windows(part.len()).position(|here| here == part.as_bytes()) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

impl FromStr for Nobody {
    type Err = NobodyError;

    fn from_str(text: &str) -> Result<Self, NobodyError> {
        let mut nobody = Self::builtin();
        for (number, pattern) in text.split(',').map(str::trim).enumerate() {
            match pattern {
                "builtin" => {}
                "none" => nobody = Self::default(),
                "" => return Err(NobodyError::Empty),
                _ if pattern.len() > super::MAX_ID_BYTES => return Err(NobodyError::TooLong),
                _ if pattern.bytes().all(|byte| byte == b'*') => {
                    return Err(NobodyError::Everybody(pattern.to_owned()));
                }
                _ if number >= MAX_PATTERNS => return Err(NobodyError::TooMany),
                _ => nobody.add(pattern),
            }
        }
        Ok(nobody)
    }
}

impl fmt::Debug for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_first.iter().flatten()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sdks_macros_and_databases_send_where_there_is_no_user_is_nobody() {
        let nobody = Nobody::builtin();
        for none in [
            "00000000-0000-0000-0000-000000000000",
            "00000000000000000000000000000000",
            "000000000000000000000000000000000000",
            "null",
            "NULL",
            "Undefined",
            "unknown",
            "[IDFA]",
            "[]",
            "${USER_ID}",
            "%%USER%%",
            "%%%%",
            "{{user.id}}",
        ] {
            assert!(nobody.is_meant_by(none), "{none}");
        }
        for some in [
            "0",
            "000",
            "00000000-0000-0000-0000-000000000001",
            "0000000000000000000000000000000",
            "0000000000000000000000000000000000000",
            "--------------------------------",
            "nullable",
            "anull",
            "u1",
            "unknown1",
            "[a",
            "a]",
            "${a",
            "$a}",
            "%%%",
            "%a%",
            "{a}",
            "{{a}",
            "é",
        ] {
            assert!(!nobody.is_meant_by(some), "{some}");
        }
    }

    #[test]
    fn patterns_are_added_and_all_can_be_taken_away() {
        let nobody: Nobody = "test-*, *bot*end,Exact".parse().unwrap();
        for none in ["test-", "TEST-1", "robot at the end", "botend", "exact", "null"] {
            assert!(nobody.is_meant_by(none), "{none}");
        }
        for some in ["atest-1", "bot", "botend1", "exactly"] {
            assert!(!nobody.is_meant_by(some), "{some}");
        }
        let none: Nobody = "none".parse().unwrap();
        assert!(!none.is_meant_by("null") && none == Nobody::default());
        let own: Nobody = "none,x".parse().unwrap();
        assert!(own.is_meant_by("x") && !own.is_meant_by("null"));
        assert_eq!("builtin".parse(), Ok(Nobody::builtin()));
        for (bad, why) in [("", NobodyError::Empty), ("a,,b", NobodyError::Empty)] {
            assert_eq!(bad.parse::<Nobody>(), Err(why));
        }
        assert!(matches!("**".parse::<Nobody>(), Err(NobodyError::Everybody(_))));
        assert_eq!("x".repeat(257).parse::<Nobody>(), Err(NobodyError::TooLong));
    }
}
