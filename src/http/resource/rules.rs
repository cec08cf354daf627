//! `GET /rules`, `GET`, `PUT` and `DELETE /rules/{id}`: what caps.

use crate::api::{RuleAnswer, RuleBody, RulesAnswer, read_rule};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pieces::Pieces;
use crate::http::problem::{Problem, json};
use crate::http::query;
use crate::http::route::{Answer, Call};
use crate::shard::{Precondition, RuleView};
use crate::store::Room;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// More rules than these are listed on a thread that gives way to those that answer.
const MANY_RULES: usize = 100;
/// Bytes of what a rule says of itself in text, about.
const RULE_TEXT: usize = 256;

/// Every rule, by id
#[utoipa::path(
    get,
    path = "/rules",
    operation_id = "listRules",
    tag = "rules",
    responses(
        (status = 200, description = "The rules of the flags, the settings file and the API", body = RulesAnswer),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, _call: &mut Call) -> Answer {
    let (book, mut room) = (app.services.rules.clone(), app.admission.read_budget());
    let list = move || {
        if !room.take(book.count() * (size_of::<RuleView>() + size_of::<RuleAnswer>() + RULE_TEXT)) {
            return Err(room.refusal());
        }
        Pieces::json(&RulesAnswer { rules: book.list().into_iter().map(RuleAnswer::from).collect() }, room)
    };
    if app.services.rules.count() <= MANY_RULES {
        return list();
    }
    app.background.spawn_blocking(list).await.map_err(|_| Problem::internal())?
}

/// One rule
#[utoipa::path(
    get,
    path = "/rules/{id}",
    operation_id = "getRule",
    tag = "rules",
    params(("id" = String, Path, description = "1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`", example = "brand-x")),
    responses(
        (status = 200, description = "The rule, how far the mirror follows it, and in `ETag` its version", body = RuleAnswer),
        (status = 400, description = "Not percent-encoded UTF-8, or a precondition that is none", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    let id = id_of_path(call.path())?;
    Ok(with_etag(StatusCode::OK, app.services.rules.get(&id)?))
}

/// Make or change a rule
///
/// It is durable and in force for every read where this returns; the mirror follows in the background, and `mirror` of the
/// answer and of `GET` tells how far it is. `If-Match` with the `ETag` of an earlier answer refuses to overwrite what
/// somebody else has changed since; `If-None-Match: *` only makes a new rule.
#[utoipa::path(
    put,
    path = "/rules/{id}",
    operation_id = "putRule",
    tag = "rules",
    params(
        ("id" = String, Path, description = "1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`", example = "brand-x"),
        ("If-Match" = Option<String>, Header, description = "Versions that may be overwritten, or `*` for any"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is no such rule"),
    ),
    request_body(content = RuleBody, content_type = "application/json"),
    responses(
        (status = 200, description = "Changed", body = RuleAnswer),
        (status = 201, description = "Made", body = RuleAnswer),
        (status = 400, description = "The body is no JSON, or a precondition is none", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The rule is kept by the flags or the settings file", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More bytes than max_body", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing, unknown or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn put(app: &Arc<App>, call: &mut Call) -> Answer {
    let (id, expect) = (id_of_path(call.path())?, expect(&call.parts.headers)?);
    let body = body::read_json(app, call).await?;
    let Parsed { value: rule, _budget } = if body.is_large() {
        body.parse_in_background(app, move |text| read_rule(&id, text)).await?
    } else {
        Parsed { value: read_rule(&id, body.text()?)?, _budget: body.budget }
    };
    let rules = &app.services.rules;
    rules.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    let (is_new, view) = rules.put(key, rule, expect).await?;
    Ok(with_etag(if is_new { StatusCode::CREATED } else { StatusCode::OK }, view))
}

/// Remove a rule
#[utoipa::path(
    delete,
    path = "/rules/{id}",
    operation_id = "deleteRule",
    tag = "rules",
    params(
        ("id" = String, Path, description = "1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`", example = "brand-x"),
        ("If-Match" = Option<String>, Header, description = "Versions that may be removed, or `*` for any"),
    ),
    responses(
        (status = 204, description = "It is out of force"),
        (status = 400, description = "Not percent-encoded UTF-8, or a precondition that is none", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The rule is kept by the flags or the settings file", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn delete(app: &Arc<App>, call: &mut Call) -> Answer {
    let (id, expect) = (id_of_path(call.path())?, expect(&call.parts.headers)?);
    let rules = &app.services.rules;
    rules.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    rules.delete(key, id, expect).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn id_of_path(path: &str) -> Result<String, Problem> {
    Ok(query::segments(path)?.into_iter().next().unwrap_or_default())
}

fn with_etag(status: StatusCode, view: RuleView) -> Response {
    let etag = HeaderValue::from_str(&view.etag);
    let mut response = json(&RuleAnswer::from(view));
    *response.status_mut() = status;
    if let Ok(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn values(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default())
}

/// Reads `If-Match` and `If-None-Match` (RFC 9110, 13.1).
fn expect(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let matching: Vec<&str> =
        values(headers, header::IF_MATCH).flat_map(|value| value.split(',')).map(str::trim).collect();
    let none: Vec<&str> = values(headers, header::IF_NONE_MATCH).collect();
    match (matching.as_slice(), none.as_slice()) {
        ([], []) => Ok(Precondition::Anything),
        ([], ["*"]) => Ok(Precondition::Absent),
        (["*"], []) => Ok(Precondition::Present),
        ([], _) => Err(Problem::bad_request("invalid_precondition", "if-none-match can only be * here")),
        (_, [_, ..]) => {
            Err(Problem::bad_request("invalid_precondition", "if-match and if-none-match are never both meant"))
        }
        (tags, []) => Ok(Precondition::Etag(tags.iter().map(|&tag| tag.to_owned()).collect())),
    }
}
