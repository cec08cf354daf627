//! The goals: which figures they speak of, and when they are reached.

use super::figure::Figures;
use super::size::Size;
use serde::Serialize;

/// A line of the table.
pub struct Goal {
    /// The scenario that measures it.
    pub scenario: &'static str,
    /// Counts in braces are those of the run: `{held}`.
    pub what: &'static str,
    pub unit: Unit,
    /// The figure of freqcap.
    pub figure: &'static str,
    /// What it is beside: who, and which figure.
    pub peer: Option<(&'static str, &'static str)>,
    pub test: Test,
}

#[derive(Clone, Copy)]
pub enum Test {
    /// The figure itself.
    AtLeast(f64),
    AtMost(f64),
    /// The figure divided by the peer's.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// Shown, not judged.
    None,
}

#[derive(Clone, Copy)]
pub enum Unit {
    PerSecond(&'static str),
    Ms,
    Seconds,
    Bytes,
    Count,
    Times,
}

/// What a process may hold in every line.
pub const MEMORY_MAX: u64 = 1 << 30;

#[derive(Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub what: String,
    pub goal: String,
    pub freqcap: Option<f64>,
    pub freqcap_text: String,
    pub peer: Option<f64>,
    pub peer_text: String,
    pub ratio: Option<f64>,
    /// Null where nothing is judged, or where a figure is missing.
    pub reached: Option<bool>,
    /// The peak of the process, in bytes.
    pub memory: Option<u64>,
    /// The share of the cores that others had: neither the generator nor what was measured.
    pub others: Option<f64>,
    /// Why a figure is missing.
    pub note: String,
}

impl Goal {
    /// Judges; `why` says of a scenario why it gave no figure.
    pub fn judge(&self, figures: &Figures, size: &Size, why: impl Fn(&str) -> Option<String>) -> Row {
        let value = figures.get(self.figure);
        let (who, peer_figure) = self.peer.unwrap_or_default();
        let peer = figures.get(peer_figure);
        let ratio = value.zip(peer).filter(|&(_, peer)| peer > 0.0).map(|(value, peer)| value / peer);
        let memory = figures.memory(self.figure);
        let reached = match self.test {
            Test::AtLeast(least) => value.map(|value| value >= least),
            Test::AtMost(most) => value.map(|value| value <= most),
            Test::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Test::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Test::None => None,
        };
        let mut note = String::new();
        if value.is_none() {
            note = why(self.scenario).unwrap_or_else(|| "not run".to_owned());
        } else if self.peer.is_some() && peer.is_none() {
            let scenario = match peer_figure {
                name if name.starts_with("redis") => "redis",
                "flink" | "throttlecrab" => peer_figure,
                _ => self.scenario,
            };
            note = format!("{who}: {}", why(scenario).unwrap_or_else(|| "not run".to_owned()));
        }
        let too_large = memory.is_some_and(|memory| memory >= MEMORY_MAX);
        Row {
            scenario: self.scenario,
            what: size.fill(self.what),
            goal: self.goal_text(who),
            freqcap: value,
            freqcap_text: value.map_or_else(|| "-".to_owned(), |value| self.unit.text(value)),
            peer,
            peer_text: peer.map_or_else(String::new, |peer| format!("{who} {}", self.unit.text(peer))),
            ratio,
            reached: reached.map(|reached| reached && !too_large),
            memory,
            others: figures.others(self.figure),
            note,
        }
    }

    fn goal_text(&self, who: &str) -> String {
        match self.test {
            Test::AtLeast(least) => format!("at least {}", self.unit.text(least)),
            Test::AtMost(most) => format!("at most {}", self.unit.text(most)),
            Test::RatioAtLeast(least) => format!("at least {least} x {who}"),
            Test::RatioAtMost(most) => format!("at most {most} x {who}"),
            Test::None => String::new(),
        }
    }
}

impl Unit {
    pub fn text(self, value: f64) -> String {
        match self {
            Self::PerSecond(of) => format!("{} {of}/s", thousands(value)),
            Self::Ms => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => format!("{value:.1} B"),
            Self::Count => thousands(value),
            Self::Times => format!("{value:.2} x"),
        }
    }

    /// Is more of it better?
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond(_))
    }
}

pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const EVENTS: Unit = Unit::PerSecond("events");
const REQUESTS: Unit = Unit::PerSecond("requests");
const VERDICTS: Unit = Unit::PerSecond("verdicts");

/// A line that is shown and not judged, until [`Goal::beside`] or [`Goal::test`] say more.
const fn shown(scenario: &'static str, figure: &'static str, unit: Unit, what: &'static str) -> Goal {
    Goal { scenario, what, unit, figure, peer: None, test: Test::None }
}

impl Goal {
    const fn beside(self, who: &'static str, figure: &'static str) -> Self {
        Self { peer: Some((who, figure)), ..self }
    }

    const fn test(self, test: Test) -> Self {
        Self { test, ..self }
    }
}

pub const GOALS: &[Goal] = &[
    shown("ingest", "ingest-fsync", EVENTS, "NDJSON x 1,000, 1 M users x 1,000 ads, fsync, {ingest} events")
        .test(Test::AtLeast(1e6)),
    shown("ingest", "ingest-fsync", EVENTS, "the same beside the Flink job")
        .beside("Flink", "flink")
        .test(Test::RatioAtLeast(8.0)),
    shown("ingest", "ingest-fsync", EVENTS, "the same beside the Redis script, AOF always")
        .beside("Redis", "redis-aof")
        .test(Test::RatioAtLeast(6.0)),
    shown("ingest", "ingest-wal", EVENTS, "the same in wal, beside the script in memory")
        .beside("Redis", "redis-memory"),
    shown("real", "real", EVENTS, "Zipf, 5 % twice, campaigns, two rules, Redis, {real} events")
        .test(Test::AtLeast(5e5)),
    shown("hot", "hot", EVENTS, "200,000 events of 100 hot users").beside("cold", "cold").test(Test::RatioAtLeast(1.0)),
    shown("single", "single-wal", REQUESTS, "POST of one event, wal")
        .beside("empty", "single-empty")
        .test(Test::RatioAtLeast(0.75)),
    shown("single", "single-fsync", REQUESTS, "POST of one event, fsync")
        .beside("empty", "single-empty")
        .test(Test::RatioAtLeast(0.65)),
    shown("single", "single-wal", REQUESTS, "POST of one event, wal")
        .beside("throttlecrab", "throttlecrab")
        .test(Test::RatioAtLeast(1.0)),
    shown("single", "single-fsync", REQUESTS, "POST of one event, fsync")
        .beside("throttlecrab", "throttlecrab")
        .test(Test::RatioAtLeast(1.0)),
    shown("get", "get", REQUESTS, "GET /cap, {held} logs held")
        .beside("empty", "get-empty")
        .test(Test::RatioAtLeast(0.85)),
    shown("access", "get-key", REQUESTS, "GET /cap with a key")
        .beside("no key", "get-open")
        .test(Test::RatioAtLeast(0.98)),
    shown("access", "get-tls", REQUESTS, "GET /cap with a key over TLS").beside("no key", "get-open"),
    shown("access", "single-key", REQUESTS, "POST of one event with a key").beside("no key", "single-open"),
    shown("access", "single-tls", REQUESTS, "POST of one event with a key over TLS").beside("no key", "single-open"),
    shown("get-under-load", "get-p99-busy", Unit::Ms, "GET p99 under half-rate ingest")
        .beside("idle", "get-p99-idle")
        .test(Test::RatioAtMost(2.0)),
    shown("check", "check", VERDICTS, "POST /check of 100").beside("empty", "check-empty").test(Test::AtLeast(2e6)),
    shown("check", "check-p99-half", Unit::Ms, "POST /check of 100, p99 at half of that").test(Test::AtMost(5.0)),
    shown("reserve", "reserve", REQUESTS, "POST /reserve of 10"),
    shown("mixed", "mixed", REQUESTS, "9 of 10 /check of 20, 1 event"),
    shown("visible", "visible-get", Unit::Count, "acknowledged, and the next GET does not see it")
        .test(Test::AtMost(0.0)),
    shown("visible", "visible-redis", Unit::Ms, "acknowledged -> in Redis, p99").test(Test::AtMost(5.0)),
    shown("visible", "visible-redis-busy", Unit::Ms, "the same under 50,000 events/s").test(Test::AtMost(5.0)),
    shown("storm", "storm-p99", Unit::Ms, "GET p99 while {caps} caps end in a second")
        .beside("before", "storm-p99-before")
        .test(Test::RatioAtMost(2.0)),
    shown("storm", "storm-gone", Unit::Seconds, "the same, until all are gone from Redis").test(Test::AtMost(10.0)),
    shown("disk", "disk", Unit::Bytes, "disk, one event of a pair, compacted")
        .beside("Redis, memory", "redis-bytes")
        .test(Test::AtMost(24.0)),
    shown("disk", "disk-with-id", Unit::Bytes, "the same, the event with an id").test(Test::AtMost(24.0)),
    shown("restart", "restart-read", Unit::Seconds, "kill -9 under load, {held} logs, until it reads")
        .test(Test::AtMost(1.0)),
    shown("restart", "restart-event", Unit::Seconds, "the same, until it counts").test(Test::AtMost(2.0)),
    shown("growth", "growth-many", EVENTS, "ingest with {many} logs held, against {few}")
        .beside("few", "growth-few")
        .test(Test::RatioAtLeast(0.7)),
    shown("soak", "soak-wrong", Unit::Count, "soak: counts that are wrong at the end").test(Test::AtMost(0.0)),
    shown("soak", "soak-growth", Unit::Times, "soak: memory at the end, against a fifth of the way"),
];
