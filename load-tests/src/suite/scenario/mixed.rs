//! An ad server's day: nine calls of /check for 20 candidates, then one impression.

use crate::load::Load;
use crate::load::calls::{Checks, Mixed, Single};
use crate::load::stream::Stream;
use crate::suite::bench::{Bench, measure};

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let loaded = bench.take_loaded()?;
    let service = &loaded.service;
    let stream = |seed| Stream { seed, ..Stream::EVEN };
    let calls = |connection| {
        let checks = Checks { draws: stream(4).part(connection), candidates: 20 };
        let events = Single { events: stream(5).part(connection) };
        Mixed::new(checks, 9, events, stream(6).part(connection))
    };
    let measured = measure(&service.child, &Load::closed(service.addr, 64, bench.size.time), calls)?;
    let requests = measured.outcome.ok as f64 / measured.outcome.elapsed.as_secs_f64();
    bench.add("mixed", requests, Some(measured.memory), measured.details);
    bench.give_back(loaded);
    Ok(())
}
