//! POST /check of 100 candidates: verdicts at the peak, then the latency at half of that rate.

use crate::load::Load;
use crate::load::calls::Checks;
use crate::load::stream::Stream;
use crate::suite::bench::{Bench, measure};
use crate::suite::peer::empty::Empty;

const CANDIDATES: usize = 100;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let loaded = bench.take_loaded()?;
    let service = &loaded.service;
    let draws = Stream { seed: 3, ..Stream::EVEN };
    let calls = |connection| Checks { draws: draws.part(connection), candidates: CANDIDATES };
    let peak = measure(&service.child, &Load::closed(service.addr, 64, bench.size.time), calls)?;
    let half = peak.outcome.per_second() / CANDIDATES as f64 / 2.0;
    let half = measure(&service.child, &Load::open(service.addr, 64, bench.size.open_time, half), calls)?;
    let answer = peak.outcome.body_bytes();
    bench.add("check", peak.outcome.per_second(), Some(peak.memory), peak.details);
    bench.add("check-p99-half", half.outcome.ms(0.99), Some(half.memory), half.details);
    if bench.peers {
        let empty = Empty::start(&bench.work, answer)?;
        let measured = measure(&empty.child, &Load::closed(empty.addr, 64, bench.size.time), calls)?;
        bench.add("check-empty", measured.outcome.per_second(), None, measured.details);
    }
    bench.give_back(loaded);
    Ok(())
}
