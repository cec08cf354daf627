//! POST of one event over 64 connections, beside an empty handler that answers as many bytes.

use crate::load::Load;
use crate::load::calls::Single;
use crate::load::stream::Stream;
use crate::suite::bench::{Bench, measure};
use crate::suite::peer::empty::Empty;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut answer = 0;
    let calls = |connection| Single { events: Stream::EVEN.part(connection) };
    for (name, durability) in [("single-fsync", "fsync"), ("single-wal", "wal")] {
        let service = bench.start(&["--durability", durability])?;
        let measured = measure(&service.child, &Load::closed(service.addr, 64, bench.size.time), calls)?;
        answer = measured.outcome.body_bytes();
        bench.add(name, measured.outcome.per_second(), Some(measured.memory), measured.details);
    }
    if bench.peers {
        let empty = Empty::start(&bench.work, answer)?;
        let measured = measure(&empty.child, &Load::closed(empty.addr, 64, bench.size.time), calls)?;
        bench.add("single-empty", measured.outcome.per_second(), None, measured.details);
    }
    Ok(())
}
