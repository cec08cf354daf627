//! The file of keys: `[[key]]` with `id`, `sha256`, `scopes` and, where it does not last, `expires`.

use super::digest::Digest;
use super::expiry;
use super::key::{Key, KeyId};
use super::keys::Keys;
use super::scope::{Scope, Scopes};
use serde::Deserialize;
use std::collections::HashMap;
use toml::Spanned;

/// The most keys of a file.
const KEYS_MAX: usize = 100_000;

/// What is wrong with a file of keys, and where. It quotes nothing that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct KeyFileError {
    /// From 1 on.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Spanned<Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: Spanned<String>,
    sha256: Option<Spanned<String>>,
    scopes: Vec<Spanned<String>>,
    expires: Option<Spanned<toml::Value>>,
}

/// Where each byte of a text stands.
struct Lines<'t>(&'t str);

impl Lines<'_> {
    fn of(&self, at: usize) -> usize {
        1 + self.0.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
    }

    fn error(&self, at: usize, why: impl Into<String>) -> KeyFileError {
        KeyFileError { line: self.of(at), why: why.into() }
    }
}

/// Reads the text of a file.
pub(super) fn read(text: &str) -> Result<Keys, KeyFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines(text);
    let file: File = toml::from_str(text).map_err(|why| {
        let at = why.span().map_or(0, |span| span.start);
        lines.error(at, message(&why))
    })?;
    if file.key.is_empty() {
        return Err(lines.error(0, "there is no [[key]]"));
    }
    if file.key.len() > KEYS_MAX {
        return Err(lines.error(0, format!("there are more than {KEYS_MAX} keys")));
    }
    let (mut keys, mut ids, mut digests) = (Keys::default(), HashMap::new(), HashMap::new());
    for row in file.key {
        let at = row.span().start;
        let key = read_row(row.into_inner(), at, &lines)?;
        if let Some(first) = ids.insert(key.id.clone(), at) {
            let why = format!("there is a key {:?} already, in line {}", key.id.as_str(), lines.of(first));
            return Err(lines.error(at, why));
        }
        if let Some(digest) = key.digest
            && let Some(first) = digests.insert(digest, at)
        {
            let why = format!("key {:?}: its sha256 is that of the key in line {}", key.id.as_str(), lines.of(first));
            return Err(lines.error(at, why));
        }
        keys.add(key);
    }
    Ok(keys)
}

fn read_row(row: Row, at: usize, lines: &Lines<'_>) -> Result<Key, KeyFileError> {
    let id_at = row.id.span().start;
    let id = KeyId::new(row.id.into_inner()).map_err(|why| lines.error(id_at, format!("id {why}")))?;
    let told = |at: usize, why: String| lines.error(at, format!("key {:?}: {why}", id.as_str()));
    let digest = match row.sha256 {
        Some(text) => {
            let digest = Digest::from_hex(text.get_ref());
            Some(digest.ok_or_else(|| told(text.span().start, "sha256 is not 64 hex digits".to_owned()))?)
        }
        None if id.is_of_certificate() => None,
        None => return Err(told(at, "sha256 is missing (only a key of a certificate, cert:.., has none)".to_owned())),
    };
    let mut scopes = Scopes::default();
    for scope in &row.scopes {
        scopes.add(scope.get_ref().parse::<Scope>().map_err(|why| told(scope.span().start, why.to_string()))?);
    }
    let expires = match &row.expires {
        Some(value) => {
            let expires = expiry::read(value.get_ref());
            Some(expires.map_err(|why| told(value.span().start, format!("expires {why}")))?)
        }
        None => None,
    };
    Ok(Key::new(id, digest, scopes, expires))
}

/// What TOML's reader says, on one line and without values: one of them could be a secret in the wrong place.
fn message(why: &toml::de::Error) -> String {
    let said = why.message().lines().collect::<Vec<_>>().join(" ");
    match said.split_once("invalid type: string \"") {
        Some((before, after)) => {
            let expected = after.rsplit_once("\", ").map_or("", |(_, expected)| expected);
            format!("{before}invalid type: a text, {expected}")
        }
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TsMs;

    fn row(id: &str, secret: &str, rest: &str) -> String {
        let digest = Digest::of(secret.as_bytes()).to_hex();
        format!("[[key]]\nid = {id:?}\nsha256 = {digest:?}\nscopes = [\"events\", \"decide\"]\n{rest}\n")
    }

    #[test]
    fn keys_are_found_by_their_secret_and_by_the_names_of_a_certificate() {
        let text = format!(
            "\u{feff}# ours\n{}{}[[key]]\nid = \"cert:ads.example\"\nscopes = []\n",
            row("a", "first", ""),
            row("b", "second", "expires = 2030-01-01T00:00:00Z"),
        );
        let keys = read(&text).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.of_secret(b"first").unwrap().id.as_str(), "a");
        assert_eq!(keys.of_secret(b"second").unwrap().expires, Some(TsMs(1_893_456_000_000)));
        assert!(keys.of_secret(b"third").is_none());
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            keys.of_names(&names).map(|key| key.id.to_string())
        };
        assert_eq!(named(&["ads.example"]).as_deref(), Some("cert:ads.example"));
        assert_eq!(named(&["other", "b"]).as_deref(), Some("b"));
        assert_eq!((named(&["other"]), named(&[])), (None, None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let good = row("a", "first", "");
        for (text, line, part) in [
            (String::new(), 1, "no [[key]]"),
            (format!("{good}[[keys]]\nid = \"b\"\n"), 6, "unknown field"),
            (format!("{good}{}", row("a", "second", "")), 6, "already, in line 1"),
            (format!("{good}{}", row("b", "first", "")), 6, "that of the key in line 1"),
            (good.replace("\"decide\"", "\"decyde\""), 4, "no scope \"decyde\""),
            (good.replace("sha256 = \"", "sha256 = \"0"), 3, "not 64 hex digits"),
            (good.replace("sha256 =", "sha1 ="), 3, "unknown field"),
            ("\n[[key]]\nid = \"a\"\nscopes = []\n".to_owned(), 2, "sha256 is missing"),
            (row("a", "x", "expires = 2030-01-01"), 5, "expires is not an instant"),
            (row("a", "x", "expires = 2030-01-01T00:00:00"), 5, "expires is not an instant"),
            (row("a", "x", "expires = \"soon\""), 5, "expires is not an instant"),
            (row("a", "x", "expires = 5"), 5, "expires is not an instant"),
            (row("a b", "x", ""), 2, "id is not"),
            (format!("{good}nonsense"), 6, ""),
        ] {
            let error = read(&text).unwrap_err();
            assert_eq!(error.line, line, "{text}\n{error}");
            assert!(error.why.contains(part), "{text}\n{error}");
        }
    }

    #[test]
    fn no_secret_in_the_wrong_place_is_quoted() {
        let secret = "fc_a_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
        let good = row("a", "first", "");
        for text in [
            good.replace("sha256 = \"", &format!("sha256 = \"{secret}")),
            good.replace("scopes = [\"events\", \"decide\"]", &format!("scopes = {secret:?}")),
            good.replace("scopes = [\"events\"", &format!("scopes = [{secret:?}")),
            format!("key = {secret:?}"),
            format!("{secret}\n{good}"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(!error.contains("0123456789abcdefghijkl"), "{error}");
        }
    }

    #[test]
    fn ten_thousand_keys_are_read_and_found() {
        let text: String = (0..10_000).map(|n| row(&format!("k{n}"), &format!("s{n}"), "")).collect();
        let keys = read(&text).unwrap();
        assert_eq!(keys.len(), 10_000);
        assert_eq!(keys.of_secret(b"s9999").unwrap().id.as_str(), "k9999");
    }
}
