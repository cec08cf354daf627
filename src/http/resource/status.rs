//! `GET /status` and `GET /version`: how the service is, in one JSON object, and what it is.

use crate::api::{StatusAnswer, VersionAnswer};
use crate::http::app::App;
use crate::http::problem::json;
use crate::http::route::{Answer, Call};
use crate::service::process;
use crate::store::FORMAT;
use serde_json::{Value, json as value};
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
    let refused = app.router.health().refusal().map(crate::http::problem::refusal_code);
    let status = match refused {
        _ if app.router.health().is_poisoned() => "failed",
        Some(_) => "events_refused",
        None => "ok",
    };
    let mut parts = app.status.tell();
    for absent in ["kafka", "mirror"] {
        parts.entry(absent).or_insert(Value::Null);
    }
    let clock = app.reader.clock().state();
    // `now` is what the service goes by, `shows` the machine's own time of day.
    let clock = value!({
        "now": clock.goes_by.0, "shows": clock.shows.0, "believed": clock.believed, "steps": clock.lost,
    });
    parts.insert("clock".to_owned(), clock);
    if let Some(Value::Object(memory)) = parts.get_mut("memory") {
        memory.insert("resident_bytes".to_owned(), value!(process::resident_bytes().map(|bytes| bytes as u64)));
    }
    Ok(json(&StatusAnswer {
        status,
        refused,
        version: env!("CARGO_PKG_VERSION"),
        store_id: app.store.info().id.clone(),
        started_at: app.started_at.0,
        uptime_ms: u64::try_from(app.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        draining: app.readiness.is_draining(),
        unreadable_rows: app.router.health().unreadable_rows(),
        parts,
    }))
}

/// Which freqcap this is
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "getVersion",
    tag = "operation",
    responses((status = 200, description = "Its version, and that of what is on disk", body = VersionAnswer))
)]
pub(in crate::http) async fn version(_app: &Arc<App>, _call: &mut Call) -> Answer {
    Ok(json(&VersionAnswer {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        format: FORMAT,
        features: if cfg!(feature = "kafka") { &["kafka"] } else { &[] },
    }))
}
