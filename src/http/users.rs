//! What is known of one user.

use super::app::App;
use super::problem::{Problem, json};
use super::query;
use crate::model::UserCap;
use axum::extract::{RawPathParams, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UserCaps<'a> {
    #[schema(example = "u1")]
    user: &'a str,
    /// By key.
    caps: Vec<UserCap>,
}

/// Every key capped now for a user
#[utoipa::path(
    get,
    path = "/users/{user}/caps",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 200, description = "The capped keys, with until when and by which rule; none of an unknown user", body = UserCaps),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_caps(
    State(app): State<Arc<App>>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
) -> Response {
    let segment = params.ok().and_then(|params| params.iter().next().map(|(_, value)| value.to_owned()));
    let not_utf8 = || Problem::bad_request("invalid_percent_encoding", "the path is not percent-encoded UTF-8");
    let user = match segment.ok_or_else(not_utf8).and_then(query::user) {
        Ok(user) => user,
        Err(problem) => return problem.into_response(),
    };
    match app.reader.user_caps(user.clone()).await {
        Ok(caps) => json(&UserCaps { user: user.as_str(), caps }),
        Err(error) => {
            tracing::error!(%error, "the caps of a user could not be read");
            Problem::internal().into_response()
        }
    }
}
