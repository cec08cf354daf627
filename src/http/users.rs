//! What is known of one user.

use super::app::App;
use super::problem::{Problem, json};
use super::query;
use crate::model::UserCap;
use axum::extract::{OriginalUri, State};
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
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_caps(State(app): State<Arc<App>>, uri: OriginalUri) -> Response {
    let segment = query::segments(uri.path()).map(|segments| segments.into_iter().next().unwrap_or_default());
    let user = match segment.and_then(query::user) {
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
