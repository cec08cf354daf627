//! `GET /status` and `GET /version`: how the service is, in one JSON object, and what it is.

use super::app::App;
use super::problem::json;
use super::process;
use crate::store::FORMAT;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json as value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Part = Arc<dyn Fn() -> Value + Send + Sync>;

/// The parts of `/status`, each told by who knows about it: http cannot ask the Kafka adapter, and need not. Clones share
/// them.
#[derive(Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<&'static str, Part>>>);

impl StatusBoard {
    /// Adds a member of the answer, or takes the place of the one of that name. `tell` is called for each answer, on a
    /// thread that answers others, too: it must not wait.
    pub fn add(&self, name: &'static str, tell: impl Fn() -> Value + Send + Sync + 'static) {
        self.parts().insert(name, Arc::new(tell));
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) -> Map<String, Value> {
        // Asked outside of the lock: who is asked may want to add something.
        let parts: Vec<_> = self.parts().iter().map(|(name, part)| (*name, part.clone())).collect();
        parts.into_iter().map(|(name, part)| (name.to_owned(), part())).collect()
    }
}

/// How the service is. There may be more members than these.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatusAnswer {
    /// `ok`; `events_refused` where reads go on and events are answered 503; `failed` where only a restart helps.
    #[schema(example = "ok")]
    status: &'static str,
    /// The code that events are refused with; null where they are taken.
    #[schema(example = "disk_full")]
    refused: Option<&'static str>,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Made with the data directory.
    store_id: String,
    /// ms since 1970.
    started_at: u64,
    uptime_ms: u64,
    draining: bool,
    /// How often something could not be read from disk since the start: its users are refused, all others are served.
    unreadable_rows: u64,
    /// How often RocksDB failed to flush or to compact since the start: it tries again, in vain where a block is damaged.
    background_errors: u64,
    /// Parts: `clock`, `memory`, `mirror` and `kafka` (null where there is none).
    #[serde(flatten)]
    #[schema(additional_properties)]
    parts: Map<String, Value>,
}

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
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let refused = app.router.health().refusal().map(super::problem::refusal_code);
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
    json(&StatusAnswer {
        status,
        refused,
        version: env!("CARGO_PKG_VERSION"),
        store_id: app.store.info().id.clone(),
        started_at: app.started_at.0,
        uptime_ms: u64::try_from(app.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        draining: app.readiness.is_draining(),
        unreadable_rows: app.router.health().unreadable_rows(),
        background_errors: app.store.background_errors(),
        parts,
    })
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct VersionAnswer {
    #[schema(example = "freqcap")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Of what is on disk; a newer one is refused.
    format: u32,
    /// What was compiled in.
    features: &'static [&'static str],
}

/// Which freqcap this is
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "getVersion",
    tag = "operation",
    responses((status = 200, description = "Its version, and that of what is on disk", body = VersionAnswer))
)]
pub(super) async fn version() -> Response {
    json(&VersionAnswer {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        format: FORMAT,
        features: if cfg!(feature = "kafka") { &["kafka"] } else { &[] },
    })
}
