//! Takes snapshots at an interval and when asked, and collects garbage.

use super::catalog::{Catalog, Details, State, Summary};
use super::chain_run::Chain;
use super::collect::Collector;
use super::error::SnapshotError;
use super::ship::Shipper;
use super::source::{Now, Source};
use super::status::{Figures, Report, count_error};
use super::steps::Steps;
use super::take::Taker;
use super::upload::PART_BYTES;
use super::writer::{Newer, Writer};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Calls that wait for a snapshot.
const WAITING_MAX: usize = 64;

/// The age of the newest snapshot is told this often.
const AGE_INTERVAL: Duration = Duration::from_secs(1);

/// Told of a snapshot that was taken because it was time, not because somebody asked.
pub type OnTaken = Arc<dyn Fn(Summary) -> BoxFuture<'static, ()> + Send + Sync>;

/// How snapshots are taken.
#[derive(Clone)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// Files that are uploaded at once.
    pub uploads: usize,
    /// How often.
    pub every: Duration,
    /// Within this time writes are to be shipped between snapshots; `None`: they are not.
    pub lag: Option<Duration>,
    /// Bytes of writes that may wait to be shipped.
    pub keep_bytes: usize,
    /// How long manifests are kept. The newest is always kept.
    pub keep: Duration,
    /// After a failure it is tried again this soon, or after `every` if that is sooner.
    pub retry: Duration,
    /// A snapshot that takes longer is given up.
    pub longest: Duration,
    /// How old an object that no manifest names must be to be removed; more than `longest`.
    pub unnamed: Duration,
    /// How often garbage is collected.
    pub collect_every: Duration,
    /// How long the last snapshot, at the end, may take.
    pub last_longest: Duration,
    /// Reads the time that the service goes by.
    pub now: Now,
    /// Who wants to know of each that nobody asked for.
    pub on_taken: Option<OnTaken>,
    pub(super) steps: Steps,
}

impl Options {
    /// As in production.
    pub fn new(dir: PathBuf, now: Now) -> Self {
        Self {
            dir,
            uploads: 8,
            every: Duration::from_secs(60),
            lag: None,
            keep_bytes: 64 << 20,
            keep: Duration::from_secs(24 * 3_600),
            retry: Duration::from_secs(10),
            longest: Duration::from_secs(30 * 60),
            unnamed: Duration::from_secs(3_600),
            collect_every: Duration::from_secs(10 * 60),
            last_longest: Duration::from_secs(120),
            now,
            on_taken: None,
            steps: Steps::default(),
        }
    }

    /// Uploads as many files at once as these bytes hold parts of: one at least.
    pub fn set_memory(&mut self, bytes: u64) {
        // With shipping, a half of them is for writes that wait.
        let (uploads, waiting) = if self.lag.is_some() { (bytes / 2, bytes / 2) } else { (bytes, 0) };
        self.uploads = usize::try_from(uploads / PART_BYTES).unwrap_or(usize::MAX).max(1);
        self.keep_bytes = usize::try_from(waiting).unwrap_or(usize::MAX).max(16 << 20);
    }

    async fn tell_taken(&self, taken: &Result<Summary, Arc<SnapshotError>>) {
        if let (Some(on_taken), Ok(summary)) = (&self.on_taken, taken) {
            on_taken(summary.clone()).await;
        }
    }
}

type Reply = oneshot::Sender<Result<Summary, Arc<SnapshotError>>>;

/// The snapshots of one store.
pub struct Snapshots {
    options: Options,
    taker: Taker,
    shipper: Option<Shipper>,
    writer: Arc<Writer>,
    report: Arc<Report>,
    calls: mpsc::Receiver<Reply>,
    handle: Handle,
}

/// Asks for snapshots, and tells how they are; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    calls: mpsc::Sender<Reply>,
    catalog: Catalog,
    report: Arc<Report>,
    superseded: watch::Receiver<Option<Newer>>,
}

impl Snapshots {
    /// Snapshots of an open store, by a writer that was attached to its directory. Nothing is done before [`Self::run`].
    pub fn new(writer: Writer, source: Arc<dyn Source>, options: Options) -> Result<Self, SnapshotError> {
        let writer = Arc::new(writer);
        let report = Arc::new(Report::new(writer.epoch(), writer.newest()));
        let (uploads, steps) = (options.uploads, options.steps.clone());
        let mut taker = Taker::new(writer.clone(), source.clone(), options.dir.clone(), uploads, steps)?;
        let shipper = options.lag.map(|lag| {
            let chain = Chain::new(writer.epoch());
            taker.ship(chain.clone(), options.keep_bytes);
            Shipper {
                catalog: writer.catalog.clone(),
                source,
                chain,
                lag,
                now: options.now.clone(),
                report: report.clone(),
                steps: options.steps.clone(),
                shipped_to: std::time::Instant::now(),
                pending: None,
            }
        });
        let (sender, calls) = mpsc::channel(WAITING_MAX);
        let handle = Handle {
            calls: sender,
            catalog: writer.catalog.clone(),
            report: report.clone(),
            superseded: writer.superseded(),
        };
        Ok(Self { options, taker, shipper, writer, report, calls, handle })
    }

    /// Asks for snapshots, and tells how they are.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes snapshots until `drain`, which must come once nothing writes to the store any more; then a last one, and gives
    /// the lease up. Ends at once when it is superseded. A bucket that is away is no error: it is waited for.
    pub async fn run(self, drain: CancellationToken) -> Result<(), SnapshotError> {
        let Self { options, mut taker, shipper, writer, report, mut calls, handle } = self;
        let mut superseded = handle.superseded.clone();
        drop(handle);
        let shipping = shipper.map(Shipping::begin);
        let chain_ended = shipping.as_ref().map_or_else(Arc::default, |shipping| shipping.ended.clone());
        // Nothing is shipped before the first snapshot of a run.
        let mut next = Instant::now() + if shipping.is_some() { Duration::ZERO } else { options.every };
        // Beside the snapshots: one that hangs is when the age matters.
        let telling = CancellationToken::new();
        let _telling = telling.clone().drop_guard();
        tokio::spawn(telling.run_until_cancelled_owned(tell_age(report.clone(), options.now.clone())));
        let mut collection = Collection::new(&options, &taker, report.clone());
        let mut last_calls = Vec::new();
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                () = drain.cancelled() => break,
                newer = superseded.wait_for(Option::is_some) => {
                    let newer = newer.ok().and_then(|newer| newer.clone());
                    return Err(end_superseded(&writer, &report, newer));
                }
                call = calls.recv() => waiting.extend(call),
                () = tokio::time::sleep_until(next) => {}
                () = chain_ended.notified() => {}
            }
            // Who asked by now is answered by this one: it holds all that was acknowledged before.
            while let Ok(call) = calls.try_recv() {
                waiting.push(call);
            }
            let began = Instant::now();
            let taken = take(&options, &mut taker, &report, options.longest, &drain).await;
            if drain.is_cancelled() && taken.is_err() {
                // What it uploaded is used by the last one.
                last_calls = waiting;
                break;
            }
            next = began + if taken.is_ok() { options.every } else { options.every.min(options.retry) };
            let is_ok = taken.is_ok();
            if waiting.is_empty() {
                options.tell_taken(&taken).await;
            }
            for reply in waiting {
                // Somebody who asked and went away is not told.
                let _ = reply.send(taken.clone());
            }
            if is_ok {
                collection.begin_if_due();
            }
        }
        collection.end().await;
        if let Some(shipping) = shipping {
            shipping.end(options.last_longest / 2).await;
        }
        let last = take(&options, &mut taker, &report, options.last_longest, &CancellationToken::new()).await;
        drop(taker);
        if last_calls.is_empty() {
            options.tell_taken(&last).await;
        }
        for reply in last_calls {
            // Somebody who asked and went away is not told.
            let _ = reply.send(last.clone());
        }
        if let Err(error) = last {
            tracing::error!(%error, "no last snapshot was taken: the bucket lacks what was counted since the one before");
        }
        match Arc::into_inner(writer) {
            Some(writer) => writer.release().await.map_err(SnapshotError::from),
            // The lease runs out by itself.
            None => Ok(()),
        }
    }
}

/// Writes are shipped beside the snapshots.
struct Shipping {
    /// However the snapshots end, nothing more is shipped.
    stop: DropGuard,
    ended: Arc<Notify>,
    task: JoinHandle<Shipper>,
}

impl Shipping {
    fn begin(shipper: Shipper) -> Self {
        let (stop, ended) = (CancellationToken::new(), shipper.chain.ended.clone());
        Self { ended, task: tokio::spawn(shipper.run(stop.clone())), stop: stop.drop_guard() }
    }

    /// Ships the rest. The last snapshot has it, too, if there is time for that.
    async fn end(self, longest: Duration) {
        self.stop.disarm().cancel();
        let rest = async {
            match self.task.await {
                Ok(mut shipper) => shipper.ship().await,
                Err(error) => Err(error.into()),
            }
        };
        match tokio::time::timeout(longest, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the last writes were not shipped; the last snapshot is to have them")
            }
            Err(_) => tracing::warn!("the last writes were not shipped in time; the last snapshot is to have them"),
        }
    }
}

/// Tells the age of the newest snapshot, for ever.
async fn tell_age(report: Arc<Report>, now: Now) {
    let mut interval = tokio::time::interval(AGE_INTERVAL);
    loop {
        interval.tick().await;
        report.age(now());
    }
}

async fn take(
    options: &Options,
    taker: &mut Taker,
    report: &Report,
    longest: Duration,
    stop: &CancellationToken,
) -> Result<Summary, Arc<SnapshotError>> {
    report.begun();
    let taken = taker.take((options.now)(), longest, stop).await;
    let uploaded_bytes = taker.take_sent();
    report.uploaded(uploaded_bytes);
    match taken {
        Ok(taken) => {
            report.taken(&taken);
            report.age((options.now)());
            let (sequence, took) = (taken.manifest.sequence, taken.took);
            tracing::debug!(sequence, uploaded_bytes, ?took, "took a snapshot");
            let state = State::Listed(Details::of(&taken.manifest));
            Ok(Summary { sequence, written_ms: taken.manifest.taken_ms, state })
        }
        Err(error) => {
            // Each failure is told: they come at most once in `retry`, or when somebody asks.
            tracing::warn!(%error, code = error.code(), "no snapshot was taken");
            report.failed(&error);
            Err(Arc::new(error))
        }
    }
}

fn end_superseded(writer: &Writer, report: &Report, newer: Option<Newer>) -> SnapshotError {
    report.set_superseded();
    let newer = newer.unwrap_or(Newer { epoch: writer.epoch() + 1, by: "another process".to_owned() });
    SnapshotError::Superseded { ours: writer.epoch(), newer: newer.epoch, by: newer.by }
}

/// Garbage is collected beside the snapshots, never twice at once.
struct Collection {
    collector: Arc<Collector>,
    every: Duration,
    next: Instant,
    running: Option<JoinHandle<()>>,
    report: Arc<Report>,
}

impl Collection {
    fn new(options: &Options, taker: &Taker, report: Arc<Report>) -> Self {
        let collector = Collector {
            writer: taker.writer.clone(),
            known: taker.known(),
            chain: taker.chain(),
            keep: options.keep,
            unnamed: options.unnamed,
            seen: tokio::sync::Mutex::default(),
            steps: options.steps.clone(),
        };
        Self {
            collector: Arc::new(collector),
            every: options.collect_every,
            next: Instant::now(),
            running: None,
            report,
        }
    }

    /// Only after a snapshot of this epoch: until then the one that the directory stands at must stay.
    fn begin_if_due(&mut self) {
        let is_running = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if is_running || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + self.every;
        let (collector, report) = (self.collector.clone(), self.report.clone());
        self.running = Some(tokio::spawn(async move {
            match collector.collect().await {
                Ok(collected) => {
                    report.collected(collected.objects + collected.snapshots);
                    tracing::debug!(?collected, "collected what no snapshot needs");
                }
                Err(error) => {
                    count_error("collect", error.code());
                    tracing::warn!(%error, code = error.code(), "old snapshots could not be removed; it is tried again");
                }
            }
        }));
    }

    async fn end(self) {
        if let Some(running) = self.running {
            running.abort();
            // Aborted or done: both are fine.
            let _ = running.await;
        }
    }
}

impl Handle {
    /// Takes a snapshot now and returns it. It holds all that was acknowledged before the call.
    pub async fn take(&self) -> Result<Summary, Arc<SnapshotError>> {
        let (reply, answer) = oneshot::channel();
        self.calls.try_send(reply).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Arc::new(SnapshotError::Busy),
            mpsc::error::TrySendError::Closed(_) => Arc::new(self.ended()),
        })?;
        answer.await.unwrap_or_else(|_| Err(Arc::new(self.ended())))
    }

    fn ended(&self) -> SnapshotError {
        let figures = self.report.figures();
        match self.superseded.borrow().clone() {
            Some(newer) => SnapshotError::Superseded { ours: figures.epoch, newer: newer.epoch, by: newer.by },
            None => SnapshotError::Stopped,
        }
    }

    /// The snapshots under the prefix, the oldest first.
    pub async fn list(&self) -> Result<Vec<Summary>, SnapshotError> {
        self.catalog.list().await
    }

    /// The figures for `/status`.
    pub fn figures(&self) -> Figures {
        self.report.figures()
    }

    /// Whether a newer epoch writes under this prefix: then the mirror stops and events are refused.
    pub fn is_superseded(&self) -> bool {
        self.superseded.borrow().is_some()
    }

    /// Tells when a newer epoch is found.
    pub fn superseded(&self) -> watch::Receiver<Option<Newer>> {
        self.superseded.clone()
    }
}
