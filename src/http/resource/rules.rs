//! `GET /rules`, `GET`, `PUT` and `DELETE /rules/{id}`: what caps.

use super::trial::dry_run;
use crate::api::{
    AdcpRules, FrequencyCapBody, Passing, PutRuleAnswer, RuleAnswer, RuleBody, RulesAnswer, is_adcp, read_adcp,
    read_rule,
};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pieces::Pieces;
use crate::http::precondition::expect;
use crate::http::problem::{Problem, json};
use crate::http::query;
use crate::http::report_query::is_dry_run;
use crate::http::route::{Answer, Call};
use crate::model::Rule;
use crate::random::random_id;
use crate::shard::{Precondition, RuleView};
use crate::store::Room;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
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
/// somebody else has changed since; `If-None-Match: *` only makes a new rule. With `dry_run=true` nothing is changed: the answer
/// says what the change would do, as `POST /rules/try` does, and how the rule would differ.
///
/// A body in the form of AdCP (`frequency_cap`) makes two rules and is answered as `POST /rules`; it cannot be tried here.
#[utoipa::path(
    put,
    path = "/rules/{id}",
    operation_id = "putRule",
    tag = "rules",
    params(
        ("id" = String, Path, description = "1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`", example = "brand-x"),
        ("dry_run" = Option<bool>, Query, description = "Whether the change is only tried"),
        ("If-Match" = Option<String>, Header, description = "Versions that may be overwritten, or `*` for any"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is no such rule"),
    ),
    request_body(content = RuleBody, content_type = "application/json"),
    responses(
        (status = 200, description = "Changed; or, with `dry_run`, what would change", body = PutRuleAnswer),
        (status = 202, description = "A dry run that takes longer: how far it is. `Retry-After` says when to ask again", body = Passing),
        (status = 201, description = "Made", body = RuleAnswer),
        (status = 400, description = "The body is no JSON, or a precondition is none", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The rule is kept by the flags or the settings file", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing, unknown or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn put(app: &Arc<App>, call: &mut Call) -> Answer {
    let (id, expect) = (id_of_path(call.path())?, expect(&call.parts.headers)?);
    let is_dry_run = is_dry_run(call.query())?;
    let body = body::read_json(app, call).await?;
    let read = move |text: &str| match is_adcp(text) {
        true => read_adcp(Some(&id), "", text).map(Asked::Several),
        false => read_rule(&id, text).map(Asked::One),
    };
    let Parsed { value: asked, _budget } = if body.is_large() {
        body.parse_in_background(app, read).await?
    } else {
        Parsed { value: read(body.text()?)?, _budget: body.budget }
    };
    if is_dry_run {
        return match asked {
            Asked::One(rule) => dry_run(app, rule, &expect).await,
            Asked::Several(_) => Err(several_at_once()),
        };
    }
    let rules = &app.services.rules;
    rules.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    match asked {
        Asked::One(rule) => {
            let key = call.caller.key_id().map(str::to_owned);
            let (is_new, view) = rules.put(key, rule, expect).await?;
            Ok(with_etag(if is_new { StatusCode::CREATED } else { StatusCode::OK }, view))
        }
        Asked::Several(asked) => {
            let by = changed_by(call);
            put_several(app, by, asked, expect).await
        }
    }
}

fn several_at_once() -> Problem {
    let detail = "a frequency cap of AdCP makes two rules, and one is tried at a time; POST /rules/try tries a rule";
    Problem::unprocessable("one_rule_at_a_time", detail)
}

/// What a body makes.
enum Asked {
    One(Rule),
    Several(AdcpRules),
}

/// Make rules of a frequency cap of AdCP
///
/// It makes two rules, `<id>` and `<id>.suppress`, of which both must allow an impression, all at once; `PUT /rules/{id}` takes the
/// same form. What cannot be enforced is refused, never dropped.
#[utoipa::path(
    post,
    path = "/rules",
    operation_id = "makeRules",
    tag = "rules",
    params(
        ("If-Match" = Option<String>, Header, description = "Versions of the first rule that may be changed, or `*` for any"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet"),
    ),
    request_body(content = FrequencyCapBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The rules, which were there already", body = RulesAnswer),
        (status = 201, description = "The rules, at least one of which is new", body = RulesAnswer),
        (status = 400, description = "The body is no JSON, or a precondition that is none", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A rule is kept by the flags or the settings file", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, or cannot be enforced", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let expect = expect(&call.parts.headers)?;
    let body = body::read_json(app, call).await?;
    let read = |text: &str| read_adcp(None, &random_id(), text);
    let Parsed { value: asked, _budget } = if body.is_large() {
        body.parse_in_background(app, read).await?
    } else {
        Parsed { value: read(body.text()?)?, _budget: body.budget }
    };
    app.services.rules.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let by = changed_by(call);
    put_several(app, by, asked, expect).await
}

/// The key of a call, and what it is, as the audit has them.
fn changed_by(call: &Call) -> (Option<String>, String) {
    (call.caller.key_id().map(str::to_owned), format!("{} {}", call.parts.method, call.path()))
}

async fn put_several(
    app: &App,
    (key, made_by): (Option<String>, String),
    asked: AdcpRules,
    expect: Precondition,
) -> Answer {
    let AdcpRules { rules, without } = asked;
    let put = app.services.rules.change_several(key, made_by, (rules, without), expect).await?;
    let is_new = put.iter().any(|(is_new, _)| *is_new);
    let etag = put.first().and_then(|(_, first)| HeaderValue::from_str(&first.etag).ok());
    let mut response = json(&RulesAnswer { rules: put.into_iter().map(|(_, view)| RuleAnswer::from(view)).collect() });
    *response.status_mut() = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
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
