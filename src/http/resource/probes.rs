//! `GET /healthz` and `GET /readyz`: is the service alive, is it ready.

use crate::api::ProbeAnswer;
use crate::http::app::App;
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use std::sync::Arc;

const OK: ProbeAnswer = ProbeAnswer { status: "ok" };

/// Whether the process works; a 503 asks for a restart
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operation",
    responses(
        (status = 200, description = "It works", body = ProbeAnswer),
        (status = 400, description = "No `Host`, or two of them", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`Host` is none of `--hosts`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A write to the store failed, a thread ended by a panic, or a sync does not return: restart", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn healthz(app: &Arc<App>, _call: &mut Call) -> Answer {
    app.services.operation.health()?;
    Ok(json(&OK))
}

/// Whether requests should be sent here
///
/// Stays 200 where only events are refused: reads go on. Does not depend on Redis, nor on Kafka unless asked: with
/// `?kafka` it is 503 (`kafka_catching_up`) until what the topic held at the start is counted.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operation",
    params(("kafka" = Option<bool>, Query, description = "Whether to wait for the back-fill from Kafka, too")),
    responses(
        (status = 200, description = "Send requests", body = ProbeAnswer),
        (status = 400, description = "No `Host`, or two of them", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`Host` is none of `--hosts`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It is stopping, or catching up", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn readyz(app: &Arc<App>, call: &mut Call) -> Answer {
    let with_back_fill = call.query().split('&').any(|part| matches!(part, "kafka" | "kafka=" | "kafka=true"));
    app.services.operation.ready(with_back_fill)?;
    Ok(json(&OK))
}
