//! Events a second while few logs are held, and while many are: one stream, one process.

use crate::load::calls::Batches;
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, batches, ingest, measure, with};

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let size = bench.size;
    let service = bench.start(&[])?;
    let mut held = 0;
    for (name, logs) in [("growth-few", size.growth_few), ("growth-many", size.growth_many)] {
        ingest(&service, Stream::EVEN, held / CONNECTIONS as u64, logs - held)?;
        let from = logs / CONNECTIONS as u64;
        let calls = |connection| Batches { events: Stream::EVEN.part_from(connection, from), batch: BATCH };
        let measured = measure(&service.child, &batches(&service, size.growth_window), calls)?;
        bench.add(name, measured.outcome.per_second(), Some(measured.memory), with(measured.details, "logs", logs));
        held = logs + size.growth_window;
    }
    Ok(())
}
