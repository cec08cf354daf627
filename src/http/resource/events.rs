//! `POST /events`: impressions in.

use crate::api::{CapAnswer, EventAnswer, EventBody, EventsAnswer};
use crate::http::app::App;
use crate::http::body::{self, Form, ReadBody};
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call, Route};
use crate::input::Body as Holds;
use crate::service::{Batch, BatchError, CountedEvent, Counting, SingleEvent};
use crate::shard::Refusal;
use axum::response::IntoResponse;
use std::sync::Arc;

/// Count events
///
/// One event (object) or a batch (array); or a batch as NDJSON, an event a line, under `Content-Type: application/x-ndjson`. All
/// also packed with gzip or zstd (`Content-Encoding`). A 200 says that every event it counts is durable and visible to every
/// later read. A bad element or line of a batch rejects itself alone.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "countEvents",
    tag = "events",
    // Generators of clients know no NDJSON, and the one for Python leaves the whole call out where it is named here.
    request_body(content = EventBody, content_type = "application/json"),
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
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let form = body::form(call)?;
    let mut body = body::read(app, call, app.limits.max_body).await?;
    if form == Form::Json && Holds::peek(&body.bytes) == Holds::Object {
        return if body.is_large() {
            large_one(app, call.route, body).await
        } else {
            one(app, call.route, &body.bytes).await
        };
    }
    // The batch is held until it is counted, and may be many times its body: the body's memory grows with it, and stays.
    let (batch, _budget) = if body.is_large() {
        let parser = app.clone();
        let parsed = app.background.spawn_blocking(move || {
            let batch = parse_batch(&parser.services.counting, form, &mut body);
            batch.map(|batch| (batch, body.budget))
        });
        parsed.await.map_err(|_| Problem::internal())??
    } else {
        (parse_batch(&app.services.counting, form, &mut body)?, body.budget)
    };
    // Asked only once the body is there: a client that sends slowly must not take a permit from others.
    let (answer, refusal) = match call.route.admit(app) {
        Ok(_permit) => app.services.counting.count_batch(batch).await,
        Err(_) => app.services.counting.refuse_batch(batch, Refusal::Busy),
    };
    Ok(match refusal {
        None => json(&answer),
        Some(refusal) => Problem::from(refusal).with(answer).into_response(),
    })
}

fn parse_batch(counting: &Counting, form: Form, body: &mut ReadBody) -> Result<Batch, BatchError> {
    let ReadBody { bytes, budget } = body;
    let has_room = |more: usize| budget.grow_by(bytes.len(), more);
    match form {
        Form::Json => counting.parse_array(bytes, has_room),
        Form::Lines => counting.parse_lines(bytes, has_room),
    }
}

/// One event in a body that takes long to parse.
async fn large_one(app: &Arc<App>, route: &Route, body: ReadBody) -> Answer {
    let parser = app.clone();
    let parsed = app
        .background
        .spawn_blocking(move || parser.services.counting.parse_event(&body.bytes).map(SingleEvent::into_owned));
    count_one(app, route, parsed.await.map_err(|_| Problem::internal())??).await
}

async fn one(app: &App, route: &Route, body: &[u8]) -> Answer {
    count_one(app, route, app.services.counting.parse_event(body)?).await
}

async fn count_one(app: &App, route: &Route, event: SingleEvent<'_>) -> Answer {
    let counting = &app.services.counting;
    let Ok(_permit) = route.admit(app) else { return Err(counting.refuse_event(Refusal::Busy).into()) };
    let CountedEvent { result, user, candidate, over } = counting.count_event(event).await?;
    // What is counted is answered: nothing from here on is refused for want of memory or of a thread. The permit bounds it.
    let verdict = app.services.decisions.verdict_of_counted(&user, &candidate).await?;
    let cap = CapAnswer { user: user.as_str(), da: candidate.da.as_str(), verdict: (&verdict).into(), why: None };
    Ok(json(&EventAnswer { result, cap, over }))
}
