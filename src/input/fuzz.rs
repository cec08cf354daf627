//! What must hold of every input, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`].
//!
//! Nothing here may panic but by an assertion that does not hold.

pub(crate) use super::canonical::DEPTH;
use super::canonical::body_hash;
use super::field_lookup::Found;
use super::json::{members_by_library, without_mark};
use super::parse_event::parse_event;
use super::raw::Raw;
use super::standard_fields::slot;
use super::{EventReader, FieldsConfig, Framing, Reject, TsUnit, fast_json};
use crate::model::{CapKey, DaId, Event, EventId, Kind, Level, MAX_KEYS, TsMs, UserId, Zone};
use serde_json::value::RawValue;
use std::fmt::{Debug, Write};
use std::sync::LazyLock;

/// What a schema registry's serialisers write before a value.
const FRAME: [u8; 5] = [0, 1, 2, 3, 4];

/// A few, so that a fuzzer soon finds a body with more.
const MAX_EVENTS: usize = 64;

/// Reads events under every kind of `[fields]`.
static READERS: LazyLock<Vec<EventReader>> = LazyLock::new(|| {
    let path = |path: &str| Some(path.to_owned());
    let nested = FieldsConfig {
        user: path("user.id"),
        da: path("a.b.c"),
        ts: path("t"),
        kind: path("a.kind"),
        keys: [("campaign".to_owned(), "a.b".to_owned()), ("site".to_owned(), "site".to_owned())].into(),
        ..FieldsConfig::default()
    };
    let with_unit = |ts_unit| FieldsConfig { ts: path("t"), ts_unit, ..FieldsConfig::default() };
    let zone = Zone::new("Europe/Berlin").map(TsUnit::Civil);
    let framed = FieldsConfig { deleted: path("a.op"), framing: Framing::Confluent, ..FieldsConfig::default() };
    let skipping = FieldsConfig { skip_bytes: FRAME.len() as u16, ..FieldsConfig::default() };
    let units = [TsUnit::S, TsUnit::Us, TsUnit::Ns, TsUnit::Text].map(with_unit);
    let configs = [FieldsConfig::default(), nested, framed, skipping].into_iter().chain(units);
    let zoned = zone.ok().map(with_unit);
    configs.chain(zoned).filter_map(|config| EventReader::new(&config).ok()).collect()
});

/// The reader that a byte stands for.
pub(crate) fn reader(choice: u8) -> &'static EventReader {
    &READERS[usize::from(choice) % READERS.len()]
}

/// A body of events after a byte that chooses the `[fields]`: as one event, as an array, and as lines.
pub(crate) fn events(bytes: &[u8]) {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let reader = reader(choice);
    let text = std::str::from_utf8(body);
    let rewritten = text.ok().and_then(rewritten);
    let framed = [&FRAME, body].concat();
    let event = reader.event(body);
    // A topic's value is the event alone, or what is before it is passed over.
    let (alone, behind) = (reader.record(body), reader.record(&framed));
    assert!(alone == event || behind == event, "{body:?}");
    event.iter().for_each(|event| check_event(event, body.len()));
    if let Ok(text) = text {
        one_pass_is_the_library(text);
        slow_path_is_the_same(text);
    }
    if let Some(rewritten) = &rewritten {
        assert_same(&event, &reader.event(rewritten.as_bytes()), &text);
    }
    array(reader, body);
    lines(reader, body);
}

/// What the fast reader of objects takes, the JSON library takes, and finds the same in it.
fn one_pass_is_the_library(text: &str) {
    let Some(members) = fast_json::members(text, |name| Some(name.to_owned())) else { return };
    let mut found = members.into_iter().map(|(name, value)| (name, value.source()));
    let read = members_by_library(
        text,
        |name| Some(name.to_owned()),
        |name, value| {
            assert_eq!(found.next(), Some((name, value.source())), "{text:?}");
            Ok(())
        },
    );
    assert!(read.is_ok(), "{text:?}: {read:?}");
    assert_eq!(found.next(), None, "{text:?}");
}

/// An event is the same where the library alone took it apart.
fn slow_path_is_the_same(text: &str) {
    let mut found = Found::new(None);
    let look = |name: &str| slot(name.as_bytes());
    let read = members_by_library(text, look, |slot, value| {
        found.standard[slot] = Some(value).filter(|value| !value.is_null());
        Ok(())
    });
    if read.is_ok() {
        match reader(0).event(text.as_bytes()) {
            // What lacks its user or ad is looked at once more.
            Err(reject) if reject.code == Reject::DELETED_ROW => {}
            event => assert_same(&event, &parse_event(&found, None), text),
        }
    }
}

fn array(reader: &EventReader, body: &[u8]) {
    let mut events = Vec::new();
    let read = reader.array(body, MAX_EVENTS, |index, event| {
        assert_eq!(index, events.len(), "{body:?}");
        events.push(event);
    });
    assert!(events.len() <= MAX_EVENTS);
    if let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(body) {
        assert_eq!(read.is_ok(), elements.len() <= MAX_EVENTS, "{body:?}");
        if read.is_ok() {
            assert_eq!(events.len(), elements.len(), "{body:?}");
            for (event, element) in events.iter().zip(elements) {
                assert_same(event, &reader.event(element.get().as_bytes()), element.get());
            }
        }
    }
}

fn lines(reader: &EventReader, body: &[u8]) {
    let texts: Vec<&[u8]> = body.split(|&byte| byte == b'\n').collect();
    let mut events = Vec::new();
    let read = reader.lines(body, MAX_EVENTS, |index, event| events.push((index, event)));
    let many = texts.iter().filter(|line| !without_mark(line.trim_ascii()).is_empty()).count() > MAX_EVENTS;
    assert_eq!(read.as_ref().ok().copied(), (!many).then_some(events.len()));
    assert!(events.is_sorted_by_key(|(index, _)| *index));
    for (index, event) in &events {
        assert_same(event, &reader.event(texts[*index]), &texts[*index]);
    }
}

/// Reads are the same, save for the places in the text that a rejection names.
pub(crate) fn assert_same<T: PartialEq + Debug>(
    a: &Result<T, Reject>,
    b: &Result<T, Reject>,
    of: &(impl Debug + ?Sized),
) {
    match (a, b) {
        (Err(a), Err(b)) if a.code == Reject::INVALID_JSON => assert_eq!(a.code, b.code, "{of:?}"),
        _ => assert_eq!(a, b, "{of:?}"),
    }
}

/// Every part of an event is valid by itself, and no longer than what it was read from.
pub(crate) fn check_event(event: &Event<'_>, len: usize) {
    assert!(UserId::new(event.user.as_str()).is_ok() && DaId::new(event.da.as_str()).is_ok(), "{event:?}");
    assert!(event.id.as_ref().is_none_or(|id| EventId::new(id.as_str()).is_ok()), "{event:?}");
    assert!(event.ts.is_none_or(is_log_time), "{event:?}");
    assert_eq!(Kind::new(event.kind.as_str()), Ok(event.kind));
    check_keys(&event.keys);
    assert!(event.user.as_str().len() + event.da.as_str().len() <= 2 * len, "{event:?} of {len} bytes");
}

pub(crate) fn check_keys(keys: &[CapKey<'_>]) {
    assert!(keys.len() <= MAX_KEYS, "{keys:?}");
    for (at, key) in keys.iter().enumerate() {
        assert!(CapKey::new(key.as_str()).is_ok() && key.level() != Level::DA, "{key:?}");
        assert!(!keys[..at].contains(key), "{keys:?}");
    }
}

pub(crate) fn is_log_time(ts: TsMs) -> bool {
    TsMs::RANGE.contains(&i128::from(ts.0))
}

/// A JSON value: its hash is that of the same value written otherwise, and not that of another one beside it.
pub(crate) fn canonical(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    let hash = body_hash(json);
    assert_eq!(hash.is_ok(), Raw::new(json).is_ok(), "{json:?}");
    let (Ok(hash), Some(rewritten)) = (hash, rewritten(json)) else { return };
    if depth(json) <= DEPTH {
        assert_eq!(body_hash(&rewritten), Ok(hash), "{json:?} {rewritten:?}");
    }
    for other in [format!("[{json}]"), format!("{{\"\":{json}}}"), format!("[{json},null]"), format!("[null,{json}]")] {
        assert_ne!(body_hash(&other), Ok(hash), "{json:?} {other:?}");
    }
}

/// The text of an instant: what is read can be written as RFC 3339 and as an integer, and means the same.
pub(crate) fn instant(bytes: &[u8]) {
    let Some((&choice, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let event = |ts: &str, member| {
        let json = format!(r#"{{"user":"u","da":"d","{member}":{ts}}}"#);
        reader(choice).event(json.as_bytes()).map(|event| event.ts)
    };
    let quoted = serde_json::Value::from(text).to_string();
    for ts in ["ts", "t"].into_iter().flat_map(|member| [event(&quoted, member), event(text, member)]) {
        let Ok(Some(ts)) = ts else { continue };
        assert!(is_log_time(ts), "{text:?}");
        let Ok(instant) = jiff::Timestamp::from_millisecond(ts.0 as i64) else { panic!("{text:?} is {ts:?}") };
        assert_eq!(TsMs::from_iso8601(&instant.to_string()), Ok(ts), "{text:?}");
        assert_eq!(
            reader(0).event(format!(r#"{{"user":"u","da":"d","ts":{}}}"#, ts.0).as_bytes()).map(|it| it.ts),
            Ok(Some(ts))
        );
    }
    if let Ok(ts) = TsMs::from_iso8601(text) {
        let parsed = text.parse::<jiff::Timestamp>().map(|instant| instant.as_nanosecond().div_euclid(1_000_000));
        assert!(parsed.is_err() || parsed.is_ok_and(|parsed| parsed == i128::from(ts.0)), "{text:?} is {ts:?}");
    }
    if let Ok(span) = text.parse::<crate::model::Span>() {
        assert!((1..=crate::model::Span::MAX_MS).contains(&span.as_millis()), "{text:?}");
        assert_eq!(span.to_string().parse(), Ok(span), "{text:?}");
    }
}

/// The same JSON value written otherwise: white space wherever it may be, and every character of a string as an escape.
/// `None` of what is no JSON.
pub(crate) fn rewritten(json: &str) -> Option<String> {
    Raw::new(json).ok()?;
    let mut out = String::with_capacity(8 * json.len());
    let mut rest = json;
    while let Some(next) = rest.chars().next() {
        if next == '"' {
            let (literal, after) = rest.split_at(literal_len(rest));
            match serde_json::from_str::<String>(literal) {
                Ok(text) => escaped(&mut out, &text),
                // Half of a surrogate pair.
                Err(_) => out.push_str(literal),
            }
            rest = after;
        } else {
            out.push_str(match next {
                '{' => "{\n ",
                '[' => "[\t",
                ':' => " : ",
                ',' => "\r, ",
                '}' => " }",
                ']' => " ]",
                _ => &rest[..next.len_utf8()],
            });
            rest = &rest[next.len_utf8()..];
        }
    }
    Some(out)
}

/// How long the string literal is with which a text begins.
fn literal_len(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

fn escaped(out: &mut String, text: &str) {
    out.push('"');
    for unit in text.encode_utf16() {
        // Writing to a text cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
    out.push('"');
}

/// How deep objects and arrays stand in one another.
pub(crate) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut rest) = (0usize, 0, json);
    while let Some(next) = rest.chars().next() {
        let len = if next == '"' { literal_len(rest) } else { next.len_utf8() };
        match next {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        rest = &rest[len..];
    }
    deepest
}
