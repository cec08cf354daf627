//! `GET /cap/{user}/{da}`: may this user see this ad?

use super::app::App;
use super::pieces::Pieces;
use super::problem::{Problem, answer};
use super::query::{self, AdQuery};
use super::schema::InstantText;
use crate::model::Verdict;
use axum::extract::{OriginalUri, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::Serialize;
use std::sync::Arc;

/// What may be asked besides; read by [`query::ad_query`].
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct CapParams {
    /// A key to judge besides the ad's own, such as `campaign:42`; at most 16, by naming it again
    #[param(example = json!(["campaign:42"]))]
    key: Option<Vec<String>>,
    /// Only rules of this kind
    #[param(example = "impression")]
    kind: Option<String>,
    /// The instant asked about, in ms since 1970 or as RFC 3339 text; now without it
    #[param(inline)]
    at: Option<InstantText>,
}

/// A verdict with whom and what it is about.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "user": "u1", "da": "77", "capped": true, "capped_until": 1732665600000u64, "rule": "default", "key": "da:77",
    "kind": "impression", "window": "5d", "count": 5, "limit": 5, "remaining": 0,
    "rules": [{"rule": "default", "key": "da:77", "kind": "impression", "mode": "enforce", "limit": 5, "window": "5d",
               "count": 5, "remaining": 0, "capped": true, "capped_until": 1732665600000u64}]
}))]
pub(super) struct CapAnswer<'a> {
    pub user: &'a str,
    pub da: &'a str,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Judges and answers.
async fn judge(app: &App, query: Result<AdQuery, Problem>) -> Result<Response, Problem> {
    let AdQuery { user, candidate, question } = query?;
    let (verdict, room) = app.reader.ad(&user, &candidate, question, app.admission.read_room()).await?;
    Pieces::json(&CapAnswer { user: user.as_str(), da: candidate.da.as_str(), verdict }, room)
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
pub(super) async fn get_by_path(State(app): State<Arc<App>>, uri: OriginalUri) -> Response {
    answer(judge(&app, of_path(&uri)).await)
}

/// The same by the short way, where nobody has asked yet whether there is room for one more read.
pub(super) async fn get_admitted(app: &App, uri: &Uri) -> Response {
    match app.admission.read() {
        Ok(_permit) => answer(judge(app, of_path(uri)).await),
        Err(problem) => problem.into_response(),
    }
}

fn of_path(uri: &Uri) -> Result<AdQuery, Problem> {
    let mut segments = query::segments(uri.path())?.into_iter();
    let path = segments.next().zip(segments.next());
    query::ad_query(path, uri.query().unwrap_or_default())
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
pub(super) async fn get_by_query(State(app): State<Arc<App>>, RawQuery(raw): RawQuery) -> Response {
    answer(judge(&app, query::ad_query(None, raw.as_deref().unwrap_or_default())).await)
}
