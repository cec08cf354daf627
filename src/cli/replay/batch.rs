//! Events made into the NDJSON body of a request, under their standard names.

use crate::cli::files::Place;
use crate::model::{Event, Kind, TsMs};
use bytes::Bytes;
use serde::Serialize;

/// The body of a request, and where its events stand in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    pub body: Bytes,
    /// The line in the file of each line of the body.
    pub lines: Vec<u64>,
}

/// Gathers events into batches.
pub(super) struct Batcher {
    size: usize,
    /// Added to every time.
    shift_ms: i64,
    /// Whether events without an id get one.
    make_ids: bool,
    body: Vec<u8>,
    lines: Vec<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    user: &'a str,
    da: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<TsMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<&'a str>,
}

impl Batcher {
    pub fn new(size: usize, shift_ms: i64, make_ids: bool) -> Self {
        Self { size, shift_ms, make_ids, body: Vec::new(), lines: Vec::new() }
    }

    pub fn push(&mut self, place: Place, event: &Event<'_>) {
        let made;
        let id = match &event.id {
            Some(id) => Some(id.as_str()),
            None if self.make_ids => {
                made = format!("replay-{:016x}-{}", place.hash, place.line);
                Some(made.as_str())
            }
            None => None,
        };
        let line = Line {
            user: event.user.as_str(),
            da: event.da.as_str(),
            ts: event.ts.map(|ts| TsMs(ts.0.saturating_add_signed(self.shift_ms))),
            id,
            kind: Some(event.kind.as_str()).filter(|_| event.kind != Kind::IMPRESSION),
            keys: event.keys.iter().map(|key| key.as_str()).collect(),
        };
        // Text and integers into memory: cannot fail.
        if serde_json::to_writer(&mut self.body, &line).is_ok() {
            self.body.push(b'\n');
            self.lines.push(place.line);
        }
    }

    /// The batch, if it is full.
    pub fn take_full(&mut self) -> Option<Batch> {
        if self.lines.len() >= self.size { self.take_rest() } else { None }
    }

    /// The batch, if there is anything in it.
    pub fn take_rest(&mut self) -> Option<Batch> {
        let lines = std::mem::take(&mut self.lines);
        let body = std::mem::take(&mut self.body).into();
        (!lines.is_empty()).then_some(Batch { body, lines })
    }
}
