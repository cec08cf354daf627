//! `POST /reserve` and `POST /release`: check and count in one step, held until an event confirms it.

use super::app::App;
use super::body;
use super::check::CandidateBody;
use super::events::TOO_MANY_KINDS_DETAIL;
use super::problem::{Problem, answer, json, json_bytes};
use super::schema::IdText;
use crate::input::{ReleaseRequest, ReserveRequest};
use crate::model::{EventId, ReserveAnswer};
use crate::random::random_id;
use crate::shard::{Refusal, Reserve, ReserveOutcome, TOO_MANY_KINDS};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::sync::Arc;

#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "candidates": ["77", {"da": "78", "keys": ["campaign:42"]}], "want": 1, "ttl": "60s", "id": "req-9"}))]
struct ReserveBody {
    user: IdText,
    /// In the order of preference, at most 1,000. One named twice is judged twice.
    candidates: Vec<CandidateBody>,
    /// How many to reserve; 1 without it
    want: Option<u64>,
    /// How long it holds unless it is confirmed: a duration of at most 1h, 60s without it; null counts for good
    ttl: Option<String>,
    /// Of this call and of the events that confirm it; one is made up without it
    id: Option<IdText>,
    /// What the confirming events are; `impression` without it
    kind: Option<String>,
}

#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "id": "req-9"}))]
struct ReleaseBody {
    user: IdText,
    id: IdText,
    /// Only what is reserved of this ad
    da: Option<IdText>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ReleaseAnswer {
    /// Candidates given back; what is confirmed, lapsed or unknown is none.
    #[schema(example = 1)]
    released: usize,
}

/// Reserve the first ads that are not capped
///
/// Goes through the candidates in order, each judged against what those before it took, and counts the first `want` that
/// are not capped at once, in one step that no other call comes between: a cap of N never lets an N+1-th through. An event
/// with the same user, ad, kind and id confirms a reservation; unconfirmed it stops counting at `expires_at`. The same call
/// again gives the stored answer, for 1 h after that (24 h where `ttl` is null). An ad whose event with this id is counted
/// already is granted if it is not capped, with `expires_at` null, and not counted once more. One that lapsed or was released is as if it
/// had never been, for reads with an `at` before that, too.
#[utoipa::path(
    post,
    path = "/reserve",
    operation_id = "reserve",
    tag = "reservations",
    request_body(content = ReserveBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What was reserved and what is capped; candidates after the last one reserved are not mentioned", body = ReserveAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The id is known for this user, with another body", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More bytes than max_body", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, there are more than 1,000 candidates, or a log has as many kinds as it may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused. Sending the call again is safe if it has an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reserve(State(app): State<Arc<App>>, headers: HeaderMap, mut body: Body) -> Response {
    answer_to(&app, &headers, &mut body).await
}

/// The same by the short way: what is left of the body stays with who asks.
pub(super) async fn answer_to(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Response {
    answer(try_reserve(app, headers, body).await)
}

async fn try_reserve(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let body = body::read_json(app, headers, body).await?;
    if body.is_large() {
        let asked = body.parse_aside(app, |text| ReserveRequest::read(text).map(ReserveRequest::into_owned)).await?;
        return reserve_asked(app, asked).await;
    }
    reserve_asked(app, ReserveRequest::read(body.text()?)?).await
}

async fn reserve_asked(app: &App, asked: ReserveRequest<'_>) -> Result<Response, Problem> {
    let (id, body_hash) = match asked.id {
        Some(id) => (id, Some(asked.body_hash)),
        None => (EventId::new(random_id()).map_err(|_| Problem::internal())?, None),
    };
    let call = Reserve {
        user: asked.user,
        candidates: asked.candidates,
        want: asked.want,
        ttl_ms: asked.ttl_ms,
        id,
        body_hash,
        kind: asked.kind,
    };
    let _permit = app.admission.write().ok_or(Refusal::Busy)?;
    match app.router.reserve(call).await? {
        ReserveOutcome::Answer(answer) => Ok(json_bytes(answer)),
        ReserveOutcome::IdReused => Err(Problem::new(
            StatusCode::CONFLICT,
            "id_reused",
            "the id is that of an earlier call of this user with another body; nothing was reserved",
        )),
        ReserveOutcome::TooManyKinds => {
            Err(Problem::unprocessable(TOO_MANY_KINDS, format!("{TOO_MANY_KINDS_DETAIL}; nothing was reserved")))
        }
        ReserveOutcome::TooLong => Err(Problem::unprocessable(
            "too_many_candidates",
            "the ids and keys of the candidates are so long that the answer could exceed 1 MiB; nothing was reserved",
        )),
        ReserveOutcome::NoRoom => Err(Problem::unavailable(
            "too_many_reservations",
            "too many reservations of a key are under way for this user; nothing was reserved",
        )),
    }
}

/// Give back what is reserved under an id
#[utoipa::path(
    post,
    path = "/release",
    operation_id = "release",
    tag = "reservations",
    request_body(content = ReleaseBody, content_type = "application/json"),
    responses(
        (status = 200, description = "Of how many candidates it was; 0 of what is confirmed, lapsed or unknown", body = ReleaseAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More bytes than max_body", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused; sending the call again is safe", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn release(State(app): State<Arc<App>>, headers: HeaderMap, mut body: Body) -> Response {
    answer(try_release(&app, &headers, &mut body).await)
}

async fn try_release(app: &App, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let body = body::read_json(app, headers, body).await?;
    if body.is_large() {
        let asked = body.parse_aside(app, |text| ReleaseRequest::read(text).map(ReleaseRequest::into_owned)).await?;
        return release_asked(app, asked).await;
    }
    release_asked(app, ReleaseRequest::read(body.text()?)?).await
}

async fn release_asked(app: &App, asked: ReleaseRequest<'_>) -> Result<Response, Problem> {
    let ReleaseRequest { user, id, da } = asked;
    let _permit = app.admission.write().ok_or(Refusal::Busy)?;
    let released = app.router.release(user, id, da).await?;
    Ok(json(&ReleaseAnswer { released }))
}
