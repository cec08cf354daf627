//! `GET /reach/{key}` and `GET /reach`: how many users keys reach, and how often.

use crate::api::{Passing, ReachAnswer, ReachView, TopAnswer, TopView};
use crate::http::app::App;
use crate::http::pieces::Pieces;
use crate::http::problem::{Problem, json};
use crate::http::query;
use crate::http::report_query::{self, ReachParams, TopParams, retry_after};
use crate::http::route::{Answer, Call};
use crate::shard::{Asked, Found, Progress};
use axum::response::Response;
use http::{StatusCode, header};
use std::sync::Arc;

/// How many users a key reaches, and how often
///
/// Exact over what is held: one pass over all logs, at low priority, serves all who ask meanwhile. An answer is kept and given
/// while it is younger than `max_age`. One that takes longer than a second is answered 202; the pass goes on, so ask again. A key
/// that nobody knows reaches nobody.
#[utoipa::path(
    get,
    path = "/reach/{key}",
    operation_id = "getReach",
    tag = "reports",
    params(("key" = String, Path, description = "`<level>:<id>`, percent-encoded", example = "campaign:42"), ReachParams),
    responses(
        (status = 200, description = "What the key reaches", body = ReachAnswer),
        (status = 202, description = "It takes longer: how far it is. `Retry-After` says when to ask again", body = Passing),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The key, or a part of the question, is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many questions wait", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    let key = report_query::key(&query::segments(call.path())?.into_iter().next().unwrap_or_default())?;
    let read = report_query::reach(call.query())?;
    let asked = app.services.reports.reach(key.clone(), read.asked.clone(), read.by_hour, read.max_age).await?;
    let answer = match asked {
        Asked::Answered(answer) => answer,
        Asked::UnderWay(progress) => return Ok(under_way(progress)),
    };
    let Found::Reach { reach, complete_from } = &answer.found else { return Err(Problem::internal()) };
    let (asked, complete_from) = (&read.asked, *complete_from);
    let view = ReachView { key: key.as_str(), asked, answer: &answer, complete_from, reach };
    Pieces::json(&ReachAnswer::from(view), app.admission.read_budget())
}

/// The keys of a level that reach most users
///
/// Counted as by `GET /reach/{key}`. Of a level with more keys than can be counted at a time (65,536), those with fewest users
/// are dropped on the way, and the answer says whether that may have changed it (`exact`).
#[utoipa::path(
    get,
    path = "/reach",
    operation_id = "listReach",
    tag = "reports",
    params(TopParams),
    responses(
        (status = 200, description = "The keys", body = TopAnswer),
        (status = 202, description = "It takes longer: how far it is. `Retry-After` says when to ask again", body = Passing),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The level is missing, or a part of the question is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many questions wait, or too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, call: &mut Call) -> Answer {
    let read = report_query::reach(call.query())?;
    let missing = || Problem::unprocessable("missing_level", "level= is missing: which keys are meant");
    let level = read.level.ok_or_else(missing)?;
    let asked = app.services.reports.top(level.clone(), read.asked.clone(), read.top, read.max_age).await?;
    let answer = match asked {
        Asked::Answered(answer) => answer,
        Asked::UnderWay(progress) => return Ok(under_way(progress)),
    };
    let Found::Top { top, complete_from } = &answer.found else { return Err(Problem::internal()) };
    let (asked, complete_from) = (&read.asked, *complete_from);
    let view = TopView { level: level.as_str(), asked, answer: &answer, complete_from, top };
    Pieces::json(&TopAnswer::from(view), app.admission.read_budget())
}

/// The answer to a question whose answer takes longer.
pub(super) fn under_way(Progress { done, total, rest }: Progress) -> Response {
    let mut response = json(&Passing { done, total });
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::RETRY_AFTER, retry_after(rest).into());
    response
}
