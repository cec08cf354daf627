//! How the service is.

use super::{BackFill, Readiness, StatusBoard, figures, process};
use crate::api::{StatusAnswer, VersionAnswer};
use crate::model::TsMs;
use crate::shard::Units;
use crate::store::FORMAT;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Answers operators and probes.
pub struct Operation {
    units: Units,
    readiness: Readiness,
    board: StatusBoard,
    started_at: TsMs,
    started: Instant,
}

/// Why only a restart helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum Unhealthy {
    #[error("an earlier write failed: this process must be restarted")]
    WriteFailed,
    #[error("the thread {0} ended by a panic: this process must be restarted")]
    Panicked(String),
    #[error("the disk has not answered a sync for {} s", .0.as_secs())]
    SyncHangs(Duration),
}

impl Unhealthy {
    /// Stable: what programs go by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WriteFailed => "store_failed",
            Self::Panicked(_) => "thread_panicked",
            Self::SyncHangs(_) => "sync_hangs",
        }
    }
}

/// Why requests should go elsewhere.
#[derive(Debug, Clone, Copy)]
pub enum NotReady {
    /// The process is stopping.
    Stopping,
    /// What this process has is not what is counted by now.
    Superseded,
    /// Events from before the start are not counted yet.
    CatchingUp(BackFill),
}

impl Operation {
    pub(super) fn new(units: Units, readiness: Readiness, board: StatusBoard) -> Self {
        let started_at = units.clock().now();
        Self { units, readiness, board, started_at, started: Instant::now() }
    }

    /// Whether the process works.
    pub fn health(&self) -> Result<(), Unhealthy> {
        let health = self.units.health();
        if health.is_poisoned() {
            return Err(Unhealthy::WriteFailed);
        }
        if let Some(thread) = health.panicked() {
            return Err(Unhealthy::Panicked(thread.to_owned()));
        }
        health.hanging_sync().map_or(Ok(()), |waits| Err(Unhealthy::SyncHangs(waits)))
    }

    /// Whether requests should be sent here. `with_back_fill`: only once what Kafka held at the start is counted, too.
    pub fn ready(&self, with_back_fill: bool) -> Result<(), NotReady> {
        if self.readiness.is_draining() {
            return Err(NotReady::Stopping);
        }
        if self.units.health().is_superseded() {
            return Err(NotReady::Superseded);
        }
        if !with_back_fill {
            return Ok(());
        }
        match self.readiness.back_fill() {
            Some(back_fill) if !back_fill.caught_up => Err(NotReady::CatchingUp(back_fill)),
            _ => Ok(()),
        }
    }

    /// How the service is, well or not. Waits for nobody.
    pub fn status(&self) -> StatusAnswer {
        let health = self.units.health();
        let refusal = health.refusal();
        let status = match refusal {
            _ if health.is_poisoned() => "failed",
            Some(_) => "events_refused",
            None => "ok",
        };
        let mut parts = self.board.tell();
        for absent in ["kafka", "mirror", "snapshots"] {
            parts.entry(absent).or_insert(Value::Null);
        }
        let clock = self.units.clock().state();
        // `now` is what the service goes by, `shows` the machine's own time of day.
        let clock = json!({
            "now": clock.goes_by.0, "shows": clock.shows.0, "believed": clock.believed, "steps": clock.lost,
        });
        parts.insert("clock".to_owned(), clock);
        if let Some(Value::Object(memory)) = parts.get_mut("memory") {
            let resident = process::resident_bytes().map(|bytes| bytes as u64);
            memory.insert("resident_bytes".to_owned(), json!(resident));
        }
        StatusAnswer {
            status,
            refused: refusal.map(|refusal| refusal.code()),
            version: env!("CARGO_PKG_VERSION"),
            store_id: self.units.first().store.info().id.clone(),
            units: self.units.count(),
            started_at: self.started_at.0,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            draining: self.readiness.is_draining(),
            unreadable_rows: health.unreadable_rows(),
            background_errors: self.units.stores().map(|store| store.background_errors()).sum(),
            parts,
        }
    }

    /// Which freqcap this is.
    pub fn version(&self) -> VersionAnswer {
        VersionAnswer {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            format: FORMAT,
            features: if cfg!(feature = "kafka") { &["kafka"] } else { &[] },
        }
    }

    /// Reads the metrics that nobody keeps up to date, and gives those of the process as text. Blocks.
    pub fn refresh_metrics(&self) -> String {
        figures::refresh(&self.units);
        process::figures()
    }

    /// Bytes of what waits for the writers.
    pub fn mailbox_bytes(&self) -> u64 {
        self.units.router().mailbox_bytes() as u64
    }
}
