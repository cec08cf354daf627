//! What is asked over a connection, request by request, and what an answer counts for.

use super::stream::{Part, Stream, push_user};
use super::text::{number_after, push_number, push_padded};
use std::sync::OnceLock;

/// The requests of one connection.
pub trait Calls: Send {
    /// Writes the next request, head and body, into the empty `out`.
    fn next(&mut self, out: &mut Vec<u8>);

    /// What an answer of success counts for: events, verdicts, requests.
    fn done(&mut self, body: &[u8]) -> u64;
}

const LENGTH_DIGITS: usize = 8;

pub fn post(out: &mut Vec<u8>, target: &str, content_type: &str, write: impl FnOnce(&mut Vec<u8>)) {
    with_body(out, "POST", target, content_type, write);
}

pub fn put(out: &mut Vec<u8>, target: &str, content_type: &str, write: impl FnOnce(&mut Vec<u8>)) {
    with_body(out, "PUT", target, content_type, write);
}

/// A request whose body `write` writes. The length is filled in behind it, as digits with leading zeros.
fn with_body(out: &mut Vec<u8>, method: &str, target: &str, content_type: &str, write: impl FnOnce(&mut Vec<u8>)) {
    for part in [method, " ", target, " HTTP/1.1\r\nhost: localhost\r\ncontent-type: ", content_type] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    push_key(out);
    out.extend_from_slice(b"content-length: ");
    let length_at = out.len();
    out.extend_from_slice(b"00000000\r\n\r\n");
    let body_at = out.len();
    write(out);
    let mut length = Vec::with_capacity(LENGTH_DIGITS);
    push_padded(&mut length, (out.len() - body_at) as u64, LENGTH_DIGITS);
    out[length_at..length_at + LENGTH_DIGITS].copy_from_slice(&length);
}

pub fn get(out: &mut Vec<u8>, write_target: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"GET ");
    write_target(out);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: localhost\r\n");
    push_key(out);
    out.extend_from_slice(b"\r\n");
}

/// The field of a header that names the key of this process, empty where it has none.
static KEY: OnceLock<Vec<u8>> = OnceLock::new();

/// Has every request from here on call with this secret.
pub fn call_with(secret: &str) {
    let _ = KEY.set(format!("authorization: Bearer {secret}\r\n").into_bytes());
}

fn push_key(out: &mut Vec<u8>) {
    if let Some(field) = KEY.get() {
        out.extend_from_slice(field);
    }
}

/// Calls with a key of their own.
pub struct Keyed<C> {
    calls: C,
    field: Vec<u8>,
}

impl<C> Keyed<C> {
    pub fn new(calls: C, secret: Option<&str>) -> Self {
        let field = secret.map(|secret| format!("authorization: Bearer {secret}\r\n").into_bytes());
        Self { calls, field: field.unwrap_or_default() }
    }
}

impl<C: Calls> Calls for Keyed<C> {
    fn next(&mut self, out: &mut Vec<u8>) {
        self.calls.next(out);
        let first_field = memchr::memmem::find(out, b"\r\n").map_or(0, |at| at + 2);
        out.splice(first_field..first_field, self.field.iter().copied());
    }

    fn done(&mut self, body: &[u8]) -> u64 {
        self.calls.done(body)
    }
}

pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";

/// POST /events with `batch` lines; an event counts.
pub struct Batches {
    pub events: Part,
    pub batch: usize,
}

impl Calls for Batches {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, "/events", NDJSON, |out| self.events.push_lines(out, self.batch));
    }

    fn done(&mut self, body: &[u8]) -> u64 {
        number_after(body, b"\"counted\":") + number_after(body, b"\"duplicate\":")
    }
}

/// POST /events with one event each.
pub struct Single {
    pub events: Part,
}

impl Calls for Single {
    fn next(&mut self, out: &mut Vec<u8>) {
        let event = self.events.next();
        post(out, "/events", JSON, |out| self.events.push(out, event));
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        1
    }
}

/// GET /cap for pairs that the same part has sent: any of its first `held` events.
pub struct Caps {
    events: Part,
    held: u64,
    /// Which of them: a stream of its own.
    draws: Part,
}

impl Caps {
    /// Asks for what connection `connection` of the stream sent.
    pub fn of(stream: &Stream, connection: usize, held: u64) -> Self {
        let draws = Stream { seed: !stream.seed, ..*stream };
        Self { events: stream.part(connection), held, draws: draws.part(connection) }
    }

    /// Another choice among the same pairs for each number.
    pub fn drawn_by(self, number: usize) -> Self {
        let draws = self.draws.of(number);
        Self { draws, ..self }
    }
}

impl Calls for Caps {
    fn next(&mut self, out: &mut Vec<u8>) {
        let event = self.events.event(self.draws.draw(self.held));
        get(out, |out| {
            out.extend_from_slice(b"/cap/");
            push_user(out, event.user);
            out.push(b'/');
            push_number(out, event.ad);
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        1
    }
}

/// POST /check of one user; a verdict counts.
pub struct Checks {
    pub draws: Part,
    pub candidates: usize,
}

impl Calls for Checks {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, "/check", JSON, |out| {
            push_candidates(out, &mut self.draws, self.candidates);
            out.push(b'}');
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        self.candidates as u64
    }
}

/// POST /reserve of one user, each with an id of its own.
pub struct Reserves {
    pub draws: Part,
    pub candidates: usize,
}

impl Calls for Reserves {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, "/reserve", JSON, |out| {
            push_candidates(out, &mut self.draws, self.candidates);
            out.extend_from_slice(b",\"id\":\"");
            self.draws.push_new_id(out);
            out.extend_from_slice(b"\"}");
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        1
    }
}

fn push_candidates(out: &mut Vec<u8>, draws: &mut Part, count: usize) {
    out.extend_from_slice(b"{\"user\":\"");
    draws.push_any_user(out);
    out.extend_from_slice(b"\",\"candidates\":[\"");
    for number in 0..count {
        if number > 0 {
            out.extend_from_slice(b"\",\"");
        }
        draws.push_any_ad(out);
    }
    out.extend_from_slice(b"\"]");
}

/// One of two at a time: the first with a chance of so many in ten.
pub struct Mixed<A, B> {
    first: A,
    in_ten: u64,
    second: B,
    draws: Part,
    last_was_first: bool,
}

impl<A, B> Mixed<A, B> {
    pub fn new(first: A, in_ten: u64, second: B, draws: Part) -> Self {
        Self { first, in_ten, second, draws, last_was_first: false }
    }
}

impl<A: Calls, B: Calls> Calls for Mixed<A, B> {
    fn next(&mut self, out: &mut Vec<u8>) {
        self.last_was_first = self.draws.draw(10) < self.in_ten;
        if self.last_was_first { self.first.next(out) } else { self.second.next(out) }
    }

    fn done(&mut self, body: &[u8]) -> u64 {
        if self.last_was_first { self.first.done(body) } else { self.second.done(body) }
    }
}
