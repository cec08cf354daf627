//! `POST /check`: which of these ads may this user see?

use crate::api::{CandidateVerdicts, CheckAnswer, CheckBody};
use crate::engine::Question;
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::route::{Answer, Call, Route};
use std::sync::Arc;

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
        let Parsed { value: asked, _budget } =
            body.parse_in_background(app, |text| CheckBody::read(text).map(CheckBody::into_owned)).await?;
        return judge(app, call.route, asked).await;
    }
    judge(app, call.route, CheckBody::read(body.text()?)?).await
}

async fn judge(app: &App, route: &Route, asked: CheckBody<'_>) -> Answer {
    let CheckBody { user, candidates, kind, at, explain } = asked;
    let _permit = route.admit(app)?;
    let (question, room) = (Question { kind, at, explain }, app.admission.read_budget());
    let answer = app.services.decisions.check(&user, &candidates, question, room, |results, room| {
        Pieces::json(&CheckAnswer { user: user.as_str(), results: CandidateVerdicts(results) }, room)
    });
    answer.await?
}
