//! How a node knows that a forwarded call comes from another node, and what its caller may do.
//!
//! Nodes share a secret. A forwarded call has the header [`HOP_HEADER`]: `1;<from>;<to>;<number>;<caller>;<scopes>;<mac>`, where the
//! runs of the two nodes' processes are `from` and `to`, and the HMAC-SHA256 covers all of it, the method, the target and the
//! body. No clock is in it, since nodes' clocks may differ: a call is for one run of one node, and each number of a sender is
//! taken once.

use super::epoch::RunId;
use crate::auth::{KeyId, Scope, Scopes, Secret};
use ring::{digest, hmac};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Marks a call that another node forwarded.
pub const HOP_HEADER: &str = "freqcap-hop";
/// The shortest secret, in letters.
pub const SECRET_MIN: usize = 32;
/// The longest header that is read, in bytes.
const HEADER_MAX: usize = 1_024;
/// How far a call may overtake others of the same sender.
const WINDOW: u64 = 4_096;
/// The most senders that are remembered. There are as many as nodes; restarts leave some behind.
const SENDERS_MAX: usize = 256;

/// Who called, as the node that forwards the call found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The id of its key; `None` where no keys are asked for.
    pub key: Option<KeyId>,
    /// What it may do.
    pub scopes: Scopes,
}

/// A call that is forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The body as it is sent.
    pub body: &'a [u8],
}

/// Why a forwarded call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// The header is not of the form.
    #[error("the header {HOP_HEADER} is not of the form that nodes send")]
    Malformed,
    /// A newer node sent it.
    #[error("the header {HOP_HEADER} is of version {0}, which this freqcap does not know; update this node")]
    Newer(u32),
    /// The secret differs, or something was changed on the way.
    #[error("the call is not signed with the cluster's key; every node needs the same --cluster-key-file")]
    Forged,
    /// It is for another node, or for an earlier run of this one.
    #[error("the call is for another run of a node")]
    OtherRun,
    /// It was taken before.
    #[error("the call was taken before")]
    Repeated,
}

/// The secret is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a secret of {0} letters; at least {SECRET_MIN} are needed: openssl rand -hex 32")]
pub struct ShortSecret(pub usize);

/// Signs calls that this node forwards, and checks those that it gets. Never prints the secret.
pub struct NodeKey {
    key: hmac::Key,
    me: RunId,
    sent: AtomicU64,
    taken: Mutex<HashMap<RunId, Numbers>>,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").field("me", &self.me).finish_non_exhaustive()
    }
}

/// The numbers of one sender that were taken: the greatest, and which of those below it.
#[derive(Debug)]
struct Numbers {
    greatest: u64,
    taken: [u64; (WINDOW / 64) as usize],
    /// For whom is forgotten first.
    last_used: u64,
}

impl NodeKey {
    /// The key of this run of this node.
    pub fn new(secret: &Secret, me: RunId) -> Result<Self, ShortSecret> {
        let secret = secret.expose();
        if secret.len() < SECRET_MIN {
            return Err(ShortSecret(secret.len()));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { key, me, sent: AtomicU64::new(0), taken: Mutex::default() })
    }

    /// The value of [`HOP_HEADER`] for a call that goes to run `to` of another node.
    pub fn sign(&self, call: Call<'_>, caller: &Caller, to: RunId) -> String {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let key = caller.key.as_ref().map_or("-", |key| key.as_str());
        let scopes = caller.scopes.names().join(",");
        let head = format!("1;{};{to};{number};{key};{scopes}", self.me);
        let mac = hmac::sign(&self.key, &signed(&head, call));
        format!("{head};{}", hex(mac.as_ref()))
    }

    /// Who called, of a call with this value of [`HOP_HEADER`].
    pub fn check(&self, header: &str, call: Call<'_>) -> Result<Caller, HopError> {
        if header.len() > HEADER_MAX {
            return Err(HopError::Malformed);
        }
        let version = header.split(';').next().and_then(|version| version.parse::<u32>().ok());
        if let Some(version @ 2..) = version {
            return Err(HopError::Newer(version));
        }
        let (head, mac) = header.rsplit_once(';').ok_or(HopError::Malformed)?;
        let mac = unhex(mac).ok_or(HopError::Malformed)?;
        hmac::verify(&self.key, &signed(head, call), &mac).map_err(|_| HopError::Forged)?;
        // Only now is it worth reading.
        let parts: Vec<&str> = head.split(';').collect();
        let &["1", from, to, number, key, scopes] = parts.as_slice() else { return Err(HopError::Malformed) };
        if to != self.me.to_string() {
            return Err(HopError::OtherRun);
        }
        let from = u64::from_str_radix(from, 16).map(RunId).map_err(|_| HopError::Malformed)?;
        let number = number.parse().map_err(|_| HopError::Malformed)?;
        let scopes = scopes.split(',').filter(|name| !name.is_empty()).map(str::parse::<Scope>);
        let scopes = scopes.collect::<Result<Scopes, _>>().map_err(|_| HopError::Malformed)?;
        let key = match key {
            "-" => None,
            key => Some(KeyId::new(key).map_err(|_| HopError::Malformed)?),
        };
        if self.take(from, number) { Ok(Caller { key, scopes }) } else { Err(HopError::Repeated) }
    }

    /// Takes a number of a sender; false where it was taken before, or is so far behind that nobody knows.
    fn take(&self, from: RunId, number: u64) -> bool {
        let mut senders = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let used = senders.values().map(|numbers| numbers.last_used).max().unwrap_or(0) + 1;
        if senders.len() >= SENDERS_MAX && !senders.contains_key(&from) {
            let oldest = senders.iter().min_by_key(|(_, numbers)| numbers.last_used).map(|(run, _)| *run);
            if let Some(run) = oldest {
                senders.remove(&run);
            }
        }
        let numbers = senders.entry(from).or_insert_with(|| Numbers::new(used));
        numbers.last_used = used;
        numbers.take(number)
    }
}

impl Numbers {
    fn new(used: u64) -> Self {
        Self { greatest: 0, taken: [0; (WINDOW / 64) as usize], last_used: used }
    }

    fn take(&mut self, number: u64) -> bool {
        if number > self.greatest {
            // What enters the window has not been taken.
            for new in (self.greatest + 1..=number).rev().take(WINDOW as usize) {
                self.taken[Self::word(new)] &= !Self::bit(new);
            }
            self.greatest = number;
        } else if self.greatest - number >= WINDOW {
            return false;
        }
        let is_new = self.taken[Self::word(number)] & Self::bit(number) == 0;
        self.taken[Self::word(number)] |= Self::bit(number);
        is_new
    }

    fn word(number: u64) -> usize {
        (number % WINDOW / 64) as usize
    }

    fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }
}

/// What the signature covers. Neither a header nor a method nor a target has a line break.
fn signed(head: &str, call: Call<'_>) -> Vec<u8> {
    let body = digest::digest(&digest::SHA256, call.body);
    let mut bytes = format!("{HOP_HEADER}\n{head}\n{}\n{}\n", call.method, call.target).into_bytes();
    bytes.extend_from_slice(body.as_ref());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| (0..32).filter_map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RunId = RunId(0xa);
    const B: RunId = RunId(0xb);

    fn secret(text: &str) -> Secret {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, text).unwrap();
        crate::auth::read_secret(&path).unwrap()
    }

    fn key(me: RunId) -> NodeKey {
        NodeKey::new(&secret("0123456789abcdef0123456789abcdef"), me).unwrap()
    }

    fn caller() -> Caller {
        Caller {
            key: Some(KeyId::new("bidder-1").unwrap()),
            scopes: [Scope::Events, Scope::Decide].into_iter().collect(),
        }
    }

    const CALL: Call<'static> = Call { method: "POST", target: "/events?ack=logged", body: b"{}" };

    #[test]
    fn a_call_brings_its_callers_scopes_along() {
        let (a, b) = (key(A), key(B));
        let header = a.sign(CALL, &caller(), B);
        assert!(header.starts_with("1;000000000000000a;000000000000000b;1;bidder-1;events,decide;"), "{header}");
        assert_eq!(b.check(&header, CALL), Ok(caller()));
        let nobody = Caller { key: None, scopes: Scopes::default() };
        assert_eq!(b.check(&a.sign(CALL, &nobody, B), CALL), Ok(nobody));
    }

    #[test]
    fn a_call_is_taken_once_and_by_the_run_that_it_is_for() {
        let (a, b) = (key(A), key(B));
        let header = a.sign(CALL, &caller(), B);
        assert_eq!(b.check(&header, CALL), Ok(caller()));
        assert_eq!(b.check(&header, CALL), Err(HopError::Repeated));
        assert_eq!(key(RunId(0xc)).check(&header, CALL), Err(HopError::OtherRun));
    }

    #[test]
    fn nothing_of_a_call_can_be_changed_on_the_way() {
        let (a, b) = (key(A), key(B));
        let header = a.sign(CALL, &caller(), B);
        for call in [Call { method: "PUT", ..CALL }, Call { target: "/events", ..CALL }, Call { body: b"{ }", ..CALL }]
        {
            assert_eq!(b.check(&header, call), Err(HopError::Forged));
        }
        for (from, to) in [("events,", "admin,"), ("bidder-1", "bidder-2"), (";1;", ";2;"), ("00a;", "00c;")] {
            let changed = header.replacen(from, to, 1);
            assert_ne!(changed, header);
            assert_eq!(b.check(&changed, CALL), Err(HopError::Forged), "{changed}");
        }
        let other = NodeKey::new(&secret("0123456789abcdef0123456789abcdeX"), A).unwrap();
        assert_eq!(b.check(&other.sign(CALL, &caller(), B), CALL), Err(HopError::Forged));
    }

    #[test]
    fn what_is_no_header_of_ours_is_refused() {
        let b = key(B);
        for header in ["", "1", "1;2", ";;;;;;", &"1;".repeat(600)] {
            assert_eq!(b.check(header, CALL), Err(HopError::Malformed), "{header:.20}");
        }
        assert_eq!(b.check("2;whatever", CALL), Err(HopError::Newer(2)));
        assert_eq!(NodeKey::new(&secret("short"), A).unwrap_err(), ShortSecret(5));
        assert!(!format!("{b:?}").contains("0123456789"));
    }

    #[test]
    fn calls_that_overtake_each_other_are_taken_and_very_old_ones_are_not() {
        let b = key(B);
        for number in [5, 3, 4, 1, WINDOW + 4, 6] {
            assert!(b.take(A, number), "{number}");
            assert!(!b.take(A, number), "{number}");
        }
        assert!(!b.take(A, 4), "it is out of the window");
        assert!(b.take(A, 3 * WINDOW) && b.take(A, 3 * WINDOW - WINDOW + 1));
        assert!(!b.take(A, 2 * WINDOW));
        assert!(b.take(RunId(7), 1), "each sender has numbers of its own");
    }

    #[test]
    fn senders_that_are_gone_are_forgotten() {
        let b = key(B);
        for run in 0..2 * SENDERS_MAX as u64 {
            assert!(b.take(RunId(run), 1));
        }
        assert_eq!(b.taken.lock().unwrap().len(), SENDERS_MAX);
        assert!(!b.take(RunId(2 * SENDERS_MAX as u64 - 1), 1));
    }
}
