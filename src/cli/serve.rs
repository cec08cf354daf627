//! `freqcap serve`: opens the store, starts the shards, the mirror, the Kafka adapter and the server, and ends them in order.

use super::signals::Signals;
use super::snapshots::{self, Before, SnapshotsError, Superseding};
use super::starting::{Bound, Starting, StartingError};
use super::{admin, memory};
use crate::clock::Clock;
use crate::config::MemoryPlan;
use crate::engine::Policy;
use crate::http::{self, App, HttpService, Limits, ServerOptions};
use crate::input::EventReader;
use crate::kafka::{self, KafkaError};
use crate::mirror::{self, Mirror};
use crate::model::Rule;
use crate::priority::lower_priority;
use crate::service::{self, Readiness, ServiceParts, Services, StatusBoard};
use crate::shard::{self, RulebookError, Shards};
use crate::store::{OpenError, Store, StoreError, StoreOptions};
use crate::telemetry;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Threads that may wait for the disk beside those of reads: for a change of the rules, and for what is asked of the service.
const THREADS_FOR_OTHERS: usize = 4;

/// Everything a service is made of.
pub struct ServeOptions {
    pub listen: SocketAddr,
    /// For probes and metrics alone.
    pub admin_listen: Option<SocketAddr>,
    pub store: StoreOptions,
    /// Of which the bounds in the other options are shares.
    pub memory: MemoryPlan,
    pub policy: Policy,
    /// Those of the flags and the file.
    pub rules: Vec<(Rule, shard::Source)>,
    pub shards: shard::Options,
    pub events: EventReader,
    pub limits: Limits,
    pub server: ServerOptions,
    /// `None`: no Redis.
    pub mirror: Option<mirror::Options>,
    /// `None`: no events from Kafka.
    pub kafka: Option<kafka::Options>,
    /// `None`: nothing is told to Kafka.
    pub output: Option<kafka::OutputOptions>,
    /// `None`: no snapshots.
    pub snapshots: Option<snapshots::Options>,
    /// How long requests are still taken after SIGTERM, while `/readyz` says that they should go elsewhere.
    pub drain: Duration,
    /// Ends the process, with an error, once only a restart helps.
    pub exit_when_poisoned: bool,
}

/// Why the service did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rules(#[from] RulebookError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error(transparent)]
    Starting(#[from] StartingError),
    #[error("{0}: this process has ended to be started again (--exit-when-poisoned)")]
    Poisoned(String),
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then finishes what was accepted and makes it durable.
pub fn run(mut options: ServeOptions) -> Result<(), ServeError> {
    memory::prepare(&options.memory);
    memory::announce(&options.memory);
    options.server.max_connections = options.server.max_connections.min(connections_that_fit());
    let metrics = telemetry::install_metrics()?;
    let (before, starting) = match options.snapshots.take() {
        Some(snapshots) => {
            let starting = Starting::begin(options.listen, options.admin_listen, metrics.clone())?;
            let before = Before::prepare(snapshots, starting.progress.clone(), CancellationToken::new());
            (Some(before?), Some(starting))
        }
        None => (None, None),
    };
    let store = Arc::new(Store::open(&options.store)?);
    let snapshots = match before.map(|before| before.attach(&store)).transpose() {
        Ok(snapshots) => snapshots,
        Err(error) => {
            store.close()?;
            return Err(error.into());
        }
    };
    let bound = starting.map(Starting::end);
    let clock = Clock::system();
    let shards = Shards::start(store.clone(), &options.policy, options.rules, clock.clone(), &options.shards)?;
    let mut readiness = Readiness::default();
    let parts = || kafka::Parts {
        router: shards.router().clone(),
        store: store.clone(),
        events: options.events.clone(),
        clock: clock.clone(),
        retention_ms: shards.rulebook().in_force().retention_ms(),
    };
    let kafka = match options.kafka.map(|kafka| kafka::start(kafka, parts())).transpose() {
        Ok(kafka) => kafka,
        Err(error) => {
            shards.stop()?;
            return Err(error.into());
        }
    };
    // Before the output, which trims the changes: it must not trim what the mirror wants.
    let mirror = options.mirror.map(|mirror| {
        let clock = clock.clone();
        Mirror::new(store.clone(), mirror, Arc::new(move || clock.now()))
    });
    let output = match options.output.map(|output| kafka::start_output(output, store.clone())).transpose() {
        Ok(output) => output,
        Err(error) => {
            // The adapter, if there is one, ends with its router.
            kafka.map_or(Ok(()), kafka::Running::stop)?;
            shards.stop()?;
            return Err(error.into());
        }
    };
    if let Some(kafka) = &kafka {
        readiness.follow(back_fill(kafka.handle()));
    }
    // The mirror has much to do at times, and large bodies take long to read: not on the threads that answer.
    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .max_blocking_threads(2 * std::thread::available_parallelism().map_or(1, usize::from))
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let status = StatusBoard::default();
    if let Some(kafka) = &kafka {
        status.add("kafka", kafka_status(kafka.handle()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(shard::BLOCKING_THREADS + THREADS_FOR_OTHERS)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    if let Some(mirror) = &mirror {
        status.add("mirror", mirror_status(mirror.handle(), shards.router().health().clone()));
    }
    let calls = snapshots.as_ref().map(|snapshots| snapshots.calls().clone()).unwrap_or_default();
    let parts = ServiceParts {
        store: store.clone(),
        events: options.events,
        max_batch: options.limits.max_batch,
        readiness: readiness.clone(),
        status: status.clone(),
        snapshots: calls.clone(),
    };
    status.add("snapshots", move || calls.status());
    let services = Services::new(&shards, parts);
    let app = Arc::new(App::new(services, options.limits, metrics.clone(), background.handle().clone()));
    memory::publish(options.memory, &status, &app, &store);
    drop(status);
    let (listener, admin_listener) = match bound {
        Some(Bound { listen, admin }) => (Some(listen), admin),
        None => (None, None),
    };
    let admin = options
        .admin_listen
        .map(|listen| admin::Admin::start(&app, listen, admin_listener, &options.server))
        .transpose()?;
    let served = runtime.block_on(async {
        tokio::spawn(drain_histograms(metrics.clone()));
        let stop_mirror = CancellationToken::new();
        if let Some(mirror) = &mirror {
            tokio::spawn(hear_redis(mirror.handle(), clock.clone()));
        }
        let mirror = mirror.map(|mirror| background.spawn(mirror.run(stop_mirror.clone())));
        let ends = Ends::of(kafka.as_ref(), snapshots.as_ref().map(snapshots::Beside::stopped));
        let poisoned = Arc::new(OnceLock::new());
        if options.exit_when_poisoned {
            let health = shards.router().health().clone();
            tokio::spawn(end_when_poisoned(health, poisoned.clone(), ends.poisoned.clone()));
        }
        let taking = snapshots.map(|snapshots| {
            let superseding = Superseding {
                health: shards.router().health().clone(),
                mirror: mirror.as_ref().map(tokio::task::JoinHandle::abort_handle),
                kafka: ends.stop.clone(),
            };
            snapshots.begin(clock.clone(), superseding)
        });
        let place = Place { listen: options.listen, bound: listener, server: &options.server, drain: options.drain };
        let (served, stopped_at) = serve(app, readiness, place, ends).await;
        // What it still counts is mirrored, too.
        let pulled = kafka.map_or(Ok(()), kafka::Running::stop);
        stop_mirror.cancel();
        // Both at once: the mirror is a task of its own.
        if let Some(output) = output {
            output.stop();
        }
        if let Some(mirror) = mirror
            && mirror.await.is_err_and(|error| error.is_panic())
        {
            tracing::error!("the mirror ended by a panic");
        }
        // Everything that was acknowledged is in the store by now, and nothing more comes.
        if let Some(taking) = taking {
            let runtime = taking.end(stopped_at).await;
            runtime.shutdown_background();
        }
        match poisoned.get() {
            Some(why) => Err(ServeError::Poisoned(String::clone(why))),
            None => served.and(pulled.map_err(ServeError::from)),
        }
    });
    if let Some(admin) = admin {
        admin.stop();
    }
    // Ends the tasks that are left, and with them the last routers: only then do the writers end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    background.shutdown_timeout(Duration::from_secs(1));
    let stopped = shards.stop();
    // A store that is poisoned does not close: that is told already.
    if !matches!(served, Err(ServeError::Poisoned(_))) {
        stopped?;
    }
    served
}

/// What `/readyz?kafka` goes by.
fn back_fill(kafka: kafka::Handle) -> impl Fn() -> service::BackFill + Send + Sync {
    move || {
        let kafka::Progress { caught_up, lag, stopped } = kafka.progress();
        service::BackFill { caught_up, lag, stopped }
    }
}

/// What `/status` says of the mirror.
fn mirror_status(mirror: mirror::Handle, health: shard::Health) -> impl Fn() -> Value + Send + Sync {
    move || {
        let now = mirror.snapshot();
        // Ended where it stood.
        let state = if health.is_superseded() { "off" } else { now.state.as_str() };
        let passes: serde_json::Map<_, _> =
            now.passes.iter().map(|(reason, count)| ((*reason).to_owned(), Value::from(*count))).collect();
        json!({
            "state": state, "pending": now.pending, "lag_ms": now.lag_ms, "full_passes": passes,
            "sets": now.sets, "removes": now.removes, "errors": now.errors,
        })
    }
}

/// What `/status` says of the Kafka adapter.
fn kafka_status(kafka: kafka::Handle) -> impl Fn() -> Value + Send + Sync {
    move || {
        let kafka::Progress { caught_up, lag, stopped } = kafka.progress();
        json!({"caught_up": caught_up, "lag": lag, "stopped_partitions": stopped})
    }
}

/// How the end of the service and that of the Kafka adapter bring each other about.
struct Ends {
    /// Cancelled to stop the adapter.
    stop: CancellationToken,
    /// Cancelled where the adapter cannot go on: then the service ends, for it would count only some of the events.
    failed: CancellationToken,
    /// Cancelled where only a restart helps, and the process is to end then.
    poisoned: CancellationToken,
    /// Cancelled by the first signal since the start, where that took long.
    told: Option<CancellationToken>,
}

impl Ends {
    fn of(kafka: Option<&kafka::Running>, told: Option<CancellationToken>) -> Self {
        let none = || (CancellationToken::new(), CancellationToken::new());
        let (stop, failed) = kafka.map_or_else(none, |kafka| (kafka.stop_token(), kafka.failed_token()));
        Self { stop, failed, poisoned: CancellationToken::new(), told }
    }
}

/// Waits until only a restart helps, and then has the process end: in order if that can be, but soon.
async fn end_when_poisoned(health: shard::Health, poisoned: Arc<OnceLock<String>>, end: CancellationToken) {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    /// What hangs or panicked may keep an end in order from coming.
    const END_WITHIN: Duration = Duration::from_secs(8);
    let why = loop {
        if let Some(why) = health.needs_restart() {
            break why;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    tracing::error!(why, "this process can only be restarted: it ends (--exit-when-poisoned)");
    let _ = poisoned.set(why);
    end.cancel();
    let at_last = std::thread::Builder::new().name("at-last".to_owned()).spawn(|| {
        let until = Instant::now() + END_WITHIN;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        std::process::exit(1);
    });
    if at_last.is_err() {
        std::process::exit(1);
    }
}

/// Has the clock hear what Redis says that the time is, while ours is not believed.
async fn hear_redis(mirror: mirror::Handle, clock: Clock) {
    /// What was said longer ago says nothing of a clock that has stepped since.
    const STALE: Duration = Duration::from_secs(10);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !clock.is_believed()
            && let Some((said, at)) = mirror.server_time()
            && at.elapsed() < STALE
        {
            clock.confirm(said.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)));
        }
    }
}

/// The recorder keeps every sample of a histogram until somebody asks, or this does.
async fn drain_histograms(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

/// Where and how requests are taken.
struct Place<'a> {
    listen: SocketAddr,
    /// Listened on already, by who answered while the service started.
    bound: Option<std::net::TcpListener>,
    server: &'a ServerOptions,
    drain: Duration,
}

/// Serves until the end. Also says since when no requests were taken.
async fn serve(app: Arc<App>, readiness: Readiness, place: Place<'_>, ends: Ends) -> (Result<(), ServeError>, Instant) {
    let stopped_at = OnceLock::new();
    let served = serve_until(app, readiness, place, ends, &stopped_at).await;
    (served, stopped_at.get().copied().unwrap_or_else(Instant::now))
}

async fn serve_until(
    app: Arc<App>,
    readiness: Readiness,
    place: Place<'_>,
    ends: Ends,
    stopped_at: &OnceLock<Instant>,
) -> Result<(), ServeError> {
    let Place { listen, bound, server, drain } = place;
    let mut signals = Signals::new().map_err(ServeError::Runtime)?;
    let cannot_listen = |source| ServeError::Listen { addr: listen, source };
    let listener = match bound {
        Some(bound) => TcpListener::from_std(bound),
        None => TcpListener::bind(listen).await,
    };
    let listener = listener.map_err(cannot_listen)?;
    let addr = listener.local_addr().map_err(cannot_listen)?;
    tracing::info!("listening on http://{addr}");
    let told = ends.told.unwrap_or_default();
    let stop = async {
        let drain = tokio::select! {
            () = signals.next() => drain,
            () = told.cancelled() => drain,
            () = ends.failed.cancelled() => Duration::ZERO,
            () = ends.poisoned.cancelled() => Duration::ZERO,
        };
        readiness.drain();
        ends.stop.cancel();
        tracing::info!(?drain, "stopping");
        // Who asks again does not want to wait.
        if let Ok(mut again) = Signals::new() {
            let _ = tokio::time::timeout(drain, again.next()).await;
        }
        let _ = stopped_at.set(Instant::now());
    };
    let finished = http::serve(listener, HttpService::new(&app), server, stop).await;
    if !finished {
        tracing::warn!("some requests were still under way when the service ended");
    }
    Ok(())
}

/// How many connections leave the store enough file descriptors: one that it cannot open would fail a write. The limit
/// of the process is raised as far as it goes first.
fn connections_that_fit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// RocksDB keeps up to 512 files open; the rest is for logs, Redis, probes and what comes and goes.
    const FOR_OTHERS: u64 = 512 + 128 + 128;
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { now.maximum } else { now.current };
    let fit = limit.unwrap_or(u64::MAX).saturating_sub(FOR_OTHERS).max(64);
    usize::try_from(fit).unwrap_or(usize::MAX)
}
