//! `GET /snapshots` and `POST /snapshots`: the store's copies in the bucket.

use crate::api::{SnapshotAnswer, SnapshotUnderWay, SnapshotsAnswer};
use crate::http::app::App;
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use axum::response::IntoResponse;
use http::StatusCode;
use std::sync::Arc;

/// The snapshots in the bucket, the newest first
#[utoipa::path(
    get,
    path = "/snapshots",
    operation_id = "listSnapshots",
    tag = "operation",
    responses(
        (status = 200, description = "Those under the prefix of `--snapshots`", body = SnapshotsAnswer),
        (status = 409, description = "The service runs without `--snapshots`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The bucket does not answer, or too many calls are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, _call: &mut Call) -> Answer {
    Ok(json(&SnapshotsAnswer::new(app.services.snapshots.list().await?)))
}

/// Takes a snapshot now
///
/// It holds everything that was acknowledged before the call. One that takes long is answered 202 and goes on.
#[utoipa::path(
    post,
    path = "/snapshots",
    operation_id = "takeSnapshot",
    tag = "operation",
    responses(
        (status = 201, description = "It is in the bucket", body = SnapshotAnswer),
        (status = 202, description = "It is under way", body = SnapshotUnderWay),
        (status = 409, description = "The service runs without `--snapshots`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It could not be taken: the bucket does not answer, does not let us or is full, another process has taken over, or too many calls are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn take(app: &Arc<App>, _call: &mut Call) -> Answer {
    Ok(match app.services.snapshots.take().await? {
        Some(summary) => (StatusCode::CREATED, json(&SnapshotAnswer::from(summary))).into_response(),
        None => (StatusCode::ACCEPTED, json(&SnapshotUnderWay { state: "taking" })).into_response(),
    })
}
