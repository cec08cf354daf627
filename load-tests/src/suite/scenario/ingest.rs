//! NDJSON batches of 1,000 over 4 connections, the even stream, durable and with the log alone.

use crate::load::calls::Batches;
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, batches, measure};

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for (name, durability) in [("ingest-fsync", "fsync"), ("ingest-wal", "wal")] {
        let service = bench.start(&["--durability", durability])?;
        let load = batches(&service, bench.size.ingest_events);
        let calls = |connection| Batches { events: Stream::EVEN.part(connection), batch: BATCH };
        let mut measured = measure(&service.child, &load, calls)?;
        measured.details["seconds_done"] = measured.outcome.seconds.clone().into();
        bench.add(name, measured.outcome.per_second(), Some(measured.memory), measured.details);
    }
    Ok(())
}
