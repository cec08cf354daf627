//! Bodies of events: one object, an array, or lines.

use super::field_lookup::{Found, find_fields};
use super::fields::{FieldsConfig, FieldsError, Framing};
use super::json::{elements, json_text, members, without_mark};
use super::mapping::Mapping;
use super::parse_event::{Reject, parse_event};
use super::raw::{NotJson, Raw};
use crate::model::Event;

/// The form of a JSON body, by its first byte. Whether it is valid JSON shows only when it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It begins with `{`.
    Object,
    /// It begins with `[`.
    Array,
    /// Anything else.
    Scalar,
}

impl Body {
    /// Looks at the first byte that is not white space.
    pub fn peek(body: &[u8]) -> Self {
        match body.trim_ascii_start().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            // After a byte order mark.
            Some(0xef) => match without_mark(body.trim_ascii_start()).trim_ascii_start().first() {
                Some(b'{') => Self::Object,
                Some(b'[') => Self::Array,
                _ => Self::Scalar,
            },
            _ => Self::Scalar,
        }
    }
}

/// Why a whole body is refused. Events that were parsed before must not be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum BodyError {
    #[error("the body is {0}")]
    NotJson(#[from] NotJson),
    #[error("the body is a JSON scalar, not an event or an array of events")]
    Scalar,
    #[error("the body holds more than {max} events")]
    TooMany { max: usize },
}

/// Parses events. The default one knows the standard names and their aliases.
#[derive(Debug, Clone, Default)]
pub struct EventReader {
    pub(super) mapping: Option<Box<Mapping>>,
    framing: Framing,
    skip_bytes: usize,
}

impl EventReader {
    /// A reader that looks fields up where `[fields]` say, then under the standard names.
    pub fn new(fields: &FieldsConfig) -> Result<Self, FieldsError> {
        if fields.framing != Framing::None && fields.skip_bytes > 0 {
            return Err(FieldsError::TwoFramings);
        }
        let mapping = Mapping::new(fields)?.map(Box::new);
        Ok(Self { mapping, framing: fields.framing, skip_bytes: fields.skip_bytes.into() })
    }

    /// Parses a record's value: an event, after the framing or the bytes that `[fields]` name.
    pub fn record<'a>(&self, value: &'a [u8]) -> Result<Event<'a>, Reject> {
        let json = match (self.framing, value) {
            (Framing::None, _) => value.get(self.skip_bytes..).ok_or_else(|| {
                format!("the value has {} bytes, and fields.skip_bytes is {}", value.len(), self.skip_bytes)
            }),
            (Framing::Confluent, [0, _, _, _, _, json @ ..]) => Ok(json),
            (Framing::Confluent, _) => {
                Err("the value does not begin with a zero byte and the four bytes of a schema id".to_owned())
            }
        };
        self.event(json.map_err(|detail| Reject::new(Reject::INVALID_FRAMING, detail))?)
    }

    /// Parses one event: a message, or a line.
    pub fn event<'a>(&self, json: &'a [u8]) -> Result<Event<'a>, Reject> {
        self.text(utf8(json)?, &mut self.found())
    }

    /// Parses a body that is an array and passes each element's index and event to `sink`. On an error, what `sink` got
    /// is void. Returns how many elements there were.
    pub fn array<'a>(
        &self,
        body: &'a [u8],
        max: usize,
        mut sink: impl FnMut(usize, Result<Event<'a>, Reject>),
    ) -> Result<usize, BodyError> {
        let text = json_text(utf8(body)?);
        if Body::peek(body) != Body::Array {
            return Raw::new(text).map_err(BodyError::from).and(Err(BodyError::Scalar));
        }
        let mut count = 0;
        let mut found = self.found();
        elements(text, |element| {
            if count < max {
                sink(count, self.text(element.source(), &mut found));
            }
            count += 1;
        })?;
        if count > max { Err(BodyError::TooMany { max }) } else { Ok(count) }
    }

    /// Parses a body of lines, one event each, and passes each line's index and event to `sink`. Blank lines are
    /// skipped, but count in the index. An invalid line does not affect the others. Returns how many lines were not
    /// blank.
    pub fn lines<'a>(
        &self,
        body: &'a [u8],
        max: usize,
        mut sink: impl FnMut(usize, Result<Event<'a>, Reject>),
    ) -> Result<usize, BodyError> {
        // Validating the whole text is several times faster than line by line. Invalid UTF-8 rejects its own line only.
        let whole = std::str::from_utf8(body).ok();
        let (mut start, mut index, mut count) = (0, 0, 0);
        let mut found = self.found();
        while start < body.len() {
            let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |at| start + at);
            if !without_mark(body[start..end].trim_ascii()).is_empty() {
                if count == max {
                    return Err(BodyError::TooMany { max });
                }
                let event = match whole {
                    Some(text) => self.text(&text[start..end], &mut found),
                    None => self.event(&body[start..end]),
                };
                sink(index, event);
                count += 1;
            }
            (start, index) = (end + 1, index + 1);
        }
        Ok(count)
    }

    fn found<'a>(&self) -> Found<'a> {
        Found::new(self.mapping.as_deref())
    }

    /// Parses a text that is one value; `found` is reused between calls.
    #[inline]
    fn text<'a>(&self, text: &'a str, found: &mut Found<'a>) -> Result<Event<'a>, Reject> {
        let text = json_text(text);
        if Body::peek(text.as_bytes()) != Body::Object {
            return Err(Raw::new(text).map_or_else(Reject::from, Reject::not_an_object));
        }
        let mapping = self.mapping.as_deref();
        find_fields(text, mapping, found)?;
        parse_event(found, mapping)
            .map_err(|reject| if is_deletion(text, &reject) { Reject::deleted_row() } else { reject })
    }
}

/// Whether a value without user or ad is Debezium's record of a deleted row or a truncated table, with or without the
/// schema around it.
#[cold]
fn is_deletion(json: &str, reject: &Reject) -> bool {
    if !matches!(reject.code, Reject::MISSING_USER | Reject::MISSING_DA) {
        return false;
    }
    let (mut op, mut payload) = (None, None);
    let read = members(
        json,
        |name| matches!(name, "op" | "payload").then(|| name == "op"),
        |is_op, value| {
            *(if is_op { &mut op } else { &mut payload }) = Some(value);
            Ok(())
        },
    );
    let inner = payload.map(Raw::source).filter(|payload| payload.starts_with('{'));
    if let Some(inner) = inner {
        let _ = members(
            inner,
            |name| (name == "op").then_some(()),
            |(), value| {
                op = Some(value);
                Ok(())
            },
        );
    }
    read.is_ok() && op.is_some_and(|op| matches!(op.text().as_deref(), Some("d" | "t")))
}

/// Whether a body called JSON has several lines with an object on each.
pub fn looks_like_lines(body: &[u8]) -> bool {
    let lines = body.split(|byte| *byte == b'\n').map(|line| without_mark(line.trim_ascii()));
    let mut objects = lines.filter(|line| !line.is_empty()).map(|line| line.starts_with(b"{") && line.ends_with(b"}"));
    objects.next() == Some(true) && objects.next() == Some(true)
}

fn utf8(body: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(body).map_err(|why| NotJson { at: why.valid_up_to(), why: "not UTF-8".to_owned() })
}
