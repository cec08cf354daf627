//! Components of the process that have little to do: they look at something now and then.

use super::error::ServeError;
use crate::clock::Clock;
use crate::{mirror, shard};
use metrics_exporter_prometheus::PrometheusHandle;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Ends the process once only a restart helps: in order if that can be, but soon.
pub(super) struct PoisonWatch {
    pub health: shard::Health,
}

impl PoisonWatch {
    const INTERVAL: Duration = Duration::from_millis(100);
    /// What hangs or panicked may keep an end in order from coming.
    const END_WITHIN: Duration = Duration::from_secs(8);

    /// Runs until `drain`. The error, which ends the service, says why only a restart helps.
    pub(super) async fn run(self, drain: CancellationToken) -> Result<(), ServeError> {
        let why = loop {
            if let Some(why) = self.health.needs_restart() {
                break why;
            }
            if waits(Self::INTERVAL, &drain).await {
                return Ok(());
            }
        };
        tracing::error!(why, "this process can only be restarted: it ends (--exit-when-poisoned)");
        let at_last = std::thread::Builder::new().name("at-last".to_owned()).spawn(|| {
            let until = Instant::now() + Self::END_WITHIN;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            std::process::exit(1);
        });
        if at_last.is_err() {
            std::process::exit(1);
        }
        Err(ServeError::Poisoned(why))
    }
}

/// Has the clock hear what Redis says that the time is, while ours is not believed.
pub(super) struct RedisTime {
    pub mirrors: Vec<mirror::Handle>,
    pub clock: Clock,
}

impl RedisTime {
    const INTERVAL: Duration = Duration::from_millis(500);
    /// What was said longer ago says nothing of a clock that has stepped since.
    const STALE: Duration = Duration::from_secs(10);

    /// Runs until `drain`.
    pub(super) async fn run(self, drain: CancellationToken) -> Result<(), ServeError> {
        while !waits(Self::INTERVAL, &drain).await {
            if !self.clock.is_believed()
                && let Some((said, at)) =
                    self.mirrors.iter().filter_map(mirror::Handle::server_time).max_by_key(|(_, at)| *at)
                && at.elapsed() < Self::STALE
            {
                let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.clock.confirm(said.saturating_add(since));
            }
        }
        Ok(())
    }
}

/// Empties the recorder, which keeps every sample of a histogram until somebody asks, or this does.
pub(super) struct MetricsUpkeep {
    pub metrics: PrometheusHandle,
}

impl MetricsUpkeep {
    const INTERVAL: Duration = Duration::from_secs(5);

    /// Runs until `drain`.
    pub(super) async fn run(self, drain: CancellationToken) -> Result<(), ServeError> {
        while !waits(Self::INTERVAL, &drain).await {
            self.metrics.run_upkeep();
        }
        Ok(())
    }
}

/// Waits for a while, or until `drain`; says whether it is time to end.
async fn waits(time: Duration, drain: &CancellationToken) -> bool {
    tokio::time::timeout(time, drain.cancelled()).await.is_ok()
}
