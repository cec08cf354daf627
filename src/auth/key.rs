//! A key: who it is of, what it allows, until when.

use super::digest::Digest;
use super::metrics::label;
use super::scope::Scopes;
use crate::model::TsMs;
use metrics::{Counter, counter};
use std::fmt;
use std::sync::OnceLock;

/// The longest id of a key.
const ID_MAX: usize = 255;

/// The id of a key: 1 to 255 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`. One that begins with `cert:` is of whoever has a client
/// certificate for the name after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// Why a text is no id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to {ID_MAX} of A-Z, a-z, 0-9, `.`, `_`, `-`, after `cert:` or not")]
pub struct KeyIdError;

/// What the id of a key begins with that has no secret.
pub(super) const CERT: &str = "cert:";

impl KeyId {
    /// Takes the text as an id, or says why it is none.
    pub fn new(id: impl Into<String>) -> Result<Self, KeyIdError> {
        let id = id.into();
        let name = id.strip_prefix(CERT).unwrap_or(&id);
        let is_valid = !name.is_empty()
            && id.len() <= ID_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if is_valid { Ok(Self(id)) } else { Err(KeyIdError) }
    }

    /// As the file has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of a client certificate alone.
    pub fn is_of_certificate(&self) -> bool {
        self.0.starts_with(CERT)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key as the file has it.
pub struct Key {
    /// Who it is of.
    pub id: KeyId,
    /// Of its secret; `None` where a client certificate is the only way.
    pub digest: Option<Digest>,
    /// What it allows.
    pub scopes: Scopes,
    /// From this instant on it is as if it were not there.
    pub expires: Option<TsMs>,
    /// Calls by it that were let in. Made with the first: most of many keys are not used.
    accepted: OnceLock<Counter>,
}

impl Key {
    /// A key that no call has used yet.
    pub fn new(id: KeyId, digest: Option<Digest>, scopes: Scopes, expires: Option<TsMs>) -> Self {
        Self { id, digest, scopes, expires, accepted: OnceLock::new() }
    }

    /// Whether it is as if it were not there.
    pub fn is_expired(&self, now: TsMs) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Counts a call that was let in.
    pub fn count_accepted(&self) {
        self.accepted.get_or_init(|| self.counter("ok")).increment(1);
    }

    /// Counts a call that needed another scope.
    pub fn count_forbidden(&self) {
        self.counter("forbidden").increment(1);
    }

    /// Counts a call that came too late.
    pub fn count_expired(&self) {
        self.counter("expired").increment(1);
    }

    fn counter(&self, result: &'static str) -> Counter {
        counter!("freqcap_auth_total", "key" => label(self.id.as_str()), "result" => result)
    }

    /// Differs where what it allows, to whom or until when differs. It tells nothing of the secret.
    pub(super) fn mark(&self) -> String {
        let (digest, expires) = (self.digest.map(Digest::to_hex), self.expires.map(|at| at.0));
        let all = format!("{digest:?} {:?} {expires:?}", self.scopes.names());
        Digest::of(all.as_bytes()).to_hex().chars().take(16).collect()
    }

    /// Whether both allow the same to the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.id, self.digest, self.scopes, self.expires) == (&other.id, other.digest, other.scopes, other.expires)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names() {
        for id in ["a", "bidder-1", "ads.example.com", "cert:ads.example.com", &"x".repeat(255)] {
            assert_eq!(KeyId::new(id).unwrap().as_str(), id);
        }
        for id in ["", "cert:", "(others)", "a b", "a:b", "é", "a/b", &"x".repeat(256)] {
            assert_eq!(KeyId::new(id), Err(KeyIdError), "{id}");
        }
    }

    #[test]
    fn a_key_expires_at_its_instant() {
        let key = Key::new(KeyId::new("a").unwrap(), None, Scopes::default(), Some(TsMs(5)));
        assert!(!key.is_expired(TsMs(4)));
        assert!(key.is_expired(TsMs(5)));
    }
}
