//! `GET /snapshots` and `POST /snapshots`: the store's copies in the bucket.

use crate::api::{SnapshotAnswer, SnapshotUnderWay, SnapshotsAnswer};
use crate::http::app::App;
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use crate::store::{AuditEntry, ChangedBy};
use axum::response::IntoResponse;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
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
pub(in crate::http) async fn take(app: &Arc<App>, call: &mut Call) -> Answer {
    let (status, taken) = match app.services.snapshots.take().await? {
        Some(summary) => (StatusCode::CREATED, told(&SnapshotAnswer::from(summary))),
        None => (StatusCode::ACCEPTED, told(&SnapshotUnderWay { state: "taking" })),
    };
    let by = ChangedBy { key: call.caller.key_id().map(str::to_owned), call: "POST /snapshots".to_owned() };
    app.services.audit.record(AuditEntry { by, before: Value::Null, after: taken.clone() }).await?;
    Ok((status, json(&taken)).into_response())
}

fn told(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
