//! `GET /rules`, `GET`, `PUT` and `DELETE /rules/{id}`: what caps.

use super::app::App;
use super::body;
use super::pieces::Pieces;
use super::problem::{Problem, answer, json};
use super::query;
use crate::input::{RuleReject, read_rule};
use crate::model::{Kind, Limit, Mode, RuleError, TsMs, Window, rule_window_schema};
use crate::shard::{Expect, Refusal, RuleView, Rulebook, RulebookError, Source};
use crate::store::Room;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

/// More rules than these are listed on a thread that gives way to those that answer.
const MANY_RULES: usize = 100;
/// Bytes of what a rule says of itself in text, about.
const RULE_TEXT: usize = 256;

/// A rule with what is known about it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "brand-x", "key": "campaign:42", "kind": "impression", "limit": 3, "window": "24h", "mode": "enforce",
    "source": "api", "mirror": {"done": 256, "total": 256}
}))]
struct RuleAnswer {
    #[schema(example = "brand-x")]
    id: String,
    /// One key, or `<level>:*`, every key of the level that has no rule of this kind of its own.
    #[schema(example = "campaign:42")]
    key: String,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    /// At most so many in the window; null exempts the key from every other rule of the kind.
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    #[schema(schema_with = rule_window_schema)]
    window: Window,
    mode: Mode,
    /// Who keeps it: only a rule of the `api` is changed here.
    source: Source,
    mirror: Mirrored,
    /// The rule reaches further back than events were held when it came: from here on its counts are whole. Only until
    /// then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    complete_from: Option<TsMs>,
}

/// How far what is mirrored follows the rule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Mirrored {
    /// Shards whose caps were judged since the rule changed, and what came of it told to Redis, where there is one.
    #[schema(example = 256)]
    done: usize,
    #[schema(example = 256)]
    total: usize,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RulesAnswer {
    /// By id.
    rules: Vec<RuleAnswer>,
}

impl From<RuleView> for RuleAnswer {
    fn from(view: RuleView) -> Self {
        Self {
            id: view.rule.id.as_str().to_owned(),
            key: view.rule.key.to_string(),
            kind: view.rule.kind,
            limit: view.rule.limit,
            window: view.rule.window.clone(),
            mode: view.rule.mode,
            source: view.source,
            mirror: Mirrored { done: view.done, total: view.total },
            complete_from: view.complete_from,
        }
    }
}

/// A rule.
// As documented; what is read is told by `crate::input`.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"key": "campaign:42", "limit": 3, "window": "24h"}))]
struct RuleBody {
    /// One key (`campaign:42`) or every key of a level (`campaign:*`)
    key: String,
    /// A positive integer, at most `history_limit` unless the window is `lifetime`; null exempts. Must be there
    #[schema(required = true, minimum = 1)]
    limit: Option<u64>,
    #[schema(schema_with = rule_window_schema)]
    window: Window,
    /// `impression` without it
    kind: Option<String>,
    /// `enforce` without it
    mode: Option<Mode>,
}

impl From<RulebookError> for Problem {
    fn from(error: RulebookError) -> Self {
        let told = error.to_string();
        match error {
            RulebookError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "unknown_rule", told),
            RulebookError::FromFlags(_) => Self::new(StatusCode::CONFLICT, "rule_is_from_flags", told),
            RulebookError::FromFile(_) => Self::new(StatusCode::CONFLICT, "rule_is_from_file", told),
            RulebookError::Precondition => Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", told),
            RulebookError::TooMany => Self::unprocessable("too_many_rules", told),
            RulebookError::Rule(why) => why.into(),
            RulebookError::Store(_) => {
                tracing::error!(error = told, "a rule could not be written");
                Self::unavailable("store_failed", told)
            }
            RulebookError::Stored { .. } | RulebookError::Unreadable { .. } => Self::internal(),
        }
    }
}

impl From<RuleError> for Problem {
    fn from(why: RuleError) -> Self {
        let code = match why {
            RuleError::Id => "invalid_rule_id",
            RuleError::LimitOutOfRange(_) => "limit_out_of_range",
            RuleError::ShadowExemption => "shadow_exemption",
        };
        Self::unprocessable(code, why.to_string())
    }
}

impl From<RuleReject> for Problem {
    fn from(reject: RuleReject) -> Self {
        match reject {
            RuleReject::Json(reject) => reject.into(),
            RuleReject::Rule(why) => why.into(),
        }
    }
}

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
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    answer(try_list(&app).await)
}

async fn try_list(app: &App) -> Result<Response, Problem> {
    let _permit = app.admission.read()?;
    let (book, mut room) = (app.rulebook.clone(), app.admission.read_room());
    let list = move || {
        if !room.take(book.count() * (size_of::<RuleView>() + size_of::<RuleAnswer>() + RULE_TEXT)) {
            return Err(room.refusal());
        }
        Pieces::json(&RulesAnswer { rules: book.list().into_iter().map(RuleAnswer::from).collect() }, room)
    };
    if app.rulebook.count() <= MANY_RULES {
        return list();
    }
    app.aside.spawn_blocking(list).await.map_err(|_| Problem::internal())?
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
pub(super) async fn get(State(app): State<Arc<App>>, uri: OriginalUri) -> Response {
    answer(id_of_path(uri.path()).and_then(|id| Ok(with_etag(StatusCode::OK, app.rulebook.get(&id)?))))
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
pub(super) async fn put(State(app): State<Arc<App>>, uri: OriginalUri, headers: HeaderMap, mut body: Body) -> Response {
    answer(try_put(&app, uri.path(), &headers, &mut body).await)
}

async fn try_put(app: &App, path: &str, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let (id, expect) = (id_of_path(path)?, expect(headers)?);
    let body = body::read_json(app, headers, body).await?;
    let rule = if body.is_large() {
        body.parse_aside(app, move |text| read_rule(&id, text)).await?
    } else {
        read_rule(&id, body.text()?)?
    };
    let (is_new, view) = change(app, move |book, router| book.put(rule, &expect, router)).await?;
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
pub(super) async fn delete(State(app): State<Arc<App>>, uri: OriginalUri, headers: HeaderMap) -> Response {
    answer(try_delete(&app, uri.path(), &headers).await)
}

async fn try_delete(app: &App, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let (id, expect) = (id_of_path(path)?, expect(headers)?);
    change(app, move |book, router| book.delete(&id, &expect, router)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes the rules on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    app: &App,
    change: impl FnOnce(&Rulebook, &crate::shard::Router) -> Result<T, RulebookError> + Send + 'static,
) -> Result<T, Problem> {
    if let Some(refusal) = app.router.health().refusal() {
        return Err(refusal.into());
    }
    let _permit = app.admission.write().ok_or(Refusal::Busy)?;
    let (book, router) = (app.rulebook.clone(), app.router.clone());
    let changed = tokio::task::spawn_blocking(move || change(&book, &router)).await;
    Ok(changed.map_err(|_| Problem::internal())??)
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

/// Reads `If-Match` and `If-None-Match` (RFC 9110, 13.1).
fn expect(headers: &HeaderMap) -> Result<Expect, Problem> {
    let wrong = |what: &str| Problem::bad_request("invalid_precondition", what.to_owned());
    let all = |name| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    let matching: Vec<&str> = all(header::IF_MATCH).flat_map(|value| value.split(',')).map(str::trim).collect();
    let none: Vec<&str> = all(header::IF_NONE_MATCH).collect();
    match (matching.as_slice(), none.as_slice()) {
        ([], []) => Ok(Expect::Anything),
        ([], ["*"]) => Ok(Expect::Absent),
        (["*"], []) => Ok(Expect::Present),
        ([], _) => Err(wrong("if-none-match can only be * here")),
        (_, [_, ..]) => Err(wrong("if-match and if-none-match are never both meant")),
        (tags, []) => Ok(Expect::Etag(tags.iter().map(|&tag| tag.to_owned()).collect())),
    }
}
