//! The application: what handlers share, and which path leads to which.

use super::admission::{self, Admission};
use super::ops::Readiness;
use super::status::{self, StatusBoard};
use super::{cap, check, events, figures, front, ops, reserve, rules, users};
use crate::input::EventReader;
use crate::model::TsMs;
use crate::shard::{Reader, Router as ShardRouter, Rulebook, Shards};
use crate::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use metrics::Counter;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

/// The bounds of a request.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body of events, as sent and as unpacked.
    pub max_body: usize,
    /// Bytes per second at which a body must come, on the whole.
    pub min_body_rate: u64,
    /// Events of a batch.
    pub max_batch: usize,
    /// Bytes of a request's target and header.
    pub max_header: usize,
    /// How long a body may take to arrive.
    pub request_timeout: Duration,
    /// Reads under way at once.
    pub max_reads: usize,
    /// Writes under way at once.
    pub max_writes: usize,
    /// Bytes of all bodies in memory at once.
    pub max_bodies: u64,
    /// Bytes of all that is read and answered in memory at once, beyond a little that each read may have.
    pub max_read_memory: u64,
}

/// What handlers share.
pub struct App {
    pub(super) router: ShardRouter,
    pub(super) reader: Reader,
    pub(super) rulebook: Rulebook,
    pub(super) store: Arc<Store>,
    pub(super) events: EventReader,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) readiness: Readiness,
    pub(super) status: StatusBoard,
    pub(super) started_at: TsMs,
    pub(super) started: Instant,
    pub(super) metrics: PrometheusHandle,
    /// Has threads for what takes long, which give way to those that answer.
    pub(super) aside: Handle,
    pub(super) rejected: Counter,
    pub(super) unavailable: Counter,
}

/// What an [`App`] is made of, besides the shards.
pub struct AppParts {
    pub store: Arc<Store>,
    pub events: EventReader,
    pub limits: Limits,
    pub readiness: Readiness,
    pub status: StatusBoard,
    pub metrics: PrometheusHandle,
    pub aside: Handle,
}

impl App {
    pub fn new(shards: &Shards, parts: AppParts) -> Self {
        figures::describe();
        let AppParts { store, events, limits, readiness, status, metrics, aside } = parts;
        let admission = Admission::new(&limits);
        Self {
            router: shards.router().clone(),
            reader: shards.reader().clone(),
            rulebook: shards.rulebook().clone(),
            store,
            events,
            limits,
            admission,
            readiness,
            status,
            started_at: shards.reader().clock().now(),
            started: Instant::now(),
            metrics,
            aside,
            rejected: metrics::counter!("freqcap_events_total", "result" => "rejected"),
            unavailable: metrics::counter!("freqcap_events_total", "result" => "unavailable"),
        }
    }

    /// Bytes of what waits for the writers.
    pub fn mailbox_bytes(&self) -> u64 {
        self.router.mailbox_bytes() as u64
    }

    /// Bytes of all bodies under way.
    pub fn body_bytes(&self) -> u64 {
        self.admission.body_bytes()
    }

    /// Bytes of all reads under way, beyond what each has without asking.
    pub fn read_bytes(&self) -> u64 {
        self.admission.read_bytes()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "freqcap",
        description = "Ad frequency capping: has this user seen this ad too often? Events in, exact caps out.\n\nInstants are integers, ms since 1970. Durations are text: one positive integer and one of `ms`, `s`, `m`, `h`, `d`. Errors are RFC 9457 problems with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "events", description = "Impressions, clicks, conversions in"),
        (name = "caps", description = "Verdicts"),
        (name = "reservations", description = "Check and count in one step"),
        (name = "rules", description = "What caps"),
        (name = "users", description = "What is known of a user"),
        (name = "operation", description = "Probes and figures")
    )
)]
struct Document;

type Routes = OpenApiRouter<Arc<App>>;

/// What reads the store. An erasure comes with it, for a path has one set of layers.
fn reads() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(cap::get_by_path))
        .routes(routes!(cap::get_by_query))
        .routes(routes!(users::get, users::delete))
        .routes(routes!(users::get_caps))
}

/// What has a body, or reads nothing that could be waited for: each handler asks for the room that it needs, once the body
/// is there, so that who sends slowly keeps nobody out.
fn writes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(events::post))
        .routes(routes!(check::post))
        .routes(routes!(reserve::reserve))
        .routes(routes!(reserve::release))
        .routes(routes!(rules::list))
        .routes(routes!(rules::get, rules::put, rules::delete))
}

fn operation() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(figures::metrics))
        .routes(routes!(status::status))
        .routes(routes!(status::version))
}

/// Whether a path is one of those, which are answered whatever the load.
pub(super) fn is_operation(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics" | "/status" | "/version")
}

fn document() -> utoipa::openapi::OpenApi {
    let all = OpenApiRouter::with_openapi(Document::openapi()).merge(reads()).merge(writes()).merge(operation());
    all.into_openapi()
}

/// The OpenAPI document, as `openapi/openapi.json` holds it.
pub fn openapi_json() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The paths of operation alone.
pub(super) fn admin_router(app: &Arc<App>) -> Router {
    let (routes, _) = operation().split_for_parts();
    with_fallbacks(routes.with_state(app.clone()))
}

/// Every path of the service, for [`super::Front`].
pub(super) fn router(app: &Arc<App>) -> Router {
    let reads = reads().layer(from_fn_with_state(app.clone(), admission::read));
    let (routes, _) = OpenApiRouter::new().merge(reads).merge(writes()).merge(operation()).split_for_parts();
    with_fallbacks(routes.with_state(app.clone()).merge(SwaggerUi::new("/docs").url("/openapi.json", document())))
}

fn with_fallbacks(routes: Router) -> Router {
    routes
        .fallback(front::not_found)
        .method_not_allowed_fallback(front::method_not_allowed)
        .layer(from_fn(front::note_route))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
}
