//! The records of the log, as they are in Kafka.
//!
//! A plain record is an event, from any producer. A record with the header [`HEADER`] is a command from a node. The header
//! is text, so that Kafka's own tools show it: `<version> <kind> <epoch|-> <run> <request>`, for example
//! `1 reserve 1042 00f3a1b2c3d4e5f6 17`. The value is a JSON object ([`super::command`]).
//!
//! All nodes must take a record in the same way. So a command that cannot be read is void for all of them, but one of a
//! newer version stops the node: others may understand it.

use super::command::Command;
use super::epoch::{Epoch, RunId};
use super::record_error::{RecordError, VERSION};

/// The name of the header that makes a record a command.
pub const HEADER: &str = "freqcap";
/// The longest header that is read, in bytes.
const HEADER_MAX: usize = 128;
/// The longest value of a command, in bytes. A policy with the most rules fits.
pub const COMMAND_MAX: usize = 4 << 20;

/// What a command says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The epoch of the sender's claim. A claim has none, since its own offset is the epoch.
    pub epoch: Option<Epoch>,
    /// The sender.
    pub run: RunId,
    /// The sender's number of the request; it finds the caller who waits for the outcome.
    pub request: u64,
}

/// A record of the log.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once, and most records are events")]
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// An event in JSON, in whatever form `[fields]` says; `None` is a record without a value.
    Event(Option<&'a [u8]>),
    /// A command.
    Command(Head, Command),
}

/// A command as it is sent to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCommand {
    /// The value of the header [`HEADER`].
    pub header: String,
    /// The record's key: the user, where the command is of one.
    pub key: Option<String>,
    /// The record's value.
    pub payload: Vec<u8>,
}

/// Encodes a command.
pub fn encode(head: Head, command: &Command) -> EncodedCommand {
    let Head { epoch, run, request } = head;
    let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    EncodedCommand {
        header: format!("{VERSION} {} {epoch} {run} {request}", command.kind()),
        key: command.user().map(str::to_owned),
        payload: command.to_json(),
    }
}

/// Reads a record from its headers (name and value) and its value.
pub fn decode<'a>(
    headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    payload: Option<&'a [u8]>,
) -> Result<Record<'a>, RecordError> {
    let mut ours = headers.into_iter().filter(|(name, _)| *name == HEADER);
    let Some((_, header)) = ours.next() else { return Ok(Record::Event(payload)) };
    if ours.next().is_some() {
        return Err(RecordError::malformed("it has the header twice"));
    }
    let header = header.filter(|header| header.len() <= HEADER_MAX).and_then(|header| str::from_utf8(header).ok());
    let Some(header) = header else { return Err(RecordError::malformed("its header is not a short text")) };
    let (version, rest) = header.split_once(' ').unwrap_or((header, ""));
    match number(version).and_then(|version| u32::try_from(version).ok()) {
        Some(VERSION) => {}
        Some(version @ VERSION..) => return Err(RecordError::Newer { version }),
        _ => return Err(RecordError::malformed("its header does not begin with a version")),
    }
    let (kind, head) = read_head(rest).ok_or_else(|| RecordError::malformed("its header is not of the form"))?;
    let payload = payload.filter(|payload| payload.len() <= COMMAND_MAX);
    let payload = payload.ok_or_else(|| RecordError::malformed("it has no value, or too long a one"))?;
    let command = Command::from_json(kind, payload)?;
    if head.epoch.is_none() != matches!(command, Command::Claim(_)) {
        return Err(RecordError::malformed("a claim has no epoch, and every other command has one"));
    }
    Ok(Record::Command(head, command))
}

fn read_head(text: &str) -> Option<(&str, Head)> {
    let mut parts = text.split(' ');
    let kind = parts.next()?;
    let epoch = match parts.next()? {
        "-" => None,
        epoch => Some(Epoch(number(epoch)?)),
    };
    let run =
        parts.next().filter(|run| run.len() == 16 && run.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))?;
    let run = RunId(u64::from_str_radix(run, 16).ok()?);
    let request = number(parts.next()?)?;
    parts.next().is_none().then_some((kind, Head { epoch, run, request }))
}

/// A number as it is written: no sign, no zeros before it.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))).then_some(number)
}

/// What a fuzzer asserts of any header and value: what is read is written the same.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let (header, payload) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &bytes[bytes.len()..]),
    };
    let Ok(Record::Command(head, command)) = decode([(HEADER, Some(header))], Some(payload)) else { return };
    let encoded = encode(head, &command);
    assert_eq!(encoded.header.as_bytes(), header);
    let again = decode([(HEADER, Some(encoded.header.as_bytes()))], Some(&encoded.payload));
    assert_eq!(again, Ok(Record::Command(head, command)));
}

#[cfg(test)]
mod tests {
    use super::super::command::{Claim, EraseUser, Policy, PolicySettings, ReleaseReservation};
    use super::*;
    use crate::model::{Candidate, CapKey, DaId, EventId, Kind, UserId};
    use crate::shard::Reserve;
    use crate::store::ChangedBy;

    const RUN: RunId = RunId(0x00f3_a1b2_c3d4_e5f6);

    fn head(epoch: Option<u64>) -> Head {
        Head { epoch: epoch.map(Epoch), run: RUN, request: 17 }
    }

    fn commands() -> Vec<(Command, &'static str, &'static str)> {
        let user = || UserId::new("u\"1").unwrap();
        let reserve = Reserve {
            user: user(),
            candidates: vec![
                Candidate {
                    da: DaId::new("7").unwrap(),
                    keys: [CapKey::extra("campaign:3").unwrap()].into_iter().collect(),
                },
                Candidate { da: DaId::new("8").unwrap(), keys: Default::default() },
            ],
            want: 1,
            ttl_ms: Some(900_000),
            id: EventId::new("call").unwrap(),
            body_hash: Some(255),
            kind: Kind::new("click").unwrap(),
        };
        let release = ReleaseReservation { user: user(), id: EventId::new("call").unwrap(), da: None };
        let by = ChangedBy { key: Some("ops".to_owned()), call: "DELETE /users/{user}".to_owned() };
        let settings = PolicySettings {
            history_limit: 256,
            retention_ms: 1,
            lifetime_retention_ms: 2,
            max_skew_ms: 3,
            max_kinds: 16,
            duplicate_window_ms: 4,
            nobody: "builtin".to_owned(),
            fields: Default::default(),
        };
        let rules = vec![serde_json::from_str(r#"{"id":"default","limit":5}"#).unwrap()];
        vec![
            (
                Command::Claim(Claim { node: "a".to_owned(), url: "http://a:8080".to_owned() }),
                "1 claim - 00f3a1b2c3d4e5f6 17",
                r#"{"node":"a","url":"http://a:8080"}"#,
            ),
            (Command::Release, "1 release 1042 00f3a1b2c3d4e5f6 17", "{}"),
            (
                Command::Reserve(reserve),
                "1 reserve 1042 00f3a1b2c3d4e5f6 17",
                r#"{"user":"u\"1","candidates":[{"da":"7","keys":["campaign:3"]},{"da":"8"}],"want":1,"ttl_ms":900000,"id":"call","body_hash":"000000000000000000000000000000ff","kind":"click"}"#,
            ),
            (
                Command::ReleaseReservation(release),
                "1 release-call 1042 00f3a1b2c3d4e5f6 17",
                r#"{"user":"u\"1","id":"call","da":null}"#,
            ),
            (
                Command::Erase(EraseUser { user: user(), by }),
                "1 erase 1042 00f3a1b2c3d4e5f6 17",
                r#"{"user":"u\"1","key":"ops","call":"DELETE /users/{user}"}"#,
            ),
            (
                Command::Policy(Policy { revision: 3, engine: 1, settings, rules }),
                "1 policy 1042 00f3a1b2c3d4e5f6 17",
                r#"{"revision":3,"engine":1,"settings":{"history_limit":256,"retention_ms":1,"lifetime_retention_ms":2,"max_skew_ms":3,"max_kinds":16,"duplicate_window_ms":4,"nobody":"builtin"},"rules":[{"id":"default","limit":5}]}"#,
            ),
        ]
    }

    fn read<'a>(header: &'a str, payload: &'a str) -> Result<Record<'a>, RecordError> {
        decode([("traceparent", None), (HEADER, Some(header.as_bytes()))], Some(payload.as_bytes()))
    }

    #[test]
    fn the_bytes_of_every_command_are_pinned_and_read_back() {
        for (command, header, payload) in commands() {
            let head = head((!matches!(command, Command::Claim(_))).then_some(1042));
            let encoded = encode(head, &command);
            assert_eq!((encoded.header.as_str(), str::from_utf8(&encoded.payload).unwrap()), (header, payload));
            assert_eq!(encoded.key.is_some(), command.user().is_some());
            assert_eq!(read(header, payload), Ok(Record::Command(head, command)));
            fuzz(format!("{header}\n{payload}").as_bytes());
        }
    }

    #[test]
    fn a_record_without_our_header_is_an_event_whatever_it_holds() {
        assert_eq!(decode([], Some(b"1 claim")), Ok(Record::Event(Some(b"1 claim"))));
        assert_eq!(decode([("Freqcap", Some(b"1".as_slice()))], None), Ok(Record::Event(None)));
    }

    #[test]
    fn a_command_of_a_newer_version_is_told_from_one_that_cannot_be_read() {
        for header in ["2 claim - 00f3a1b2c3d4e5f6 17", "2", "4294967295 anything else"] {
            let version = header.split(' ').next().unwrap().parse().unwrap();
            let error = read(header, "{}").unwrap_err();
            assert_eq!(error, RecordError::Newer { version });
            assert!(error.to_string().starts_with("cluster_record_newer: "), "{error}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_malformed() {
        let claim = r#"{"node":"a","url":"http://a"}"#;
        for (header, payload) in [
            ("", claim),
            ("0 claim - 00f3a1b2c3d4e5f6 17", claim),
            ("01 claim - 00f3a1b2c3d4e5f6 17", claim),
            ("4294967296 claim - 00f3a1b2c3d4e5f6 17", claim),
            ("1 claim 5 00f3a1b2c3d4e5f6 17", claim),
            ("1 release - 00f3a1b2c3d4e5f6 17", "{}"),
            ("1 claim - 00F3A1B2C3D4E5F6 17", claim),
            ("1 claim - f3a1b2c3d4e5f6 17", claim),
            ("1 claim - 00f3a1b2c3d4e5f6 +17", claim),
            ("1 claim - 00f3a1b2c3d4e5f6 17 ", claim),
            ("1 claim - 00f3a1b2c3d4e5f6", claim),
            ("1 conquer - 00f3a1b2c3d4e5f6 17", claim),
            ("1 claim - 00f3a1b2c3d4e5f6 17", r#"{"node":"a"}"#),
            ("1 claim - 00f3a1b2c3d4e5f6 17", r#"{"node":"a","url":"http://a","more":1}"#),
            ("1 release 5 00f3a1b2c3d4e5f6 17", "[]"),
            ("1 erase 5 00f3a1b2c3d4e5f6 17", r#"{"user":"","key":null,"call":""}"#),
        ] {
            assert!(matches!(read(header, payload), Err(RecordError::Malformed(_))), "{header:?} {payload}");
        }
        let twice = [(HEADER, Some(b"1".as_slice())), (HEADER, Some(b"1".as_slice()))];
        assert!(matches!(decode(twice, Some(b"{}")), Err(RecordError::Malformed(_))));
        assert!(matches!(decode([(HEADER, None)], Some(b"{}")), Err(RecordError::Malformed(_))));
        let header = "1 claim - 00f3a1b2c3d4e5f6 17".as_bytes();
        assert!(matches!(decode([(HEADER, Some(header))], None), Err(RecordError::Malformed(_))));
    }
}
