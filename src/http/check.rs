//! `POST /check`: which of these ads may this user see?

use super::admission::ReadRoom;
use super::app::App;
use super::body;
use super::pieces::Pieces;
use super::problem::{Problem, answer};
use super::schema::{IdText, InstantText};
use crate::engine::Question;
use crate::input::CheckRequest;
use crate::shard::CandidateVerdict;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Serialize;
use std::sync::Arc;

/// An ad that may be shown.
// As documented; what is read is told by `crate::input`.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
pub(super) enum CandidateBody {
    /// An ad alone.
    Ad(IdText),
    /// An ad with the keys that are judged besides its own: at most 16, each `<level>:<id>`.
    WithKeys { da: IdText, keys: Vec<String> },
}

#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "candidates": ["77", {"da": "78", "keys": ["campaign:42"]}]}))]
struct CheckBody {
    user: IdText,
    /// At most 1,000.
    candidates: Vec<CandidateBody>,
    /// The instant asked about; now without it
    at: Option<InstantText>,
    /// Only rules of this kind
    kind: Option<String>,
}

/// The verdicts, in the order asked.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({"user": "u1", "results": [
    {"da": "77", "capped": true, "capped_until": 1732665600000u64, "rule": "default", "key": "da:77", "count": 5, "limit": 5, "remaining": 0},
    {"da": "78", "capped": false, "capped_until": null, "rule": "brand-x", "key": "campaign:42", "count": 1, "limit": 3, "remaining": 2}
]}))]
struct CheckAnswer<'a> {
    user: &'a str,
    results: &'a [CandidateVerdict<'a>],
}

/// The verdicts on many candidate ads of one user
///
/// All are judged on one consistent view, each as `GET /cap` would. Rules of every kind are judged unless `kind` narrows
/// them.
#[utoipa::path(
    post,
    path = "/check",
    operation_id = "checkCandidates",
    tag = "caps",
    request_body(content = CheckBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The verdicts, in the order of the candidates", body = CheckAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More bytes than max_body", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, or there are more than 1,000 candidates", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post(State(app): State<Arc<App>>, headers: HeaderMap, mut body: Body) -> Response {
    answer_to(&app, &headers, &mut body).await
}

/// The same by the short way: what is left of the body stays with who asks.
pub(super) async fn answer_to(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Response {
    answer(check(app, headers, body).await)
}

async fn check(app: &Arc<App>, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let body = body::read_json(app, headers, body).await?;
    if body.is_large() {
        let asked = body.parse_aside(app, |text| CheckRequest::read(text).map(CheckRequest::into_owned)).await?;
        return judge(app, asked).await;
    }
    judge(app, CheckRequest::read(body.text()?)?).await
}

async fn judge(app: &App, asked: CheckRequest<'_>) -> Result<Response, Problem> {
    let CheckRequest { user, candidates, kind, at } = asked;
    let _permit = app.admission.read()?;
    let tell = |results: &[CandidateVerdict<'_>], room: ReadRoom| {
        Pieces::json(&CheckAnswer { user: user.as_str(), results }, room)
    };
    app.reader.check(&user, &candidates, Question { kind, at }, app.admission.read_room(), tell).await?
}
