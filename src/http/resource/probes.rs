//! For who operates the service: is it alive, is it ready.

use crate::api::ProbeAnswer;
use crate::http::app::App;
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use crate::service::BackFill;
use std::sync::Arc;

const OK: ProbeAnswer = ProbeAnswer { status: "ok" };

/// Whether the process works; a 503 asks for a restart
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "getHealth",
    tag = "operation",
    responses(
        (status = 200, description = "It works", body = ProbeAnswer),
        (status = 503, description = "A write to the store failed, a thread ended by a panic, or a sync does not return: restart", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn healthz(app: &Arc<App>, _call: &mut Call) -> Answer {
    let health = app.router.health();
    if health.is_poisoned() {
        Err(Problem::unavailable("store_failed", "an earlier write failed: this process must be restarted"))
    } else if let Some(thread) = health.panicked() {
        let detail = format!("the thread {thread} ended by a panic: this process must be restarted");
        Err(Problem::unavailable("thread_panicked", detail))
    } else if let Some(waits) = health.hanging_sync() {
        let detail = format!("the disk has not answered a sync for {} s", waits.as_secs());
        Err(Problem::unavailable("sync_hangs", detail))
    } else {
        Ok(json(&OK))
    }
}

/// Whether requests should be sent here
///
/// Stays 200 where only events are refused: reads go on. Does not depend on Redis, nor on Kafka unless asked: with
/// `?kafka` it is 503 (`kafka_catching_up`) until what the topic held at the start is counted.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "getReadiness",
    tag = "operation",
    params(("kafka" = Option<bool>, Query, description = "Whether to wait for the back-fill from Kafka, too")),
    responses(
        (status = 200, description = "Send requests", body = ProbeAnswer),
        (status = 503, description = "It is stopping, or catching up", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn readyz(app: &Arc<App>, call: &mut Call) -> Answer {
    if app.readiness.is_draining() {
        return Err(Problem::unavailable("stopping", "the service is stopping"));
    }
    let asked = call.query().split('&').any(|part| matches!(part, "kafka" | "kafka=" | "kafka=true"));
    match app.readiness.back_fill().filter(|_| asked) {
        Some(BackFill { caught_up: false, lag, stopped }) => {
            let stopped = if stopped == 0 { String::new() } else { format!("; {stopped} partitions are not read") };
            let detail = format!("{lag} records of the topic are not counted yet{stopped}");
            Err(Problem::unavailable("kafka_catching_up", detail))
        }
        _ => Ok(json(&OK)),
    }
}
