//! What the handlers of all routes share.

use super::admission::Admission;
use super::limits::Limits;
use crate::input::EventReader;
use crate::model::TsMs;
use crate::service::{Readiness, StatusBoard};
use crate::shard::{Reader, Router as ShardRouter, Rulebook, Shards};
use crate::store::Store;
use metrics::Counter;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;

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
    /// Has threads of lower priority, for work that takes long.
    pub(super) background: Handle,
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
    pub background: Handle,
}

impl App {
    pub fn new(shards: &Shards, parts: AppParts) -> Self {
        crate::service::figures::describe();
        let AppParts { store, events, limits, readiness, status, metrics, background } = parts;
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
            background,
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
