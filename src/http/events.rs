//! `POST /events`: impressions in.

use super::app::App;
use super::body::{self, Form, ReadBody};
use super::cap::CapAnswer;
use super::pieces::Pieces;
use super::problem::{Problem, answer, json};
use super::schema::{IdText, InstantText};
use crate::engine::Question;
use crate::input::{Body as Holds, BodyError, Reject, looks_like_lines};
use crate::model::{Candidate, Event, UserId};
use crate::shard::{BlockBuilder, Counted, Refusal, TOO_MANY_KINDS};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::sync::Arc;

/// How many rejected events an answer tells of.
const ERRORS_TOLD: usize = 100;
pub(super) const TOO_MANY_KINDS_DETAIL: &str =
    "a log that this would count in holds as many kinds as a log may (16), and not this one";

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EventAnswer<'a> {
    /// `counted`, `duplicate`, `late`, `erased` or `ignored`.
    #[schema(example = "counted")]
    result: &'static str,
    /// As `GET /cap` with the event's keys, after the event.
    cap: CapAnswer<'a>,
}

/// What became of a batch.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
struct BatchAnswer {
    #[schema(example = 998)]
    counted: usize,
    #[schema(example = 1)]
    duplicate: usize,
    late: usize,
    erased: usize,
    /// Of users that mean nobody (`null`, the all-zero advertising id, macros that nobody replaced): kept nowhere.
    ignored: usize,
    #[schema(example = 1)]
    rejected: usize,
    /// The first 100 rejected.
    errors: Vec<EventError>,
    /// The keys that went from not capped to capped by this call.
    capped: Vec<Capped>,
    /// Only in a 503: events that were not taken. Sending the whole call again is safe for events with ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<usize>,
}

/// What became of one event, or of a batch.
// As documented; each is written by itself.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
enum EventsAnswer<'a> {
    One(EventAnswer<'a>),
    Batch(BatchAnswer),
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EventError {
    /// Which element, or line (blank ones are counted), from 0.
    index: usize,
    #[schema(example = "ts_not_milliseconds")]
    code: &'static str,
    detail: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Capped {
    user: String,
    #[schema(example = "da:77")]
    key: String,
    capped_until: u64,
}

/// An event.
// As documented; what is read is told by `crate::input`.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "da": "77", "ts": 1732233600000u64, "id": "imp-1", "keys": ["campaign:42"]}))]
struct EventBody {
    /// Also `user_no`, `user_id`.
    user: IdText,
    /// Also `da_id`, `ad_id`.
    da: IdText,
    /// The log time; now without it. Also `logTime`, `log_time`, `timestamp`.
    ts: Option<InstantText>,
    /// With it a retry counts once. Also `event_id`.
    id: Option<IdText>,
    /// `impression` without it.
    kind: Option<String>,
    /// Keys counted besides the ad's own, `<level>:<id>`; at most 16.
    keys: Option<Vec<String>>,
}

/// Count events
///
/// One event (object), a batch (array) or NDJSON (`application/x-ndjson`), also packed with gzip or zstd. A 200 says that
/// every event it counts is durable and visible to every later read. A bad element of a batch rejects itself alone.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "postEvents",
    tag = "events",
    request_body(content(
        (EventBody = "application/json"),
        (String = "application/x-ndjson", example = "{\"user\":\"u1\",\"da\":\"77\",\"id\":\"imp-1\"}\n{\"user\":\"u2\",\"da\":\"77\",\"id\":\"imp-2\"}\n"),
    )),
    responses(
        (status = 200, description = "One event: what became of it, and its verdict. A batch: how many of each", body = EventsAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More bytes than max_body or more events than max_batch; nothing was counted", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The one event is invalid, or the body is a JSON scalar", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or events are refused; for a batch the problem also has the members of a 200, and `unavailable`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post(State(app): State<Arc<App>>, headers: HeaderMap, mut body: Body) -> Response {
    answer_to(&app, &headers, &mut body).await
}

/// The same by the short way: what is left of the body stays with who asks.
pub(super) async fn answer_to(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Response {
    answer(take(app, headers, body).await)
}

async fn take(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let form = body::form(headers)?;
    let body = body::read(app, headers, body, app.limits.max_body).await?;
    if form == Form::Json && Holds::peek(&body.bytes) == Holds::Object {
        return if body.is_large() { one_aside(app, body).await } else { one(app, &body.bytes).await };
    }
    let batch = if !body.is_large() {
        Batch::read(app, form, &body.bytes)
    } else {
        let (reader, app) = (app.aside.clone(), app.clone());
        let read = move || Batch::read(&app, form, &body.bytes);
        reader.spawn_blocking(read).await.map_err(|_| Problem::internal())?
    };
    let Batch { builder, mut answer } = batch.map_err(|why| refuse_body(&why))?;
    let counted = count(app, builder).await;
    reject_kinds(&mut answer, &counted.too_many_kinds);
    app.rejected.increment(answer.rejected as u64);
    answer.counted = counted.counted;
    answer.duplicate = counted.duplicate;
    answer.late = counted.late;
    answer.erased = counted.erased;
    answer.ignored = counted.ignored;
    let capped = |key: crate::shard::CappedKey| Capped { user: key.user, key: key.key, capped_until: key.until.0 };
    answer.capped = counted.capped.into_iter().map(capped).collect();
    Ok(match counted.refusal {
        None => json(&answer),
        Some(refusal) => {
            app.unavailable.increment(counted.unavailable as u64);
            answer.unavailable = Some(counted.unavailable);
            Problem::from(refusal).with(answer).into_response()
        }
    })
}

/// Counts, if not too many others do. Asked only once the body is there, so that who sends slowly keeps nobody out.
async fn count(app: &App, events: BlockBuilder) -> Counted {
    match app.admission.write() {
        Some(_permit) => app.router.count(events).await,
        None => Counted::refused(&events, Refusal::Busy),
    }
}

/// Adds what the writers rejected to what was rejected before, in the order of the batch.
fn reject_kinds(answer: &mut BatchAnswer, indices: &[u32]) {
    if indices.is_empty() {
        return;
    }
    answer.rejected += indices.len();
    let error = |&index: &u32| EventError {
        index: index as usize,
        code: TOO_MANY_KINDS,
        detail: TOO_MANY_KINDS_DETAIL.to_owned(),
    };
    answer.errors.extend(indices.iter().map(error));
    answer.errors.sort_unstable_by_key(|error| error.index);
    answer.errors.truncate(ERRORS_TOLD);
}

struct Batch {
    builder: BlockBuilder,
    answer: BatchAnswer,
}

impl Batch {
    fn read(app: &App, form: Form, body: &[u8]) -> Result<Self, BodyError> {
        let mut batch = Self { builder: app.router.builder(), answer: BatchAnswer::default() };
        let most = app.limits.max_batch;
        match form {
            Form::Json => app.events.array(body, most, |index, event| batch.add(index, event)),
            Form::Lines => app.events.lines(body, most, |index, event| batch.add(index, event)),
        }?;
        Ok(batch)
    }

    fn add(&mut self, index: usize, event: Result<Event<'_>, Reject>) {
        let added = event.and_then(|event| add(&mut self.builder, index, &event));
        if let Err(Reject { code, detail }) = added {
            self.answer.rejected += 1;
            if self.answer.errors.len() < ERRORS_TOLD {
                self.answer.errors.push(EventError { index, code, detail });
            }
        }
    }
}

fn add(builder: &mut BlockBuilder, index: usize, event: &Event<'_>) -> Result<(), Reject> {
    builder.push(index, event).map_err(|why| Reject { code: "ts_in_future", detail: why.to_string() })
}

/// One event, read from its body.
struct One<'a> {
    builder: BlockBuilder,
    user: UserId<'a>,
    candidate: Candidate<'a>,
}

impl<'a> One<'a> {
    fn read(app: &App, body: &'a [u8]) -> Result<Self, Problem> {
        let invalid = |reject: Reject| {
            app.rejected.increment(1);
            Problem::from(reject)
        };
        let event = app.events.event(body).map_err(|reject| invalid(called_json(body, reject)))?;
        let mut builder = app.router.builder();
        add(&mut builder, 0, &event).map_err(invalid)?;
        let Event { user, da, keys, .. } = event;
        Ok(Self { builder, user, candidate: Candidate { da, keys } })
    }

    fn into_owned(self) -> One<'static> {
        let (user, candidate) = (self.user.into_owned(), self.candidate.into_owned());
        One { builder: self.builder, user, candidate }
    }
}

/// One event in a body that takes long to read.
async fn one_aside(app: &Arc<App>, body: ReadBody) -> Result<Response, Problem> {
    let (reader, app_too) = (app.aside.clone(), app.clone());
    let read = move || One::read(&app_too, &body.bytes).map(One::into_owned);
    count_one(app, reader.spawn_blocking(read).await.map_err(|_| Problem::internal())??).await
}

async fn one(app: &App, body: &[u8]) -> Result<Response, Problem> {
    count_one(app, One::read(app, body)?).await
}

async fn count_one(app: &App, event: One<'_>) -> Result<Response, Problem> {
    let One { builder, user, candidate } = event;
    let counted = count(app, builder).await;
    let result = match counted {
        Counted { refusal: Some(refusal), .. } => {
            app.unavailable.increment(1);
            return Err(refusal.into());
        }
        Counted { too_many_kinds, .. } if !too_many_kinds.is_empty() => {
            app.rejected.increment(1);
            return Err(Reject { code: TOO_MANY_KINDS, detail: TOO_MANY_KINDS_DETAIL.to_owned() }.into());
        }
        Counted { counted: 1, .. } => "counted",
        Counted { duplicate: 1, .. } => "duplicate",
        Counted { erased: 1, .. } => "erased",
        Counted { ignored: 1, .. } => "ignored",
        _ => "late",
    };
    let (verdict, room) = app.reader.ad(&user, &candidate, Question::default(), app.admission.read_room()).await?;
    let cap = CapAnswer { user: user.as_str(), da: candidate.da.as_str(), verdict };
    Pieces::json(&EventAnswer { result, cap }, room)
}

/// Lines that were sent as one JSON text are no JSON; that says little to who meant them for lines.
fn called_json(body: &[u8], mut reject: Reject) -> Reject {
    if reject.code == Reject::INVALID_JSON && looks_like_lines(body) {
        reject.detail =
            format!("this looks like NDJSON: send application/x-ndjson, not application/json; {}", reject.detail);
    }
    reject
}

fn refuse_body(why: &BodyError) -> Problem {
    match why {
        BodyError::NotJson { .. } => Problem::bad_request("invalid_json", why.to_string()),
        BodyError::Scalar => Problem::unprocessable("not_an_event", why.to_string()),
        BodyError::TooMany { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", format!("{why}; nothing was counted"))
        }
    }
}
