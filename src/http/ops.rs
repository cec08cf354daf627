//! For who operates the service: is it alive, is it ready.

use super::app::App;
use super::problem::{Problem, json};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far events that were there before the service are counted.
#[derive(Debug, Clone, Copy)]
pub struct BackFill {
    pub caught_up: bool,
    /// Records that wait.
    pub lag: u64,
    /// Partitions that are not read.
    pub stopped: usize,
}

/// Whether new requests should come here. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    back_fill: Option<Arc<dyn Fn() -> BackFill + Send + Sync>>,
}

impl Readiness {
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Asks this how far the back-fill is, from now on, for this and the clones made of it later.
    pub fn follow(&mut self, back_fill: impl Fn() -> BackFill + Send + Sync + 'static) {
        self.back_fill = Some(Arc::new(back_fill));
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ProbeAnswer {
    #[schema(example = "ok")]
    status: &'static str,
}

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
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Response {
    if app.router.health().is_poisoned() {
        Problem::unavailable("store_failed", "an earlier write failed: this process must be restarted").into_response()
    } else if let Some(thread) = app.router.health().panicked() {
        let detail = format!("the thread {thread} ended by a panic: this process must be restarted");
        Problem::unavailable("thread_panicked", detail).into_response()
    } else if let Some(waits) = app.router.health().hanging_sync() {
        let detail = format!("the disk has not answered a sync for {} s", waits.as_secs());
        Problem::unavailable("sync_hangs", detail).into_response()
    } else {
        json(&OK)
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
pub(super) async fn readyz(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    if app.readiness.is_draining() {
        return Problem::unavailable("stopping", "the service is stopping").into_response();
    }
    let query = query.unwrap_or_default();
    let asked = query.split('&').any(|part| matches!(part, "kafka" | "kafka=" | "kafka=true"));
    match app.readiness.back_fill.as_ref().filter(|_| asked).map(|back_fill| back_fill()) {
        Some(BackFill { caught_up: false, lag, stopped }) => {
            let stopped = if stopped == 0 { String::new() } else { format!("; {stopped} partitions are not read") };
            let detail = format!("{lag} records of the topic are not counted yet{stopped}");
            Problem::unavailable("kafka_catching_up", detail).into_response()
        }
        _ => json(&OK),
    }
}
