//! `GET /caps/stream`: what becomes of caps, as it happens.

use crate::api::StreamEvent;
use crate::http::app::App;
use crate::http::problem::Problem;
use crate::http::query::{self, StreamParams};
use crate::http::route::{Answer, Call, StaysOpen};
use crate::stream::{Framing, Start};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Version, header};
use std::sync::Arc;

/// Tells proxies of the kind of nginx to pass on what comes at once.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follow the changes of caps
///
/// Server-sent events, or lines of JSON with `Accept: application/x-ndjson`. Each `cap` is the state of a user's key from then
/// on. Those of a user come in order, each at least once; only what is durable is sent. A `checkpoint` comes each second and
/// after 10,000 caps: a reader that comes back with its id, in `Last-Event-ID` or `after`, goes on there, over restarts of
/// both sides. Where that is not possible a `reset` says why, and a snapshot follows: at `snapshot_begin` forget what was told
/// before. A reader that is 4 MiB behind, or takes nothing for a minute, is told `lagged` and closed.
#[utoipa::path(
    get,
    path = "/caps/stream",
    operation_id = "followCaps",
    tag = "caps",
    params(
        StreamParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last checkpoint. It goes before `after`"),
    ),
    responses(
        (status = 200, description = "The changes, until one side closes the stream", content(
            (StreamEvent = "text/event-stream"),
            (StreamEvent = "application/x-ndjson"),
        )),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The shards, the keys, the start or the cursor is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "As many streams are open as may be", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn follow(app: &Arc<App>, call: &mut Call) -> Answer {
    let (filter, mut start) = query::stream(call.query())?;
    if let Some(id) = text(call, &LAST_EVENT_ID)? {
        start = Start::After(id.to_owned());
    }
    let accept = call.parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let framing = Framing::accepted(accept);
    let body = app.streams.follow(filter, &start, framing)?;
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    if call.parts.version != Version::HTTP_2 {
        // Whoever is let go sees it at once.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.extensions_mut().insert(StaysOpen);
    Ok(response)
}

/// A field of the header that is not empty.
fn text<'a>(call: &'a Call, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let Some(value) = call.parts.headers.get(name) else { return Ok(None) };
    let wrong = |_| Problem::unprocessable("invalid_cursor", format!("{name} is none that a checkpoint has had"));
    Ok(Some(value.to_str().map_err(wrong)?).filter(|text| !text.is_empty()))
}
