//! Who calls, and whether they may: the one place for every route and every listener.
//!
//! Where there is a file of keys, a call names a key by its secret or by a client certificate. Where there is none, whoever
//! reaches the port may do everything, and `Host` and `Origin` keep the pages of browsers out.

use super::access::Access;
use super::problem::Problem;
use crate::auth::{Hosts, Key, Keyring};
use crate::clock::Clock;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, StatusCode, header};
use metrics::{Counter, counter};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// Longer secrets are nobody's.
const SECRET_MAX: usize = 512;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Nobody asks: there is no file of keys.
    Anyone,
    Key(Arc<Key>),
    /// Nobody who is known.
    Unknown(Unknown),
}

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Absent,
    Twice,
    NotBearer,
    Wrong,
    Expired,
}

impl Unknown {
    fn detail(self) -> &'static str {
        match self {
            Self::Absent => "a key is needed: send `Authorization: Bearer` and its secret",
            Self::Twice => "there is more than one Authorization field",
            Self::NotBearer => "the Authorization field is not `Bearer` and the secret of a key",
            Self::Wrong => "there is no such key",
            Self::Expired => "the key has expired",
        }
    }
}

impl Caller {
    /// Whether the caller may make calls that need this.
    pub(super) fn may(&self, access: Access) -> Result<(), Problem> {
        match (self, access) {
            (_, Access::Open) | (Self::Anyone, _) => Ok(()),
            (Self::Unknown(why), _) => Err(Problem::unauthenticated(why.detail())),
            (Self::Key(key), Access::Scope(scope)) if !key.scopes.allow(scope) => {
                key.count_forbidden();
                Err(Problem::forbidden(key.id.as_str(), scope))
            }
            (Self::Key(key), Access::AnyKey | Access::Scope(_)) => {
                key.count_accepted();
                Ok(())
            }
        }
    }

    /// The id of the key, for the audit.
    pub(super) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key.id.as_str()),
            Self::Anyone | Self::Unknown(_) => None,
        }
    }
}

/// The fields of a header that say who calls, and whom.
#[derive(Debug, Default)]
pub(super) struct Credentials<'r> {
    pub authorization: Option<&'r HeaderValue>,
    pub is_twice: bool,
    pub host: Option<&'r HeaderValue>,
    /// The host of the target, where it names one: always with HTTP/2.
    pub authority: Option<&'r str>,
    pub origin: Option<&'r HeaderValue>,
}

impl<'r> Credentials<'r> {
    /// Those of a request.
    pub(super) fn of(parts: &'r Parts) -> Self {
        let headers = &parts.headers;
        Self {
            authorization: headers.get(header::AUTHORIZATION),
            is_twice: headers.get_all(header::AUTHORIZATION).iter().count() > 1,
            host: headers.get(header::HOST),
            authority: parts.uri.authority().map(Authority::as_str),
            origin: headers.get(header::ORIGIN),
        }
    }
}

/// A connection, as far as it says who calls.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The names of its certificate, which was issued by somebody we trust.
    pub names: Vec<String>,
    /// What its last call was let in with: the same again need not be hashed.
    remembered: Mutex<Option<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    field: HeaderValue,
    key: Arc<Key>,
    generation: u64,
}

impl Client {
    pub(super) fn named(names: Vec<String>) -> Self {
        Self { names, remembered: Mutex::default() }
    }

    fn recall(&self, field: &HeaderValue, generation: u64) -> Option<Arc<Key>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let last = remembered.as_ref().filter(|last| last.generation == generation)?;
        is_same(last.field.as_bytes(), field.as_bytes()).then(|| last.key.clone())
    }

    fn remember(&self, field: &HeaderValue, key: &Arc<Key>, generation: u64) {
        let remembered = Remembered { field: field.clone(), key: key.clone(), generation };
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some(remembered);
    }
}

/// Whether two texts are the same, in a time that depends on their lengths alone. It goes by words: through a slice of bytes
/// `subtle` goes byte by byte, which would be half of what a key costs a call.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    let mut same = rest.ct_eq(other_rest);
    for (word, other) in words.iter().zip(other_words) {
        same &= u64::from_ne_bytes(*word).ct_eq(&u64::from_ne_bytes(*other));
    }
    same.into()
}

/// Says who calls.
pub struct Gate {
    keyring: Option<Arc<Keyring>>,
    hosts: Hosts,
    clock: Clock,
    absent: Counter,
    unknown: Counter,
}

impl Gate {
    /// Without `keyring` everybody may do everything who calls by one of `hosts`.
    pub fn new(keyring: Option<Arc<Keyring>>, hosts: Hosts, clock: Clock) -> Self {
        let nobody = |result: &'static str| counter!("freqcap_auth_total", "key" => "", "result" => result);
        Self { keyring, hosts, clock, absent: nobody("absent"), unknown: nobody("unknown") }
    }

    /// Who makes a call. A problem where nobody may call like this.
    pub(super) fn caller(&self, credentials: &Credentials<'_>, client: &Client) -> Result<Caller, Problem> {
        let Some(keyring) = &self.keyring else {
            self.check_host(credentials)?;
            return Ok(Caller::Anyone);
        };
        let found = Self::find(keyring, credentials, client);
        Ok(match found {
            Ok(key) if key.expires.is_some() && key.is_expired(self.clock.now()) => {
                key.count_expired();
                Caller::Unknown(Unknown::Expired)
            }
            Ok(key) => Caller::Key(key),
            Err(why) => {
                if why == Unknown::Absent { &self.absent } else { &self.unknown }.increment(1);
                Caller::Unknown(why)
            }
        })
    }

    fn find(keyring: &Keyring, credentials: &Credentials<'_>, client: &Client) -> Result<Arc<Key>, Unknown> {
        if credentials.is_twice {
            return Err(Unknown::Twice);
        }
        let generation = keyring.generation();
        let Some(field) = credentials.authorization else {
            return keyring.keys().of_names(&client.names).cloned().ok_or(Unknown::Absent);
        };
        if let Some(key) = client.recall(field, generation) {
            return Ok(key);
        }
        let secret = secret_of(field.as_bytes()).ok_or(Unknown::NotBearer)?;
        if secret.len() > SECRET_MAX {
            return Err(Unknown::Wrong);
        }
        let key = keyring.keys().of_secret(secret).cloned().ok_or(Unknown::Wrong)?;
        client.remember(field, &key, generation);
        Ok(key)
    }

    /// Refuses names that a page in a browser may have made lead here.
    fn check_host(&self, credentials: &Credentials<'_>) -> Result<(), Problem> {
        let host = credentials.host.map(HeaderValue::as_bytes);
        let asked = host.into_iter().chain(credentials.authority.map(str::as_bytes));
        for host in asked {
            if !self.hosts.allow(host) {
                let detail =
                    "without keys, calls are answered for the host names of --hosts alone (localhost by default)";
                return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", detail));
            }
        }
        if let Some(origin) = credentials.origin
            && !self.is_ours(origin.as_bytes())
        {
            let detail = "without keys, no page of another origin may call";
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail));
        }
        Ok(())
    }

    fn is_ours(&self, origin: &[u8]) -> bool {
        let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        host.is_some_and(|host| self.hosts.allow(host))
    }
}

/// The secret of `Bearer <secret>`; the scheme is read in upper or lower case (RFC 9110, 11.1).
fn secret_of(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let secret = rest.trim_ascii();
    (!secret.is_empty() && !secret.contains(&b' ')).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Digest;
    use std::io::Write;

    fn field(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn texts_are_the_same_only_where_every_byte_is() {
        let text = b"Bearer 0123456789abcdefghijklmnopqrstuvwxyz".as_slice();
        assert!(is_same(text, text) && is_same(b"", b"") && is_same(b"1234567", b"1234567"));
        for at in 0..text.len() {
            let mut other = text.to_vec();
            other[at] ^= 1;
            assert!(!is_same(text, &other), "byte {at}");
            assert!(!is_same(text, &text[..at]) && !is_same(&text[..at], text), "cut at {at}");
        }
    }

    fn id(caller: &Result<Caller, Problem>) -> Result<String, Unknown> {
        match caller {
            Ok(Caller::Key(key)) => Ok(key.id.to_string()),
            Ok(Caller::Unknown(why)) => Err(*why),
            _ => panic!("{caller:?}"),
        }
    }

    fn write(path: &std::path::Path, keys: &[(&str, &str, &str)]) {
        let mut file = std::fs::File::create(path).unwrap();
        for (id, secret, rest) in keys {
            let digest = Digest::of(secret.as_bytes()).to_hex();
            writeln!(file, "[[key]]\nid = {id:?}\nsha256 = {digest:?}\nscopes = []\n{rest}").unwrap();
        }
    }

    #[test]
    fn a_key_is_known_by_its_secret_until_the_file_says_otherwise() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), &[("a", "one", ""), ("old", "two", "expires = 2001-01-01T00:00:00Z")]);
        let keyring = Arc::new(Keyring::open(file.path()).unwrap());
        let gate = Gate::new(Some(keyring.clone()), "loopback".parse().unwrap(), Clock::system());
        let client = Client::named(vec!["b".to_owned()]);
        let asks = |text: &str| {
            let field = field(text);
            id(&gate.caller(&Credentials { authorization: Some(&field), ..Credentials::default() }, &client))
        };
        for _ in 0..2 {
            assert_eq!(asks("Bearer one"), Ok("a".to_owned()));
            assert_eq!(asks("bearer  one "), Ok("a".to_owned()));
            assert_eq!(asks("Bearer two"), Err(Unknown::Expired));
            assert_eq!(asks("Bearer three"), Err(Unknown::Wrong));
            assert_eq!(asks("Basic one"), Err(Unknown::NotBearer));
            assert_eq!(asks("Bearer"), Err(Unknown::NotBearer));
            assert_eq!(asks("Bearer one two"), Err(Unknown::NotBearer));
        }
        let none = Credentials::default();
        assert_eq!(id(&gate.caller(&none, &client)), Err(Unknown::Absent));
        let twice = Credentials { is_twice: true, ..Credentials::default() };
        assert_eq!(id(&gate.caller(&twice, &client)), Err(Unknown::Twice));
        // A client that is remembered is asked again once the file is another.
        write(file.path(), &[("b", "three", "")]);
        assert!(keyring.reload(true).is_some());
        assert_eq!(asks("Bearer one"), Err(Unknown::Wrong));
        assert_eq!(asks("Bearer three"), Ok("b".to_owned()));
        assert_eq!(id(&gate.caller(&none, &client)), Ok("b".to_owned()), "by the name of its certificate");
        // A file that cannot be used changes nothing.
        std::fs::write(file.path(), "[[key]]").unwrap();
        assert!(keyring.reload(true).is_some());
        assert_eq!(asks("Bearer three"), Ok("b".to_owned()));
    }

    #[test]
    fn without_keys_no_page_of_a_browser_gets_in() {
        let gate = Gate::new(None, "loopback".parse().unwrap(), Clock::system());
        let client = Client::default();
        let code = |host: Option<&str>, authority: Option<&str>, origin: Option<&str>| {
            let (host, origin) = (host.map(field), origin.map(field));
            let asks =
                Credentials { host: host.as_ref(), authority, origin: origin.as_ref(), ..Credentials::default() };
            gate.caller(&asks, &client).err().map(|problem| problem.code())
        };
        assert_eq!(code(Some("localhost:8080"), None, None), None);
        assert_eq!(code(Some("localhost:8080"), None, Some("http://localhost:8080")), None);
        assert_eq!(code(None, Some("127.0.0.1"), None), None);
        assert_eq!(code(Some("evil.example"), None, None), Some("host_not_allowed"));
        assert_eq!(code(Some("localhost"), Some("evil.example"), None), Some("host_not_allowed"));
        for origin in ["https://evil.example", "null", "file://"] {
            assert_eq!(code(Some("localhost"), None, Some(origin)), Some("origin_not_allowed"));
        }
    }
}
