//! How a stream is written: as server-sent events, or as lines of JSON.

use crate::api::StreamEvent;

/// What comes before a cap, in both forms. The JSON of a cap has other fields, so it goes on after its brace.
const CAP_EVENT: &[u8] = b"event: cap\ndata: ";
const CAP_LINE: &[u8] = b"{\"event\":\"cap\",";

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`.
    ServerSentEvents,
    /// `application/x-ndjson`.
    Lines,
}

impl Framing {
    /// The form that a reader accepts: lines if it names them, else events.
    pub fn accepted(accept: Option<&str>) -> Self {
        let names = |range: &str| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_lines = |range: &str| names(range) == "application/x-ndjson";
        if accept.is_some_and(|accept| accept.split(',').any(is_lines)) { Self::Lines } else { Self::ServerSentEvents }
    }

    /// The media type of the answer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::ServerSentEvents => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// What a stream begins with: it tells the reader at once that it is open, and when to come back once it is not.
    pub(super) fn greet(self, out: &mut Vec<u8>) {
        if self == Self::ServerSentEvents {
            out.extend_from_slice(b"retry: 1000\n\n");
        }
    }

    /// Has idle connections known as alive. Lines need none: they have a checkpoint each second.
    pub(super) fn heartbeat(self, out: &mut Vec<u8>) {
        if self == Self::ServerSentEvents {
            out.extend_from_slice(b": heartbeat\n\n");
        }
    }

    /// Appends a cap that is written as JSON.
    pub(super) fn cap(self, json: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::ServerSentEvents => {
                out.extend_from_slice(CAP_EVENT);
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n\n");
            }
            Self::Lines => {
                out.extend_from_slice(CAP_LINE);
                out.extend_from_slice(&json[1..]);
                out.push(b'\n');
            }
        }
    }

    /// The bytes that [`Self::cap`] appends.
    pub(super) fn cap_bytes(self, json: &[u8]) -> usize {
        match self {
            Self::ServerSentEvents => CAP_EVENT.len() + json.len() + 2,
            Self::Lines => CAP_LINE.len() + json.len(),
        }
    }

    /// Appends any other event.
    pub(super) fn event(self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        // Serializing plain fields to memory cannot fail.
        let line = serde_json::to_string(event).unwrap_or_default();
        if self == Self::Lines {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            return;
        }
        let name = name(event);
        let rest = line.strip_prefix(&format!("{{\"event\":\"{name}\",")).unwrap_or_default();
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
        if let StreamEvent::Checkpoint { id } = event {
            out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        out.extend_from_slice(format!("data: {{{rest}\n\n").as_bytes());
    }
}

fn name(event: &StreamEvent<'_>) -> &'static str {
    match event {
        StreamEvent::Cap(_) => "cap",
        StreamEvent::Checkpoint { .. } => "checkpoint",
        StreamEvent::SnapshotBegin { .. } => "snapshot_begin",
        StreamEvent::SnapshotEnd { .. } => "snapshot_end",
        StreamEvent::Reset { .. } => "reset",
        StreamEvent::Lagged { .. } => "lagged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CapChanged;
    use crate::model::CapChange;

    fn written(framing: Framing, event: &StreamEvent<'_>) -> String {
        let mut out = Vec::new();
        framing.event(event, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let checkpoint = StreamEvent::Checkpoint { id: "AQ" };
        assert_eq!(written(Framing::Lines, &checkpoint), "{\"event\":\"checkpoint\",\"id\":\"AQ\"}\n");
        assert_eq!(
            written(Framing::ServerSentEvents, &checkpoint),
            "event: checkpoint\nid: AQ\ndata: {\"id\":\"AQ\"}\n\n"
        );
        let reset = StreamEvent::Reset { reason: "other_store" };
        assert_eq!(written(Framing::ServerSentEvents, &reset), "event: reset\ndata: {\"reason\":\"other_store\"}\n\n");
    }

    #[test]
    fn a_cap_is_written_alike_whether_it_was_json_before_or_not() {
        let cap = || CapChanged {
            user: "u",
            key: "da:1",
            change: CapChange::Ended,
            capped_until: None,
            at: None,
            seq: "1-2",
        };
        let json = serde_json::to_vec(&cap()).unwrap();
        for framing in [Framing::Lines, Framing::ServerSentEvents] {
            let mut out = Vec::new();
            framing.cap(&json, &mut out);
            assert_eq!(out.len(), framing.cap_bytes(&json));
            assert_eq!(String::from_utf8(out).unwrap(), written(framing, &StreamEvent::Cap(cap())));
        }
    }

    #[test]
    fn lines_are_for_those_who_name_them() {
        for (accept, expected) in [
            (None, Framing::ServerSentEvents),
            (Some("*/*"), Framing::ServerSentEvents),
            (Some("text/event-stream"), Framing::ServerSentEvents),
            (Some("application/x-ndjson"), Framing::Lines),
            (Some("text/html, Application/X-NDJSON;q=0.9"), Framing::Lines),
        ] {
            assert_eq!(Framing::accepted(accept), expected, "{accept:?}");
        }
    }
}
