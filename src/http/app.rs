//! What the handlers of all routes share.

use super::admission::Admission;
use super::gate::Gate;
use super::limits::Limits;
use crate::service::{Services, describe_metrics};
use crate::stream::Streams;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Metrics rendered at once.
const RENDERING: usize = 2;

/// What handlers share: the use cases, and what requests are bounded by.
pub struct App {
    pub(super) services: Services,
    pub(super) streams: Streams,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    /// Who calls.
    pub(super) gate: Gate,
    /// Whether operators have a listener of their own.
    pub(super) has_admin: bool,
    pub(super) metrics: PrometheusHandle,
    /// Those who render the metrics: so many threads at most, however many ask.
    pub(super) rendering: Arc<Semaphore>,
    /// Has threads of lower priority, for work that takes long.
    pub(super) background: Handle,
}

impl App {
    /// Composes what handlers use. `background` runs what takes long, at a lower priority; `has_admin` where operators have a
    /// listener of their own.
    pub fn new(
        services: Services,
        streams: Streams,
        limits: Limits,
        gate: Gate,
        has_admin: bool,
        metrics: PrometheusHandle,
        background: Handle,
    ) -> Self {
        describe_metrics();
        let (admission, rendering) = (Admission::new(&limits), Arc::new(Semaphore::new(RENDERING)));
        Self { services, streams, limits, admission, gate, has_admin, metrics, rendering, background }
    }

    /// Bytes of what waits for the writers.
    pub fn mailbox_bytes(&self) -> u64 {
        self.services.operation.mailbox_bytes()
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
