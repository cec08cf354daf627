//! What a reader follows: some of the shards, some of the keys.

use crate::model::{KeyPattern, ShardId, ShardSet};
use xxhash_rust::xxh3::Xxh3;

/// Patterns of keys in one stream.
const PATTERNS_MAX: usize = 64;

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a list of shards.
    #[error("shards {0:?} is not a list of numbers and ranges from 0 to 255, such as 0-63,70")]
    Shards(String),
    /// Not a pattern.
    #[error("keys: {0:?} is neither a key, such as da:77, nor all keys of a level, such as campaign:*")]
    Key(String),
    /// Too many patterns.
    #[error("keys has more than {PATTERNS_MAX} patterns")]
    TooManyKeys,
}

/// Which changes a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    shards: ShardSet,
    /// Empty: all keys.
    keys: Vec<KeyPattern>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { shards: ShardSet::ALL, keys: Vec::new() }
    }
}

impl Filter {
    /// Reads `shards` and `keys` as a query has them; without one, all of them.
    pub fn new(shards: Option<&str>, keys: &[String]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        if let Some(text) = shards {
            filter.shards = parse_shards(text).ok_or_else(|| FilterError::Shards(text.chars().take(64).collect()))?;
        }
        let mut all = false;
        for text in keys.iter().flat_map(|keys| keys.split(',')) {
            if filter.keys.len() == PATTERNS_MAX {
                return Err(FilterError::TooManyKeys);
            }
            match text {
                "*" => all = true,
                _ => filter.keys.push(KeyPattern::new(text).map_err(|_| FilterError::Key(text.to_owned()))?),
            }
        }
        if all {
            filter.keys.clear();
        }
        filter.keys.sort_by_cached_key(KeyPattern::to_string);
        filter.keys.dedup();
        Ok(filter)
    }

    pub(super) fn shards(&self) -> ShardSet {
        self.shards
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.keys.is_empty()
            || self.keys.iter().any(|pattern| match pattern {
                KeyPattern::Exact(whole) => key == whole.as_str(),
                KeyPattern::Level(level) => key.strip_prefix(level.as_str()).is_some_and(|rest| rest.starts_with(':')),
            })
    }

    /// Equal for filters that let the same through. Part of cursors: a change of it resets their readers.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        for shard in self.shards.iter() {
            hash.update(&[shard.0]);
        }
        for pattern in &self.keys {
            hash.update(pattern.to_string().as_bytes());
            // In no key.
            hash.update(b"\n");
        }
        hash.digest()
    }
}

fn parse_shards(text: &str) -> Option<ShardSet> {
    let mut shards = ShardSet::NONE;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (shard(first)?, shard(last)?);
        if first > last {
            return None;
        }
        (first..=last).for_each(|number| shards.insert(ShardId(number)));
    }
    Some(shards)
}

/// Digits alone: `u8` would take `+7`, too.
fn shard(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(shards: Option<&str>, keys: &[&str]) -> Result<Filter, FilterError> {
        Filter::new(shards, &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn shards_and_keys_let_through_what_they_name() {
        let some = filter(Some("0-2,9,255"), &["campaign:*", "da:77"]).unwrap();
        for (shard, key, expected) in [
            (0, "campaign:42", true),
            (2, "da:77", true),
            (255, "campaign:1", true),
            (0, "campaigns:1", false),
            (9, "da:778", false),
            (3, "da:77", false),
            (1, "brand:1", false),
        ] {
            let has = some.shards().contains(ShardId(shard)) && some.has_key(key);
            assert_eq!(has, expected, "{shard} {key}");
        }
        assert_eq!(filter(None, &["da:1,da:2", "da:1"]).unwrap(), filter(Some("0-255"), &["da:2", "da:1"]).unwrap());
        assert_eq!(filter(None, &["*", "da:1"]).unwrap(), Filter::default());
    }

    #[test]
    fn what_names_no_shards_or_keys_is_refused() {
        for shards in ["", "256", "5-3", "-1", "1-", "+1", "1;2", "a", "1,,2"] {
            assert!(matches!(filter(Some(shards), &[]), Err(FilterError::Shards(_))), "{shards}");
        }
        for key in ["", "da", "da:", "c*:1", "**", "camp*", "Campaign:*", ":*", "da:1,"] {
            assert!(matches!(filter(None, &[key]), Err(FilterError::Key(_))), "{key}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("da:{n}")).collect();
        assert_eq!(Filter::new(None, &many), Err(FilterError::TooManyKeys));
    }

    #[test]
    fn only_filters_that_let_the_same_through_have_one_hash() {
        assert_eq!(filter(Some("0-255"), &["*"]).unwrap().hash(), Filter::default().hash());
        let one = |shards, keys: &[&str]| filter(shards, keys).unwrap().hash();
        assert_ne!(one(None, &["da:1"]), one(None, &["da:*"]));
        assert_ne!(one(None, &["da:1", "da:2"]), one(None, &["da:1"]));
        assert_ne!(one(Some("1"), &[]), one(Some("2"), &[]));
    }
}
