//! Bodies that hold events: one object, an array, lines.

use super::field_lookup::{Found, find_fields};
use super::fields::{FieldsConfig, FieldsError, Framing};
use super::json::{elements, json_text, members, without_mark};
use super::mapping::Mapping;
use super::parse_event::{Reject, parse_event};
use super::raw::{NotJson, Raw};
use crate::model::Event;

/// What a JSON body holds, by its first byte; whether it is JSON at all shows only when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Object,
    Array,
    Scalar,
}

impl Body {
    pub fn peek(body: &[u8]) -> Self {
        match body.trim_ascii_start().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            // Behind a byte order mark.
            Some(0xef) => match without_mark(body.trim_ascii_start()).trim_ascii_start().first() {
                Some(b'{') => Self::Object,
                Some(b'[') => Self::Array,
                _ => Self::Scalar,
            },
            _ => Self::Scalar,
        }
    }
}

/// Why a whole body is refused. Whatever of it was read before must not be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is {0}")]
    NotJson(#[from] NotJson),
    #[error("the body is a JSON scalar, not an event or an array of events")]
    Scalar,
    #[error("the body holds more than {max} events")]
    TooMany { max: usize },
}

/// Reads events. The default one knows the standard names and their aliases.
#[derive(Debug, Clone, Default)]
pub struct EventReader {
    pub(super) mapping: Option<Box<Mapping>>,
    framing: Framing,
    skip_bytes: usize,
}

impl EventReader {
    /// A reader that looks where `[fields]` say first, and then under the standard names.
    pub fn new(fields: &FieldsConfig) -> Result<Self, FieldsError> {
        if fields.framing != Framing::None && fields.skip_bytes > 0 {
            return Err(FieldsError::TwoFramings);
        }
        let mapping = Mapping::new(fields)?.map(Box::new);
        Ok(Self { mapping, framing: fields.framing, skip_bytes: fields.skip_bytes.into() })
    }

    /// Reads the value of a record: an event behind what `[fields]` say comes before it.
    pub fn record<'a>(&self, value: &'a [u8]) -> Result<Event<'a>, Reject> {
        let invalid = |detail: String| Reject::new(Reject::INVALID_FRAMING, detail);
        let json = match (self.framing, value) {
            (Framing::None, _) => value.get(self.skip_bytes..).ok_or_else(|| {
                invalid(format!("the value has {} bytes, and fields.skip_bytes is {}", value.len(), self.skip_bytes))
            }),
            (Framing::Confluent, [0, _, _, _, _, json @ ..]) => Ok(json),
            (Framing::Confluent, _) => {
                Err(invalid("the value does not begin with a zero byte and the four bytes of a schema id".to_owned()))
            }
        };
        self.event(json?)
    }

    /// Reads one event: a message, or a line.
    pub fn event<'a>(&self, json: &'a [u8]) -> Result<Event<'a>, Reject> {
        self.text(utf8(json)?, &mut self.found())
    }

    /// Reads a body that is an array, giving each element's index and event to `sink`. An error makes void what
    /// `sink` was given before. Says how many elements there were.
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

    /// Reads a body of lines, one event each, giving each line's index and event to `sink`. Blank lines are skipped
    /// but counted in the index; every other is judged by itself. Says how many were not blank.
    pub fn lines<'a>(
        &self,
        body: &'a [u8],
        max: usize,
        mut sink: impl FnMut(usize, Result<Event<'a>, Reject>),
    ) -> Result<usize, BodyError> {
        // Checking the text as a whole is several times faster than line by line; bad UTF-8 condemns its line alone.
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

    /// Reads a text that is one value, by way of `found`.
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

/// Whether what lacks its user or ad is Debezium's record of a deleted row or an emptied table, in its envelope or without
/// the schema around that.
#[cold]
fn is_deletion(json: &str, reject: &Reject) -> bool {
    if !matches!(reject.code, Reject::MISSING_USER | Reject::MISSING_DA) {
        return false;
    }
    let (mut op, mut payload) = (None, None);
    let look = |name: &str| matches!(name, "op" | "payload").then(|| name == "op");
    let read = members(json, look, |is_op, value| {
        *(if is_op { &mut op } else { &mut payload }) = Some(value);
        Ok(())
    });
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

/// Whether a body is of several lines with an object on each, though it was called a JSON text.
pub fn looks_like_lines(body: &[u8]) -> bool {
    let lines = body.split(|byte| *byte == b'\n').map(|line| without_mark(line.trim_ascii()));
    let mut objects = lines.filter(|line| !line.is_empty()).map(|line| line.starts_with(b"{") && line.ends_with(b"}"));
    objects.next() == Some(true) && objects.next() == Some(true)
}

fn utf8(body: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(body).map_err(|why| NotJson { at: why.valid_up_to(), why: "not UTF-8".to_owned() })
}
