//! 200,000 events of a hundred users against as many of a million, each in a fresh process, in turns.

use crate::load::calls::Batches;
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, batches, measure};

const EVENTS: u64 = 200_000;
const TURNS: usize = 3;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for _ in 0..TURNS {
        for (name, users) in [("hot", 100), ("cold", 1_000_000)] {
            let stream = Stream { users, ..Stream::EVEN };
            let service = bench.start(&[])?;
            let calls = |connection| Batches { events: stream.part(connection), batch: BATCH };
            let measured = measure(&service.child, &batches(&service, EVENTS), calls)?;
            bench.add(name, measured.outcome.per_second(), Some(measured.memory), measured.details);
        }
    }
    Ok(())
}
