//! `freqcap serve`: the list of components, in the order in which they start.

mod connections;
mod error;
mod status;
mod upkeep;

pub use error::ServeError;

use super::access::Access;
use super::signals::Signals;
use super::snapshots::{self, Before, Beside, Signalled, Superseding};
use super::starting::{Bound, Starting};
use super::{admin, memory};
use crate::clock::Clock;
use crate::config::MemoryPlan;
use crate::http::{self, App, HttpService, Limits, ServerOptions};
use crate::input::EventReader;
use crate::mirror::{self, Mirror};
use crate::priority::lower_priority;
use crate::service::{BackFill, Failure, Readiness, ServiceParts, Services, StatusBoard, Supervisor, Why};
use crate::shard::{self, UnitHost, UnitOptions, Units};
use crate::{auth, kafka, telemetry};
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use upkeep::{MetricsUpkeep, PoisonWatch, RedisTime};

/// Threads that may wait for the disk beside those of reads: for a change of the rules, and for what is asked of the service.
const THREADS_FOR_OTHERS: usize = 4;
/// How long a component may take to end. Each has a bound of its own that is lower.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long tasks that are left may take to end with their runtime.
const RUNTIME_DEADLINE: Duration = Duration::from_secs(1);

/// Everything a service is made of.
pub struct ServeOptions {
    /// The address of the HTTP interface.
    pub listen: SocketAddr,
    /// For operators.
    pub admin_listen: Option<SocketAddr>,
    /// Who may call.
    pub access: auth::Settings,
    /// The store, and what serves it; of several units, what they share.
    pub unit: UnitOptions,
    /// How many units there are.
    pub units: usize,
    /// Of which the bounds in the other options are shares.
    pub memory: MemoryPlan,
    /// Parses events as `[fields]` say.
    pub events: EventReader,
    /// The limits of requests.
    pub limits: Limits,
    /// The limits of connections.
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

/// Serves until SIGTERM or SIGINT, then finishes what was accepted and makes it durable.
pub fn run(mut options: ServeOptions) -> Result<(), ServeError> {
    memory::prepare(&options.memory);
    memory::announce(&options.memory);
    options.server.max_connections =
        options.server.max_connections.min(connections::connections_that_fit(options.units));
    let metrics = telemetry::install_metrics()?;
    let clock = Clock::system();
    let access = Access::open(&options.access, clock.clone())?;
    options.server.tls = access.tls();
    let (before, starting) = match options.snapshots.take() {
        Some(snapshots) => {
            let starting = Starting::begin(options.listen, options.admin_listen, &access, &metrics)?;
            let before = Before::prepare(snapshots, starting.progress.clone(), CancellationToken::new());
            (Some(before?), Some(starting))
        }
        None => (None, None),
    };
    let host = UnitHost::start(&options.unit, options.units, clock.clone())?;
    // Snapshots are of a process with one unit.
    let store = host.units().first().store.clone();
    let snapshots = match before.map(|before| before.attach(&store)).transpose() {
        Ok(snapshots) => snapshots,
        Err(error) => {
            drop(store);
            host.stop()?;
            return Err(error.into());
        }
    };
    let early = Early { snapshots, bound: starting.map(Starting::end), stopped_at: Arc::default() };
    let stopped_at = early.stopped_at.clone();
    let mut supervisor = match Supervisor::new(store.alarm().clone()) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            drop(store);
            host.stop()?;
            return Err(ServeError::Runtime(error));
        }
    };
    drop(store);
    let units = host.units().clone();
    supervisor.add_running("unit", move || Ok(host.stop()?));
    let drain = options.drain;
    let started = start(&mut supervisor, units, options, access, metrics, clock, early);
    match started {
        Ok((readiness, signals, is_signalled)) => {
            wait_for_end(&supervisor, &readiness, signals, is_signalled, drain);
            let _ = stopped_at.set(Instant::now());
            outcome(supervisor.stop())
        }
        Err(error) => {
            supervisor.stop();
            Err(error)
        }
    }
}

/// Starts all components but the unit. They end in reverse order.
fn start(
    supervisor: &mut Supervisor<ServeError>,
    units: Units,
    options: ServeOptions,
    access: Access,
    metrics: PrometheusHandle,
    clock: Clock,
    early: Early,
) -> Result<(Readiness, Signals, bool), ServeError> {
    let (readiness, board) = (Readiness::default(), StatusBoard::default());
    let Early { snapshots, bound, stopped_at } = early;
    let (listener, admin_listener) = bound.map_or((None, None), |Bound { listen, admin }| (Some(listen), admin));
    let superseding = Superseding { health: units.health().clone(), told: CancellationToken::new() };
    let signalled = snapshots.as_ref().map(Beside::signalled);
    let calls = snapshots.as_ref().map(|snapshots| snapshots.calls().clone()).unwrap_or_default();
    // The mirror has much to do at times, and large bodies take long to read: not on the threads that answer.
    let background = background_runtime().map_err(ServeError::Runtime)?;
    let in_background = background.handle().clone();
    supervisor.add_running("background", move || {
        background.shutdown_timeout(RUNTIME_DEADLINE);
        Ok(())
    });
    let runtime = main_runtime().map_err(ServeError::Runtime)?;
    let on_main = runtime.handle().clone();
    // Ends the tasks that are left, and with them the last routers: only then do the writers end.
    supervisor.add_running("runtime", move || {
        runtime.shutdown_timeout(RUNTIME_DEADLINE);
        Ok(())
    });

    // Before all others, so that it ends after them: everything that was acknowledged is in the store by then.
    if let Some(snapshots) = snapshots {
        start_snapshots(supervisor, snapshots, clock.clone(), superseding.clone(), stopped_at);
    }

    let parts = ServiceParts {
        events: options.events.clone(),
        max_batch: options.limits.max_batch,
        readiness: readiness.clone(),
        status: board.clone(),
        snapshots: calls.clone(),
    };
    board.add("snapshots", move || calls.status());
    let services = Services::new(&units, parts);
    let audit = services.audit.clone();
    let (gate, has_admin) = (access.gate(), options.admin_listen.is_some());
    let app = App::new(services, options.limits, gate, has_admin, metrics.clone(), in_background.clone());
    let app = Arc::new(app);
    memory::publish(options.memory, &board, &app, &units);
    access.publish(&board);
    // Before anybody calls.
    in_background.block_on(access.tell_start(&audit));
    supervisor.start("access", &in_background, DEADLINE, |drain| async move { Ok(access.watch(audit, drain).await?) });
    if options.kafka.is_some() {
        // Nobody must think that all is counted before it is known how much there is.
        readiness.follow(|| BackFill { caught_up: false, lag: 0, stopped: 0 });
    }
    for side in admin::start(&app, options.admin_listen, admin_listener, options.access.public_listen, &options.server)?
    {
        supervisor.start(side.name(), &on_main, options.server.grace + DEADLINE, |drain| side.run(drain));
    }
    // Before the output, which trims the changes: it must not trim what the mirror wants.
    if let Some(mirror) = options.mirror {
        let time = clock.clone();
        let stores: Vec<_> = units.stores().cloned().collect();
        let now: mirror::Now = Arc::new(move || time.now());
        let mirrors = Mirror::of_units(&stores, &mirror, &now);
        let handles: Vec<_> = mirrors.iter().map(Mirror::handle).collect();
        board.add("mirror", status::mirror_status(handles.clone(), superseding.health.clone()));
        let superseded = superseding.told.clone();
        supervisor.start("mirror", &in_background, DEADLINE, |drain| async move {
            tokio::select! {
                () = run_all(mirrors, drain) => {}
                () = superseded.cancelled() => {}
            }
            Ok(())
        });
        // Both tell others what was counted, at once.
        start_output(supervisor, &on_main, options.output, &units, true)?;
        let redis_time = RedisTime { mirrors: handles, clock: clock.clone() };
        supervisor.start("redis-time", &on_main, DEADLINE, |drain| redis_time.run(drain));
    } else {
        start_output(supervisor, &on_main, options.output, &units, false)?;
    }
    if let Some(kafka) = options.kafka {
        let parts = kafka::Parts {
            router: units.router().clone(),
            offsets: kafka::Offsets::new(units.stores().cloned().collect()),
            events: options.events,
            clock,
            retention_ms: units.rulebook().in_force().retention_ms(),
        };
        let kafka = kafka::start(kafka, parts)?;
        readiness.follow(status::back_fill(kafka.handle()));
        board.add("kafka", status::kafka_status(kafka.handle()));
        // What it still counts is mirrored, too: so it ends before the mirror.
        let superseded = superseding.told.clone();
        supervisor.start(KAFKA, &on_main, DEADLINE, |drain| async move {
            let drain = either(drain, superseded);
            Ok(kafka.run(drain).await?)
        });
    }
    let upkeep = MetricsUpkeep { metrics };
    supervisor.start("metrics", &on_main, DEADLINE, |drain| upkeep.run(drain));
    if options.exit_when_poisoned {
        let watch = PoisonWatch { health: units.health().clone() };
        supervisor.start("exit-when-poisoned", &on_main, DEADLINE, |drain| watch.run(drain));
    }
    let signals = on_main.block_on(async { Signals::new() }).map_err(ServeError::Runtime)?;
    let cannot_listen = |source| ServeError::Listen { addr: options.listen, source };
    let is_signalled = signalled.is_some_and(Signalled::hand_over);
    let listener = on_main.block_on(async {
        match listener {
            Some(bound) => TcpListener::from_std(bound),
            None => TcpListener::bind(options.listen).await,
        }
    });
    let listener = listener.map_err(cannot_listen)?;
    let addr = listener.local_addr().map_err(cannot_listen)?;
    let scheme = if options.server.tls.is_some() { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{addr}");
    let deadline = options.server.grace + DEADLINE;
    let service = HttpService::new(&app);
    supervisor.start("http", &on_main, deadline, |drain| serve(listener, service, options.server, drain));
    Ok((readiness, signals, is_signalled))
}

/// What was made before the components.
struct Early {
    /// `None`: no snapshots.
    snapshots: Option<Beside>,
    /// Listened on already, by who answered while the service started.
    bound: Option<Bound>,
    /// Set when requests are no longer taken.
    stopped_at: Arc<OnceLock<Instant>>,
}

/// Starts the snapshots, on a runtime of their own.
fn start_snapshots(
    supervisor: &mut Supervisor<ServeError>,
    snapshots: Beside,
    clock: Clock,
    superseding: Superseding,
    stopped_at: Arc<OnceLock<Instant>>,
) {
    let deadline = snapshots.at_end() + RUNTIME_DEADLINE;
    let drain = CancellationToken::new();
    let (runtime, work) = snapshots.into_parts(clock, superseding, stopped_at, drain.clone());
    let on = runtime.handle().clone();
    supervisor.add_running("snapshots-runtime", move || {
        runtime.shutdown_background();
        Ok(())
    });
    supervisor.start("snapshots", &on, deadline, |told| async move {
        let work = tokio::spawn(work);
        told.cancelled().await;
        drain.cancel();
        // A panic is told here.
        work.await.map_err(|_| ServeError::Panicked)
    });
}

/// Runs the mirrors of all units until they have ended.
async fn run_all(mirrors: Vec<Mirror>, drain: CancellationToken) {
    let mut running = tokio::task::JoinSet::new();
    mirrors.into_iter().for_each(|mirror| drop(running.spawn(mirror.run(drain.clone()))));
    // A panic was told where it happened.
    while running.join_next().await.is_some() {}
}

/// Cancelled with either of two.
fn either(one: CancellationToken, other: CancellationToken) -> CancellationToken {
    let both = one.child_token();
    let cancel = both.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = other.cancelled() => cancel.cancel(),
            () = cancel.cancelled() => {}
        }
    });
    both
}

/// The component that is told to end before its turn: what comes in is finished while it ends.
const KAFKA: &str = "kafka";

/// Starts the output of cap changes; `beside` where it ends together with the component before it.
fn start_output(
    supervisor: &mut Supervisor<ServeError>,
    on: &tokio::runtime::Handle,
    options: Option<kafka::OutputOptions>,
    units: &Units,
    beside: bool,
) -> Result<(), ServeError> {
    let Some(options) = options else { return Ok(()) };
    let output = kafka::start_output(options, units.stores().cloned().collect())?;
    let run = |drain| async move { Ok(output.run(drain).await?) };
    if beside {
        supervisor.start_beside("kafka-output", on, DEADLINE, run);
    } else {
        supervisor.start("kafka-output", on, DEADLINE, run);
    }
    Ok(())
}

/// Waits for a signal, or for a component that failed; then has others go elsewhere before the server stops.
fn wait_for_end(
    supervisor: &Supervisor<ServeError>,
    readiness: &Readiness,
    mut signals: Signals,
    is_signalled: bool,
    drain: Duration,
) {
    let failed = supervisor.failed();
    let drain = supervisor.wait(async {
        tokio::select! {
            () = signals.next(), if !is_signalled => drain,
            () = std::future::ready(()), if is_signalled => drain,
            () = failed.cancelled() => Duration::ZERO,
        }
    });
    readiness.drain();
    supervisor.drain(KAFKA);
    tracing::info!(?drain, "stopping");
    // Who asks again does not want to wait.
    let _ = supervisor.wait(async { tokio::time::timeout(drain, signals.next()).await });
}

/// Of several failures the one that says most: why only a restart helps; then that the store did not close; then what
/// ended first.
fn outcome(failures: Vec<Failure<ServeError>>) -> Result<(), ServeError> {
    let mut first = Ok(());
    for Failure { name, why } in failures {
        match why {
            Why::Error(ServeError::Poisoned(why)) => return Err(ServeError::Poisoned(why)),
            Why::Error(error) if first.is_ok() || name == "unit" => first = Err(error),
            Why::Error(_) | Why::Panicked | Why::Late => {}
        }
    }
    first
}

/// The HTTP server: accepts until `drain`, then finishes the requests under way.
async fn serve(
    listener: TcpListener,
    service: HttpService,
    options: ServerOptions,
    drain: CancellationToken,
) -> Result<(), ServeError> {
    let serving = async move { http::serve(listener, service, &options, drain.cancelled_owned()).await };
    match tokio::spawn(serving).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!("some requests were still under way when the service ended");
            Ok(())
        }
        Err(_) => Err(ServeError::Panicked),
    }
}

fn background_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .max_blocking_threads(2 * std::thread::available_parallelism().map_or(1, usize::from))
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
}

fn main_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().max_blocking_threads(shard::BLOCKING_THREADS + THREADS_FOR_OTHERS).enable_all().build()
}
