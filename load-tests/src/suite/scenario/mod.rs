//! A file a scenario; each adds its figures to the bench.

mod check;
mod get;
mod ingest;
mod single;

use super::bench::Bench;

/// A scenario, in the order in which they run. Those that share the service with many logs are together.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&mut Bench) -> anyhow::Result<()>,
}

pub const ALL: &[Scenario] = &[
    Scenario { name: "ingest", run: ingest::run },
    Scenario { name: "single", run: single::run },
    Scenario { name: "get", run: get::run },
    Scenario { name: "get-under-load", run: get::under_load },
    Scenario { name: "check", run: check::run },
];
