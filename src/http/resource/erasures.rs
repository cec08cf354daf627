//! `/erasures`: many users are erased; and `/users/{user}/opt-out`: users who are never counted.

use crate::api::{ErasureLine, ErasureLines, ErasureProgress, ErasureTaken, EventError, Receipt};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::problem::{Problem, json};
use crate::http::query;
use crate::http::route::{Answer, Call};
use axum::response::IntoResponse;
use http::StatusCode;
use std::sync::Arc;

/// Erase many users
///
/// NDJSON, at most 10,000 lines: a user's id each, or an object with the member `user`. A bad line rejects itself alone. The call is
/// answered once it is durable who is to be erased; `GET /erasures/{id}` tells how far that is. A restart goes on with it.
#[utoipa::path(
    post,
    path = "/erasures",
    operation_id = "eraseUsers",
    tag = "users",
    request_body(content = ErasureLine, content_type = "application/x-ndjson"),
    responses(
        (status = 202, description = "They will be erased", body = ErasureTaken),
        (status = 400, description = "The body cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 10,000 lines, or than 1 MiB; nobody will be erased", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, writes are refused, or too many users wait to be erased", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let Parsed { value: lines, _budget } = body::read_lines(app, call, ErasureLines::read).await?;
    let erasures = &app.services.erasures;
    erasures.accepts()?;
    let _permit = call.route.admit(app)?;
    let ErasureLines { users, rejected, errors } = lines;
    let total = users.len();
    let id = erasures.create(users).await?;
    let errors =
        errors.into_iter().map(|(index, reject)| EventError { index, code: reject.code, detail: reject.detail });
    let mut response = json(&ErasureTaken { id, total, rejected, errors: errors.collect() });
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// How far an erasure of many users is
///
/// It is kept for 35 days after the last of them was erased, and names nobody.
#[utoipa::path(
    get,
    path = "/erasures/{id}",
    operation_id = "getErasure",
    tag = "users",
    params(("id" = String, Path, description = "`id` of the answer to `POST /erasures`")),
    responses(
        (status = 200, description = "What was erased so far", body = ErasureProgress),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none, or its receipt is gone", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    let id = query::segments(call.path())?.into_iter().next().unwrap_or_default();
    let receipt = app.services.erasures.get(id.clone()).await?;
    Ok(json(&ErasureProgress::new(id, &receipt)))
}

/// Never count a user
///
/// What is held is erased, and events of the user are `opted_out` from now on: acknowledged, and kept nowhere. The verdict is what
/// `--opted-out` says. What stays is a keyed hash of the user.
#[utoipa::path(
    put,
    path = "/users/{user}/opt-out",
    operation_id = "optOut",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 200, description = "What was erased", body = Receipt),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused; sending the call again is safe", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn opt_out(app: &Arc<App>, call: &mut Call) -> Answer {
    let user = query::user_of_path(call.path())?;
    app.services.erasures.accepts()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    let (_, erasure) = app.services.users.set_opt_out(key, user.clone(), true).await?;
    Ok(json(&Receipt::new(user.as_str(), &erasure.unwrap_or_default())))
}

/// Count a user again
#[utoipa::path(
    delete,
    path = "/users/{user}/opt-out",
    operation_id = "optIn",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 204, description = "Events of the user count from now on"),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The user did not opt out", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused; sending the call again is safe", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn opt_in(app: &Arc<App>, call: &mut Call) -> Answer {
    let user = query::user_of_path(call.path())?;
    app.services.erasures.accepts()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    let (changed, _) = app.services.users.set_opt_out(key, user, false).await?;
    if changed {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "not_opted_out", "the user did not opt out"))
}
