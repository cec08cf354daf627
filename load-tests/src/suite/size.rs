//! How much is sent: for figures that count, and for a look.

use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Size {
    pub quick: bool,
    pub ingest_events: u64,
    /// Logs held where reads are measured, and at a restart.
    pub held: u64,
    /// A measurement of single requests.
    pub time: Duration,
    /// A measurement of latencies in the open loop.
    pub open_time: Duration,
}

impl Size {
    pub const FULL: Self = Self {
        quick: false,
        ingest_events: 20_000_000,
        held: 10_000_000,
        time: Duration::from_secs(10),
        open_time: Duration::from_secs(20),
    };
    pub const QUICK: Self = Self {
        quick: true,
        ingest_events: 2_000_000,
        held: 500_000,
        time: Duration::from_secs(3),
        open_time: Duration::from_secs(5),
    };
}
