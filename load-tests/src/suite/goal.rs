//! The goals: which figures they speak of, and when they are reached.

use super::figure::Figures;
use serde::Serialize;

/// A line of the table.
pub struct Goal {
    /// The scenario that measures it.
    pub scenario: &'static str,
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
}

/// What a process may hold in every line.
pub const MEMORY_MAX: u64 = 1 << 30;

#[derive(Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub what: &'static str,
    pub goal: String,
    pub freqcap: Option<f64>,
    pub freqcap_text: String,
    pub peer: Option<f64>,
    pub peer_text: String,
    pub ratio: Option<f64>,
    /// Null where nothing is judged, or where a figure is missing.
    pub reached: Option<bool>,
    pub memory: Option<u64>,
    /// Why a figure is missing.
    pub note: String,
}

impl Goal {
    /// Judges; `why` says of a scenario why it gave no figure.
    pub fn judge(&self, own: &Figures, peers: &Figures, why: impl Fn(&str) -> Option<String>) -> Row {
        let value = own.get(self.figure);
        let (who, peer_figure) = self.peer.unwrap_or_default();
        let peer = own.get(peer_figure).or_else(|| peers.get(peer_figure));
        let ratio = value.zip(peer).filter(|&(_, peer)| peer > 0.0).map(|(value, peer)| value / peer);
        let memory = own.memory(self.figure);
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
            let scenario =
                GOALS.iter().find(|goal| goal.figure == peer_figure).map_or(peer_figure, |goal| goal.scenario);
            note = format!("{who}: {}", why(scenario).unwrap_or_else(|| "not run".to_owned()));
        }
        let too_large = memory.is_some_and(|memory| memory >= MEMORY_MAX);
        Row {
            scenario: self.scenario,
            what: self.what,
            goal: self.goal_text(who),
            freqcap: value,
            freqcap_text: value.map_or_else(|| "-".to_owned(), |value| self.unit.text(value)),
            peer,
            peer_text: peer.map_or_else(String::new, |peer| format!("{who} {}", self.unit.text(peer))),
            ratio,
            reached: reached.map(|reached| reached && !too_large),
            memory,
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
        }
    }

    /// Is more of it better?
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond(_))
    }
}

fn thousands(value: f64) -> String {
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

const fn goal(
    scenario: &'static str,
    what: &'static str,
    unit: Unit,
    figure: &'static str,
    peer: Option<(&'static str, &'static str)>,
    test: Test,
) -> Goal {
    Goal { scenario, what, unit, figure, peer, test }
}

pub const GOALS: &[Goal] = &[
    goal("ingest", "NDJSON x 1,000, even stream, fsync", EVENTS, "ingest-fsync", None, Test::AtLeast(1e6)),
    goal("ingest", "the same, wal", EVENTS, "ingest-wal", None, Test::None),
    goal(
        "single",
        "POST of one event, wal",
        REQUESTS,
        "single-wal",
        Some(("empty", "single-empty")),
        Test::RatioAtLeast(0.75),
    ),
    goal(
        "single",
        "POST of one event, fsync",
        REQUESTS,
        "single-fsync",
        Some(("empty", "single-empty")),
        Test::RatioAtLeast(0.65),
    ),
    goal("get", "GET /cap", REQUESTS, "get", Some(("empty", "get-empty")), Test::RatioAtLeast(0.85)),
    goal(
        "get-under-load",
        "GET p99 under half-rate ingest",
        Unit::Ms,
        "get-p99-busy",
        Some(("idle", "get-p99-idle")),
        Test::RatioAtMost(2.0),
    ),
    goal(
        "check",
        "POST /check of 100",
        Unit::PerSecond("verdicts"),
        "check",
        Some(("empty", "check-empty")),
        Test::AtLeast(2e6),
    ),
    goal("check", "POST /check of 100, p99 at half of that", Unit::Ms, "check-p99-half", None, Test::AtMost(5.0)),
];
