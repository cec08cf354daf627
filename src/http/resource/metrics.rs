//! `GET /metrics`: the metrics of the service.

use crate::http::app::App;
use crate::http::problem::Problem;
use crate::http::route::{Answer, Call};
use axum::response::IntoResponse;
use http::header;
use std::sync::Arc;

/// Figures, in Prometheus' text form
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operation",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(in crate::http) async fn metrics(app: &Arc<App>, _call: &mut Call) -> Answer {
    let turn = app.rendering.clone().acquire_owned().await.map_err(|_| Problem::internal())?;
    let app = app.clone();
    let text = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let of_process = app.services.operation.refresh_metrics();
        app.metrics.render() + &of_process
    });
    let text = text.await.map_err(|_| Problem::internal())?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
