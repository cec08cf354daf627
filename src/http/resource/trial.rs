//! `POST /rules/try`, and `PUT /rules/{id}?dry_run=true`: what a rule would do. Nothing is stored.

use super::reach::under_way;
use crate::api::{DryRunAnswer, Passing, RuleBody, TryAnswer, read_rule_to_try};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use crate::model::Rule;
use crate::service::Tried;
use crate::shard::{Asked, Found, Precondition};
use std::sync::Arc;

/// What a rule would do
///
/// The rule is checked as by `PUT /rules/{id}` and judged over everything that is held; nothing is stored. It is tried beside the
/// rules in force, or, where it names the `id` of one, in its place, whoever keeps that. A trial that takes longer than a second is answered 202, and
/// goes on: send the same again for its answer.
#[utoipa::path(
    post,
    path = "/rules/try",
    operation_id = "tryRule",
    tag = "rules",
    request_body(content = RuleBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What it would do", body = TryAnswer),
        (status = 202, description = "It takes longer: how far it is. `Retry-After` says when to ask again", body = Passing),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing, unknown or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many trials wait", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    let unnamed = app.services.reports.free_rule_id();
    let Parsed { value: rule, _budget } = if body.is_large() {
        body.parse_in_background(app, move |text| read_rule_to_try(&unnamed, text)).await?
    } else {
        Parsed { value: read_rule_to_try(&unnamed, body.text()?)?, _budget: body.budget }
    };
    told(app.services.reports.try_rule(rule).await?, |answer| json(&answer))
}

/// What [`super::rules::put`] would do with a rule.
pub(super) async fn dry_run(app: &App, rule: Rule, expect: &Precondition) -> Answer {
    let Tried { asked, replaces } = app.services.reports.try_change(rule.clone(), expect).await?;
    told(asked, |answer| json(&DryRunAnswer::new(answer, replaces.as_deref(), &rule)))
}

fn told(asked: Asked, answer: impl FnOnce(TryAnswer) -> axum::response::Response) -> Answer {
    match asked {
        Asked::UnderWay(progress) => Ok(under_way(progress)),
        Asked::Answered(found) => match &found.found {
            Found::Trial(trial) => Ok(answer(TryAnswer::new(&found, trial))),
            Found::Reach { .. } | Found::Top { .. } => Err(Problem::internal()),
        },
    }
}
