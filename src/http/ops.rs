//! For who operates the service: is it alive, is it ready, what are its figures.

use super::app::App;
use super::problem::{Problem, json};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header;
use metrics::gauge;
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
struct Status {
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: Status = Status { status: "ok" };

/// Whether the process works; a 503 asks for a restart
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses(
        (status = 200, description = "It works", body = Status),
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
    tag = "operation",
    params(("kafka" = Option<bool>, Query, description = "Whether to wait for the back-fill from Kafka, too")),
    responses(
        (status = 200, description = "Send requests", body = Status),
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

/// Figures, in Prometheus' text form
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let render = move || {
        store_figures(&app);
        app.metrics.render()
    };
    match tokio::task::spawn_blocking(render).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => Problem::internal().into_response(),
    }
}

/// RocksDB's own main figures, by table where it has them so.
const TABLE_FIGURES: [(&str, &str); 6] = [
    ("rocksdb.estimate-num-keys", "freqcap_rocksdb_rows_estimate"),
    ("rocksdb.total-sst-files-size", "freqcap_rocksdb_files_bytes"),
    ("rocksdb.cur-size-all-mem-tables", "freqcap_rocksdb_memtable_bytes"),
    ("rocksdb.estimate-table-readers-mem", "freqcap_rocksdb_table_readers_bytes"),
    ("rocksdb.estimate-pending-compaction-bytes", "freqcap_rocksdb_pending_compaction_bytes"),
    ("rocksdb.num-immutable-mem-table", "freqcap_rocksdb_immutable_memtables"),
];
const DATABASE_FIGURES: [(&str, &str); 4] = [
    ("rocksdb.num-running-flushes", "freqcap_rocksdb_running_flushes"),
    ("rocksdb.num-running-compactions", "freqcap_rocksdb_running_compactions"),
    ("rocksdb.actual-delayed-write-rate", "freqcap_rocksdb_delayed_write_rate_bytes"),
    ("rocksdb.is-write-stopped", "freqcap_rocksdb_write_stopped"),
];

fn store_figures(app: &App) {
    for (property, name) in TABLE_FIGURES {
        for (table, value) in app.store.table_figures(property) {
            gauge!(name, "table" => table).set(value as f64);
        }
    }
    for (property, name) in DATABASE_FIGURES {
        if let Some(value) = app.store.figure(property) {
            gauge!(name).set(value as f64);
        }
    }
    gauge!("freqcap_rocksdb_block_cache_bytes").set(app.store.cache_bytes() as f64);
    let overlay = app.store.overlay_figures();
    gauge!("freqcap_overlay_bytes", "rows" => "active").set(overlay.active_bytes as f64);
    gauge!("freqcap_overlay_bytes", "rows" => "frozen").set(overlay.frozen_bytes as f64);
    gauge!("freqcap_known_logs_filter_bytes").set(overlay.known_bytes as f64);
    gauge!("freqcap_logs_reclaimed").set(app.store.reclaim().reclaimed() as f64);
    gauge!("freqcap_store_poisoned").set(f64::from(u8::from(app.store.is_poisoned())));
    for (writer, depth) in app.router.mailbox_depths().enumerate() {
        gauge!("freqcap_mailbox_events", "writer" => writer.to_string()).set(depth as f64);
    }
}
