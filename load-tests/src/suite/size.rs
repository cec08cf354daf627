//! How much is sent: for figures that count, and for a look.

use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Size {
    pub ingest_events: u64,
    pub real_events: u64,
    pub redis_events: u64,
    pub flink_events: u64,
    pub disk_events: u64,
    /// Logs held at the first and at the second measurement of growth, and how many events each is.
    pub growth_few: u64,
    pub growth_many: u64,
    pub growth_window: u64,
    /// Caps that end in one second, and how long before that they begin to be counted.
    pub storm_caps: u64,
    pub storm_lead: Duration,
    /// Events watched until they are visible.
    pub watched: u64,
    /// Logs held where reads are measured, and at a restart.
    pub held: u64,
    /// A measurement of single requests.
    pub time: Duration,
    /// A measurement of latencies in the open loop.
    pub open_time: Duration,
}

impl Size {
    pub const FULL: Self = Self {
        ingest_events: 20_000_000,
        real_events: 10_000_000,
        redis_events: 2_000_000,
        flink_events: 5_000_000,
        disk_events: 5_000_000,
        growth_few: 1_000_000,
        growth_many: 50_000_000,
        growth_window: 2_000_000,
        storm_caps: 1_000_000,
        storm_lead: Duration::from_secs(60),
        watched: 2_000,
        held: 10_000_000,
        time: Duration::from_secs(10),
        open_time: Duration::from_secs(20),
    };
    pub const QUICK: Self = Self {
        ingest_events: 2_000_000,
        real_events: 1_000_000,
        redis_events: 400_000,
        flink_events: 2_000_000,
        disk_events: 500_000,
        growth_few: 200_000,
        growth_many: 3_000_000,
        growth_window: 400_000,
        storm_caps: 100_000,
        storm_lead: Duration::from_secs(20),
        watched: 500,
        held: 500_000,
        time: Duration::from_secs(3),
        open_time: Duration::from_secs(5),
    };

    /// A text with the counts of this run in the place of their names.
    pub fn fill(&self, text: &str) -> String {
        let counts = [
            ("{ingest}", self.ingest_events),
            ("{real}", self.real_events),
            ("{held}", self.held),
            ("{caps}", self.storm_caps),
            ("{many}", self.growth_many),
            ("{few}", self.growth_few),
        ];
        counts.iter().fold(text.to_owned(), |text, (name, count)| text.replace(name, &short(*count)))
    }
}

/// `20 M`, `500 k`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{} k", count as f64 / 1e3),
        _ => format!("{} M", count as f64 / 1e6),
    }
}
