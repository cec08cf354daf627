//! One binary of the service under measurement: what it is started with, what it gave.

use super::child::Child;
use super::figure::{Figure, Figures};
use super::service::Service;
use super::size::Size;
use super::watch::Watch;
use crate::load::calls::Batches;
use crate::load::stream::Stream;
use crate::load::{Calls, Load, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct Bench {
    pub bin: PathBuf,
    pub work: PathBuf,
    pub size: Size,
    /// Are peers measured, too?
    pub peers: bool,
    /// How long the soak takes.
    pub soak: Duration,
    pub figures: Figures,
    /// Why there is no figure, by scenario.
    pub skipped: BTreeMap<&'static str, String>,
    /// Where throttlecrab-server is.
    pub throttlecrab: Option<PathBuf>,
    /// The service that holds many logs, once a scenario has asked for it.
    loaded: Option<Loaded>,
}

/// A service that holds the first events of the even stream.
pub struct Loaded {
    pub service: Service,
    /// Events that each of the [`CONNECTIONS`] sent.
    pub held: u64,
    /// Events a second while they were sent.
    pub rate: f64,
}

/// Connections that send batches.
pub const CONNECTIONS: usize = 4;
/// Events of a batch.
pub const BATCH: usize = 1_000;
/// Longer than this nothing takes that is bounded by a count.
pub const LONG: Duration = Duration::from_secs(900);

impl Bench {
    pub fn new(bin: PathBuf, work: &Path, size: Size, peers: bool, soak: Duration) -> Self {
        Self {
            bin,
            work: work.to_owned(),
            size,
            peers,
            soak,
            figures: Figures::default(),
            skipped: BTreeMap::new(),
            throttlecrab: None,
            loaded: None,
        }
    }

    pub fn start(&self, flags: &[&str]) -> anyhow::Result<Service> {
        Service::start(&self.bin, &self.work, flags)
    }

    pub fn add(&mut self, name: &'static str, value: f64, memory: Option<u64>, details: Value) {
        self.figures.add(name, Figure { value, memory, details });
    }

    /// Says why a scenario gives no figure here.
    pub fn skip(&mut self, scenario: &'static str, why: &str) {
        self.skipped.insert(scenario, why.to_owned());
    }

    /// Takes the service that holds many logs, or makes it. Whoever can leave it as it was gives it back.
    pub fn take_loaded(&mut self) -> anyhow::Result<Loaded> {
        if let Some(loaded) = self.loaded.take() {
            return Ok(loaded);
        }
        let service = self.start(&[])?;
        let outcome = ingest(&service, Stream::EVEN, 0, self.size.held)?;
        service.settle(Duration::from_secs(60))?;
        let held = self.size.held / CONNECTIONS as u64;
        Ok(Loaded { service, held, rate: outcome.per_second() })
    }

    pub fn give_back(&mut self, loaded: Loaded) {
        self.loaded = Some(loaded);
    }

    /// Ends what was kept for the next scenario.
    pub fn end(&mut self) {
        self.loaded = None;
    }
}

/// What a load gave, what the process held at the most, and who used the cores.
pub struct Measured {
    pub outcome: Outcome,
    pub memory: u64,
    pub details: Value,
}

/// Runs a load against a process, watched.
pub fn measure<C: Calls + 'static>(
    child: &Child,
    load: &Load,
    calls: impl Fn(usize) -> C + Sync,
) -> anyhow::Result<Measured> {
    let watch = Watch::start(&[("service", child)])?;
    let outcome = load.run(calls)?;
    let cpu = watch.finish()?;
    // A refusal is quick and costs nothing: with many of them rates and latencies are of something else.
    let (ok, busy) = (outcome.ok, outcome.busy);
    anyhow::ensure!(busy * 100 <= ok, "{busy} requests were answered 503, {ok} with success");
    let mut details = outcome.to_json();
    details["cpu"] = cpu;
    Ok(Measured { outcome, memory: child.peak_memory()?, details })
}

/// The load of `events` in batches.
pub fn batches(service: &Service, events: u64) -> Load {
    Load::closed(service.addr, CONNECTIONS, LONG).requests(events / BATCH as u64)
}

/// Sends the events of a stream, from the `from`-th of each connection on; all of them must be taken.
pub fn ingest(service: &Service, stream: Stream, from: u64, events: u64) -> anyhow::Result<Outcome> {
    let calls = |connection| Batches { events: stream.part_from(connection, from), batch: BATCH };
    let outcome = batches(service, events).run(calls)?;
    let sent = events / BATCH as u64 * BATCH as u64;
    anyhow::ensure!(outcome.done == sent, "{} of {sent} events were counted", outcome.done);
    Ok(outcome)
}

/// For the table's reader: the same details under their heading.
pub fn with(mut details: Value, name: &str, value: impl Into<Value>) -> Value {
    if !details.is_object() {
        details = json!({});
    }
    details[name] = value.into();
    details
}
