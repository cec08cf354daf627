//! A file a scenario; each adds its figures to the bench.

mod access;
mod check;
mod disk;
mod get;
mod growth;
mod hot;
mod ingest;
mod mixed;
mod real;
mod reserve;
mod restart;
mod single;
mod soak;
mod storm;
mod visible;

use super::bench::Bench;
use super::peer;

pub struct Scenario {
    pub name: &'static str,
    pub kind: Kind,
    pub run: fn(&mut Bench) -> anyhow::Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Measures freqcap.
    Own,
    /// Measures something else, once.
    Peer,
    /// Measures freqcap, if it is asked for by name.
    OnlyNamed,
}

const fn own(name: &'static str, run: fn(&mut Bench) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, kind: Kind::Own, run }
}

const fn peer(name: &'static str, run: fn(&mut Bench) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, kind: Kind::Peer, run }
}

/// In the order in which they run. From `get` to `restart` they share the service with many logs.
pub const ALL: &[Scenario] = &[
    own("ingest", ingest::run),
    peer("redis", peer::redis::run),
    peer("flink", peer::flink::run),
    own("real", real::run),
    own("hot", hot::run),
    own("single", single::run),
    peer("throttlecrab", peer::throttlecrab::run),
    own("get", get::run),
    own("access", access::run),
    own("get-under-load", get::under_load),
    own("check", check::run),
    own("mixed", mixed::run),
    own("restart", restart::run),
    own("reserve", reserve::run),
    own("visible", visible::run),
    own("storm", storm::run),
    own("disk", disk::run),
    own("growth", growth::run),
    Scenario { name: "soak", kind: Kind::OnlyNamed, run: soak::run },
];
