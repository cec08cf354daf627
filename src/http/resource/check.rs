//! `POST /check`: which of these ads may this user see?

use crate::engine::Question;
use crate::http::admission::ReadBudget;
use crate::http::app::App;
use crate::http::body;
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::route::{Answer, Call, Route};
use crate::http::schema::{IdText, InstantText};
use crate::input::CheckRequest;
use crate::shard::CandidateVerdict;
use serde::Serialize;
use std::sync::Arc;

/// An ad that may be shown.
// As documented; what is read is told by `crate::input`.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
pub(in crate::http) enum CandidateBody {
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
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    if body.is_large() {
        let asked =
            body.parse_in_background(app, |text| CheckRequest::read(text).map(CheckRequest::into_owned)).await?;
        return judge(app, call.route, asked).await;
    }
    judge(app, call.route, CheckRequest::read(body.text()?)?).await
}

async fn judge(app: &App, route: &Route, asked: CheckRequest<'_>) -> Answer {
    let CheckRequest { user, candidates, kind, at } = asked;
    let _permit = route.admit(app)?;
    let tell = |results: &[CandidateVerdict<'_>], room: ReadBudget| {
        Pieces::json(&CheckAnswer { user: user.as_str(), results }, room)
    };
    app.reader.check(&user, &candidates, Question { kind, at }, app.admission.read_budget(), tell).await?
}
