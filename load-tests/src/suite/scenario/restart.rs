//! kill -9 at full load with many logs held; how long until the next process reads, and until it counts.

use crate::load::Load;
use crate::load::calls::Batches;
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, LONG};
use crate::suite::child::pause;
use serde_json::json;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut loaded = bench.take_loaded()?;
    let service = &mut loaded.service;
    let load = Load::closed(service.addr, CONNECTIONS, LONG);
    let more = |connection| Batches { events: Stream { seed: 7, ..Stream::EVEN }.part(connection), batch: BATCH };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run(more));
        pause(bench.size.open_time / 4);
        service.kill();
        // It ends with the connections.
        drop(load.join());
    });
    let (read, counted) = service.answers_again()?;
    let memory = Some(service.child.peak_memory()?);
    let details = json!({"held": bench.size.held});
    bench.add("restart-read", read, memory, details.clone());
    bench.add("restart-event", counted, memory, details);
    Ok(())
}
