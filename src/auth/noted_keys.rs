//! The keys as they are remembered over a restart: what changed while the service was down is told, too.

use super::keys::{Keys, KeysDiff};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ids of keys with a mark of what each is; none where no key was asked for. A mark tells nothing of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NotedKeys(Option<BTreeMap<String, String>>);

impl NotedKeys {
    /// These keys; `None`: no key is asked for.
    pub fn of(keys: Option<&Keys>) -> Self {
        let noted = |keys: &Keys| keys.all().into_iter().map(|key| (key.id.to_string(), key.mark())).collect();
        Self(keys.map(noted))
    }

    /// How many there are; `None` where no key is asked for.
    pub fn count(&self) -> Option<usize> {
        self.0.as_ref().map(BTreeMap::len)
    }

    /// What is different in `self`, which takes the place of `before`.
    pub fn changes_since(&self, before: &Self) -> KeysDiff {
        let none = BTreeMap::new();
        let (was, is) = (before.0.as_ref().unwrap_or(&none), self.0.as_ref().unwrap_or(&none));
        let mut diff = KeysDiff::default();
        for (id, mark) in is {
            match was.get(id) {
                None => diff.added.push(id.clone()),
                Some(old) if old != mark => diff.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        diff.removed = was.keys().filter(|id| !is.contains_key(*id)).cloned().collect();
        diff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Digest, Key, KeyId, Scope, Scopes};
    use crate::model::TsMs;

    fn noted(keys: &[(&str, &str, &[Scope], Option<u64>)]) -> NotedKeys {
        let mut all = Keys::default();
        for &(id, secret, scopes, expires) in keys {
            let scopes = Scopes::from_iter(scopes.iter().copied());
            let digest = Some(Digest::of(secret.as_bytes()));
            all.add(Key::new(KeyId::new(id).unwrap(), digest, scopes, expires.map(TsMs)));
        }
        NotedKeys::of(Some(&all))
    }

    #[test]
    fn whatever_a_key_is_of_changes_its_mark() {
        let before = noted(&[("a", "one", &[Scope::Events], None), ("gone", "two", &[], None)]);
        for (after, changed) in [
            (noted(&[("a", "one", &[Scope::Events], None), ("new", "two", &[], None)]), false),
            (noted(&[("a", "other", &[Scope::Events], None), ("new", "two", &[], None)]), true),
            (noted(&[("a", "one", &[Scope::Admin], None), ("new", "two", &[], None)]), true),
            (noted(&[("a", "one", &[Scope::Events], Some(9)), ("new", "two", &[], None)]), true),
        ] {
            let diff = after.changes_since(&before);
            assert_eq!((diff.added, diff.removed), (vec!["new".to_owned()], vec!["gone".to_owned()]));
            assert_eq!(!diff.changed.is_empty(), changed);
        }
    }

    #[test]
    fn no_keys_are_not_an_empty_file() {
        let (open, one) = (NotedKeys::of(None), noted(&[("a", "one", &[], None)]));
        assert_eq!((open.count(), one.count()), (None, Some(1)));
        assert_eq!(one.changes_since(&open).added, ["a"]);
        assert_eq!(open.changes_since(&one).removed, ["a"]);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<NotedKeys>(&text).unwrap(), one);
        assert_eq!(serde_json::from_str::<NotedKeys>("null").unwrap(), open);
        assert!(!text.contains(&Digest::of(b"one").to_hex()[..12]), "{text}");
    }
}
