//! GET /cap of pairs that are held, over 64 connections; then at a fixed rate, idle and while events come in.

use crate::load::calls::{Batches, Caps};
use crate::load::stream::Stream;
use crate::load::{Load, Stop};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, Loaded, measure, with};
use crate::suite::peer::empty::Empty;

/// GETs a second where latencies are measured: a tenth of the peak, and no more than this.
const RATE_MAX: f64 = 5_000.0;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let loaded = bench.take_loaded()?;
    let measured =
        measure(&loaded.service.child, &Load::closed(loaded.service.addr, 64, bench.size.time), held(&loaded))?;
    let details = with(measured.details, "held", bench.size.held);
    bench.add("get", measured.outcome.per_second(), Some(measured.memory), details);
    if bench.peers {
        let empty = Empty::start(&bench.work, measured.outcome.body_bytes())?;
        let measured = measure(&empty.child, &Load::closed(empty.addr, 64, bench.size.time), held(&loaded))?;
        bench.add("get-empty", measured.outcome.per_second(), None, measured.details);
    }
    bench.give_back(loaded);
    Ok(())
}

/// GETs of what is held: 64 connections ask for what the 4 have sent.
fn held(loaded: &Loaded) -> impl Fn(usize) -> Caps + Sync + Copy + use<> {
    let held = loaded.held;
    move |connection| Caps::of(&Stream::EVEN, connection % CONNECTIONS, held).drawn_by(connection)
}

pub fn under_load(bench: &mut Bench) -> anyhow::Result<()> {
    let loaded = bench.take_loaded()?;
    let service = &loaded.service;
    let peak = match bench.figures.get("get") {
        Some(peak) => peak,
        None => Load::closed(service.addr, 64, bench.size.time / 3).run(held(&loaded))?.per_second(),
    };
    let gets = Load::open(service.addr, 64, bench.size.open_time, (peak / 10.0).min(RATE_MAX));
    let idle = measure(&service.child, &gets, held(&loaded))?;

    // Half of the events a second that went in when there was nothing else to do.
    let half = loaded.rate / 2.0;
    let stop = Stop::default();
    let batches = Load::open(service.addr, CONNECTIONS, gets.time * 2, half / BATCH as f64);
    let batches = Load { stop: stop.clone(), ..batches };
    let more = |connection| Batches { events: Stream { seed: 2, ..Stream::EVEN }.part(connection), batch: BATCH };
    let (busy, events) = std::thread::scope(|scope| {
        let events = scope.spawn(|| batches.run(more));
        let busy = measure(&service.child, &gets, held(&loaded));
        stop.now();
        (busy, events.join().expect("the load does not panic"))
    });
    let (busy, events) = (busy?, events?);
    let memory = Some(busy.memory);
    let details = with(busy.details, "events", events.to_json());
    bench.add("get-p99-idle", idle.outcome.ms(0.99), Some(idle.memory), idle.details);
    bench.add("get-p99-busy", busy.outcome.ms(0.99), memory, with(details, "events_per_second_meant", half));
    bench.give_back(loaded);
    Ok(())
}
