//! `GET /status` and `GET /version`: how the service is, in one JSON object, and what it is.

use crate::api::{StatusAnswer, VersionAnswer};
use crate::http::app::App;
use crate::http::problem::json;
use crate::http::route::{Answer, Call};
use std::sync::Arc;

/// How the service is, for people and for programs that watch over it
///
/// Never waits for Redis or Kafka.
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "getStatus",
    tag = "operation",
    responses((status = 200, description = "How it is, whether well or not", body = StatusAnswer))
)]
pub(in crate::http) async fn status(app: &Arc<App>, _call: &mut Call) -> Answer {
    Ok(json(&app.services.operation.status()))
}

/// Which freqcap this is
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "getVersion",
    tag = "operation",
    responses((status = 200, description = "Its version, and that of what is on disk", body = VersionAnswer))
)]
pub(in crate::http) async fn version(app: &Arc<App>, _call: &mut Call) -> Answer {
    Ok(json(&app.services.operation.version()))
}
