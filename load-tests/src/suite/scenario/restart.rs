//! kill -9 at full load with many logs held; how long until the next process reads, and until it counts.

use crate::load::calls::{Batches, JSON, post};
use crate::load::stream::Stream;
use crate::load::{Load, ask};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, LONG};
use crate::suite::child::pause;
use crate::suite::service::status_of;
use serde_json::json;
use std::time::{Duration, Instant};

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
    let start = Instant::now();
    service.launch_again()?;
    let addr = service.addr;
    let within = Duration::from_secs(120);
    service.child.wait_until(within, || status_of(addr, "/cap/u0000001/1") == Some(200))?;
    let read = start.elapsed();
    let mut event = Vec::new();
    post(&mut event, "/events", JSON, |out| out.extend_from_slice(br#"{"user":"after","da":"1","id":"after"}"#));
    service.child.wait_until(within, || ask(addr, None, &event).is_ok_and(|(status, _)| status == 200))?;
    let counted = start.elapsed();
    let memory = Some(service.child.peak_memory()?);
    let details = json!({"held": bench.size.held});
    bench.add("restart-read", read.as_secs_f64(), memory, details.clone());
    bench.add("restart-event", counted.as_secs_f64(), memory, details);
    Ok(())
}
