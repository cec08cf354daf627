//! Reads the bodies of requests, bounded in bytes and in time, both as they are sent and as they are unpacked.

use super::app::App;
use super::body_budget::BodyBudget;
use super::problem::Problem;
use super::route::Call;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// A whole body, with the memory that it takes.
pub(super) struct ReadBody {
    pub bytes: Bytes,
    pub budget: BodyBudget,
}

/// What was read from a body, with the memory that was taken for it: what is made of a body is as large as itself.
pub(super) struct Parsed<T> {
    pub value: T,
    pub _budget: BodyBudget,
}

/// Bodies of this many bytes and more are parsed in the background.
const LARGE: usize = 16 << 10;
/// Maximum bytes of a body of any call but `POST /events`.
const MAX_SMALL_BODY: usize = 1 << 20;
/// Bytes taken for what is made of a body of lines, for each of its own.
const LINES_GROWTH: usize = 4;
/// Maximum members of a compressed body. Even an empty one costs time.
const MEMBERS_MAX: usize = 10_000;

impl ReadBody {
    /// Whether parsing it here would make other calls wait.
    pub(super) fn is_large(&self) -> bool {
        self.bytes.len() >= LARGE
    }

    /// Parses the text on a thread of lower priority.
    pub(super) async fn parse_in_background<T: Send + 'static, E: Into<Problem>>(
        self,
        app: &App,
        parse: impl FnOnce(&str) -> Result<T, E> + Send + 'static,
    ) -> Result<Parsed<T>, Problem> {
        let parsed = app.background.spawn_blocking(move || {
            let value = parse(self.text()?).map_err(Into::into)?;
            Ok(Parsed { value, _budget: self.budget })
        });
        parsed.await.map_err(|_| Problem::internal())?
    }

    pub(super) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.bytes)
            .map_err(|why| Problem::bad_request("invalid_json", format!("the body is not UTF-8: {why}")))
    }
}

/// The largest window that a zstd body may ask memory for, as a power of two: 8 MiB, what RFC 8878 recommends decoders
/// to support.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The most memory that is taken for a body before it has arrived.
const RESERVED: usize = 256 << 10;
/// Bytes unpacked at a time.
const PIECE: usize = 64 << 10;

fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            format!("content-encoding {other:?} is none of gzip, zstd, identity"),
        )),
    }
}

fn too_large(most: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body has more than {most} bytes (as sent or unpacked)"),
    )
}

/// Reads and unpacks a body of at most `most` bytes.
pub(super) async fn read(app: &App, call: &mut Call, most: usize) -> Result<ReadBody, Problem> {
    let (headers, body) = (&call.parts.headers, &mut call.body);
    let encoding = encoding(headers)?;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > most) {
        return Err(too_large(most));
    }
    let mut budget = app.admission.body_budget();
    let packed = collect(app, body, declared, most, &mut budget).await?;
    if encoding == Encoding::Identity {
        return Ok(ReadBody { bytes: packed, budget });
    }
    // On another thread: how long it takes is not known before.
    let unpacked = app.background.spawn_blocking(move || {
        let bytes = unpack(encoding, &packed, most, &mut budget)?;
        Ok(ReadBody { bytes: bytes.into(), budget })
    });
    unpacked.await.map_err(|_| Problem::internal())?
}

/// Reads a body that is one JSON text.
pub(super) async fn read_json(app: &App, call: &mut Call) -> Result<ReadBody, Problem> {
    if form(call)? != Form::Json {
        return Err(unsupported_content_type(&call.parts.headers, "not application/json"));
    }
    read(app, call, app.limits.max_body.min(MAX_SMALL_BODY)).await
}

/// Reads a body of lines of NDJSON, and parses it on a thread of lower priority.
pub(super) async fn read_lines<T: Send + 'static, E: Into<Problem>>(
    app: &App,
    call: &mut Call,
    parse: impl FnOnce(&[u8]) -> Result<T, E> + Send + 'static,
) -> Result<Parsed<T>, Problem> {
    if form(call)? != Form::Lines {
        return Err(unsupported_content_type(&call.parts.headers, "not application/x-ndjson"));
    }
    let mut body = read(app, call, app.limits.max_body.min(MAX_SMALL_BODY)).await?;
    // What is made of short lines is several times as large as they are.
    let bytes = body.bytes.len();
    if !body.budget.grow_by(bytes, LINES_GROWTH * bytes) {
        return Err(Problem::overloaded("bodies"));
    }
    let parsed = app.background.spawn_blocking(move || {
        let value = parse(&body.bytes).map_err(Into::into)?;
        Ok(Parsed { value, _budget: body.budget })
    });
    parsed.await.map_err(|_| Problem::internal())?
}

/// What a body says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Lines,
}

/// Reads `Content-Type`, which must be there.
pub(super) fn form(call: &Call) -> Result<Form, Problem> {
    let headers = &call.parts.headers;
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "there is no content-type: application/json, or for events application/x-ndjson",
        ));
    };
    let value = value.to_str().unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
        _ => Err(unsupported_content_type(headers, "neither application/json nor application/x-ndjson")),
    }
}

pub(super) fn unsupported_content_type(headers: &HeaderMap, why: &str) -> Problem {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_type",
        format!("content-type {value:?} is {why}"),
    )
}

async fn collect(
    app: &App,
    body: &mut Body,
    declared: Option<usize>,
    most: usize,
    budget: &mut BodyBudget,
) -> Result<Bytes, Problem> {
    let mut end = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut total = 0;
    loop {
        // Most bodies have arrived with their header. Those need no clock.
        let frame = match frame_at_once(body).await {
            Some(frame) => frame,
            None => {
                let now = Instant::now();
                let end = *end.get_or_insert(now + app.limits.request_timeout);
                let left = end.saturating_duration_since(now).min(budget.time_left());
                tokio::select! {
                    biased;
                    frame = tokio::time::timeout(left, body.frame()) => frame.map_err(|_| too_slow())?,
                    () = budget.given_up() => return Err(too_slow()),
                }
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::bad_request("body_incomplete", "the body ended before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total > most {
            return Err(too_large(most));
        }
        if data.is_empty() {
            continue;
        }
        if budget.grow_now(total).is_err() {
            let now = Instant::now();
            let end = *end.get_or_insert(now + app.limits.request_timeout);
            let grown = tokio::time::timeout(end.saturating_duration_since(now), budget.grow(total)).await;
            grown.unwrap_or_else(|_| Err(Problem::overloaded("bodies")))?;
        }
        // Most bodies are one frame, which is taken as it is.
        if total == data.len() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            budget.expect_more(first.len());
        } else {
            if all.is_empty() {
                // What was declared, up to a bound: a declaration alone must not take memory.
                all.reserve(declared.unwrap_or_default().min(RESERVED));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
            budget.received(data.len());
        }
    }
    budget.complete();
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The next frame of a body, or its end, if it is there already.
async fn frame_at_once(body: &mut Body) -> Option<Option<Result<Frame<Bytes>, axum::Error>>> {
    poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        })
    })
    .await
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time, or too slowly")
}

/// Unpacks step by step, taking memory for each step, beside that of the packed body.
fn unpack(encoding: Encoding, packed: &[u8], most: usize, budget: &mut BodyBudget) -> Result<Vec<u8>, Problem> {
    let broken = |error: std::io::Error| {
        Problem::bad_request("invalid_encoding", format!("the body cannot be unpacked as {encoding:?}: {error}"))
    };
    let mut out = Vec::new();
    let mut rest = packed;
    for _ in 0..MEMBERS_MAX {
        if rest.is_empty() && !(out.is_empty() && packed.is_empty()) {
            return Ok(out);
        }
        rest = match encoding {
            Encoding::Identity => return Ok(packed.to_vec()),
            Encoding::Gzip => {
                let mut member = flate2::bufread::GzDecoder::new(rest);
                unpack_member(&mut member, packed.len(), most, budget, &mut out, broken)?;
                // Zeros behind a member are padding, as in a file.
                let behind = member.into_inner();
                &behind[behind.iter().take_while(|byte| **byte == 0).count()..]
            }
            Encoding::Zstd => {
                let mut frame = zstd::stream::read::Decoder::with_buffer(rest).map_err(broken)?.single_frame();
                frame.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
                unpack_member(&mut frame, packed.len(), most, budget, &mut out, broken)?;
                frame.finish()
            }
        };
    }
    if rest.is_empty() {
        return Ok(out);
    }
    Err(Problem::bad_request("invalid_encoding", format!("the body is packed in more than {MEMBERS_MAX} pieces")))
}

fn unpack_member(
    reader: &mut impl Read,
    packed: usize,
    most: usize,
    budget: &mut BodyBudget,
    out: &mut Vec<u8>,
    broken: impl Fn(std::io::Error) -> Problem,
) -> Result<(), Problem> {
    loop {
        budget.grow_now(packed + out.len() + PIECE)?;
        let read = reader.by_ref().take(PIECE as u64).read_to_end(out).map_err(&broken)?;
        if out.len() > most {
            return Err(too_large(most));
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// A body that says in its first byte what it is packed with: it is unpacked within its bounds, and twice the body is twice
/// what it holds.
#[cfg(any(test, fuzzing))]
pub(crate) fn unpacked(bytes: &[u8]) {
    const MOST: usize = 256 << 10;
    let Some((first, packed)) = bytes.split_first() else { return };
    let encoding = if first % 2 == 0 { Encoding::Gzip } else { Encoding::Zstd };
    let settings = super::limits::Settings::read(&crate::settings::Defaults);
    let Ok(settings) = settings else { panic!("the defaults can be read") };
    let limits = settings.limits(16 << 20, 1 << 20);
    let admission = super::admission::Admission::new(&limits);
    let unpack = |packed: &[u8], most| unpack(encoding, packed, most, &mut admission.body_budget());
    let Ok(out) = unpack(packed, MOST) else { return };
    assert!(out.len() <= MOST && !packed.is_empty());
    assert!(out.is_empty() || unpack(packed, out.len() - 1).is_err(), "more than there is room for");
    let Ok(twice) = unpack(&[packed, packed].concat(), 2 * MOST) else { panic!("a body twice is no body") };
    assert!(twice == [&out[..], &out].concat());
}
