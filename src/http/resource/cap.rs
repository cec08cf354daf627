//! `GET /cap/{user}/{da}`: may this user see this ad?

use crate::api::CapAnswer;
use crate::http::app::App;
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::query::{self, AdQuery, CapParams};
use crate::http::route::{Answer, Call};
use std::sync::Arc;

/// Judges and answers.
async fn judge(app: &App, query: AdQuery) -> Answer {
    let AdQuery { user, mut candidate, question } = query;
    let keys_cut = app.services.decisions.join_catalogue(std::slice::from_mut(&mut candidate));
    let room = app.admission.read_budget();
    let (user_text, da) = (user.as_str(), candidate.da.as_str());
    if question.explain {
        let (verdict, why, room) = app.services.decisions.explained_verdict(&user, &candidate, question, room).await?;
        let (verdict, why) = ((&verdict).into(), Some(Box::new((&why).into())));
        return Pieces::json(&CapAnswer { user: user_text, da, verdict, keys_cut, why }, room);
    }
    let (verdict, room) = app.services.decisions.verdict(&user, &candidate, question, room).await?;
    Pieces::json(&CapAnswer { user: user_text, da, verdict: (&verdict).into(), keys_cut, why: None }, room)
}

/// The verdict on an ad for a user
///
/// Judged over the ad's own key `da:<da>` and every `key` named, by the rules of every kind. The top level speaks for
/// the rule that binds: of the enforced rules that cap, the one with the latest `capped_until`; else the one with the
/// least `remaining`. A user never seen is a 200 with count 0.
#[utoipa::path(
    get,
    path = "/cap/{user}/{da}",
    operation_id = "getCap",
    tag = "caps",
    params(
        ("user" = String, Path, description = "User id, percent-encoded (`%2F` is part of an id)", example = "u1"),
        ("da" = String, Path, description = "Ad id, percent-encoded", example = "77"),
        CapParams,
    ),
    responses(
        (status = 200, description = "The verdict", body = CapAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "An id, key, kind or instant is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get_by_path(app: &Arc<App>, call: &mut Call) -> Answer {
    let mut segments = query::segments(call.path())?.into_iter();
    let path = segments.next().zip(segments.next());
    judge(app, query::ad_query(path, call.query())?).await
}

/// The same call for ids that proxies rewrite
///
/// The query is form-decoded: `+` is a space, and a plus sign is written `%2B`. (In the path of the other call `+` is a
/// plus sign.)
#[utoipa::path(
    get,
    path = "/cap",
    operation_id = "getCapByQuery",
    tag = "caps",
    params(
        ("user" = String, Query, description = "User id, form-decoded: `+` is a space, `%2B` a plus sign", example = "u1"),
        ("da" = String, Query, description = "Ad id, form-decoded likewise", example = "77"),
        CapParams,
    ),
    responses(
        (status = 200, description = "The verdict", body = CapAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "An id, key, kind or instant is missing or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get_by_query(app: &Arc<App>, call: &mut Call) -> Answer {
    judge(app, query::ad_query(None, call.query())?).await
}
