//! How the service is, and what it is.

use serde::Serialize;
use serde_json::{Map, Value};

/// Whether the service is well.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProbeAnswer {
    /// `ok`, or what is wrong.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// How the service is. There may be more members than these.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct StatusAnswer {
    /// `ok`; `events_refused` where reads go on and events are answered 503; `failed` where only a restart helps.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// The code that events are refused with; null where they are taken.
    #[schema(example = "disk_full")]
    pub refused: Option<&'static str>,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// Made with the data directory; of several units that of the first.
    pub store_id: String,
    /// How many units there are.
    #[schema(example = 1)]
    pub units: usize,
    /// ms since 1970.
    pub started_at: u64,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Whether the service is stopping.
    pub draining: bool,
    /// How often something could not be read from disk since the start: its users are refused, all others are served.
    pub unreadable_rows: u64,
    /// How often RocksDB failed to flush or to compact since the start: it tries again, in vain where a block is damaged.
    pub background_errors: u64,
    /// Parts: `clock`, `memory`, `mirror`, `kafka` and `snapshots` (null where there is none).
    #[serde(flatten)]
    #[schema(additional_properties)]
    pub parts: Map<String, Value>,
}

/// Which program this is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct VersionAnswer {
    /// Always `freqcap`.
    #[schema(example = "freqcap")]
    pub name: &'static str,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// Of what is on disk; a newer one is refused.
    pub format: u32,
    /// What was compiled in.
    pub features: &'static [&'static str],
}
