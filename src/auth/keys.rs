//! All keys that are in force, found by secret or by certificate.

use super::digest::Digest;
use super::key::{CERT, Key};
use std::collections::HashMap;
use std::sync::Arc;

/// The keys of a file.
#[derive(Debug, Default)]
pub struct Keys {
    by_digest: HashMap<Digest, Arc<Key>>,
    by_id: HashMap<String, Arc<Key>>,
}

/// What differs between two sets of keys: ids, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeysDiff {
    /// Those that were not there.
    pub added: Vec<String>,
    /// Those with another secret, other scopes or another expiry.
    pub changed: Vec<String>,
    /// Those that are there no more.
    pub removed: Vec<String>,
}

impl Keys {
    /// Takes a key, unless there is one of its id or of its secret.
    pub(super) fn add(&mut self, key: Key) {
        let key = Arc::new(key);
        if let Some(digest) = key.digest {
            self.by_digest.insert(digest, key.clone());
        }
        self.by_id.insert(key.id.as_str().to_owned(), key);
    }

    /// The key of a secret.
    pub fn of_secret(&self, secret: &[u8]) -> Option<&Arc<Key>> {
        let digest = Digest::of(secret);
        let key = self.by_digest.get(&digest)?;
        // The table compares digests byte by byte, and its time tells something of a digest at most: whoever could use
        // that would have to turn SHA-256 round. Compared once more in constant time, even that much does not count.
        key.digest.is_some_and(|known| known.is(&digest)).then_some(key)
    }

    /// The key of a client certificate: the first of its names that is a key's id, with `cert:` before it or not.
    pub fn of_names(&self, names: &[String]) -> Option<&Arc<Key>> {
        names.iter().find_map(|name| self.by_id.get(&format!("{CERT}{name}")).or_else(|| self.by_id.get(name)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<&Key> {
        let mut all: Vec<&Key> = self.by_id.values().map(Arc::as_ref).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// What is different in `self`, which takes the place of `before`.
    pub fn changes_since(&self, before: &Self) -> KeysDiff {
        let mut diff = KeysDiff::default();
        for key in self.all() {
            match before.by_id.get(key.id.as_str()) {
                None => diff.added.push(key.id.to_string()),
                Some(old) if !old.is_same(key) => diff.changed.push(key.id.to_string()),
                Some(_) => {}
            }
        }
        let gone = before.all().into_iter().filter(|key| !self.by_id.contains_key(key.id.as_str()));
        diff.removed = gone.map(|key| key.id.to_string()).collect();
        diff
    }
}
