//! POST /reserve of 10 candidates, of which the first that is not capped is taken.

use crate::load::Load;
use crate::load::calls::Reserves;
use crate::load::stream::Stream;
use crate::suite::bench::{Bench, measure};

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let service = bench.start(&[])?;
    let calls = |connection| Reserves { draws: Stream::EVEN.part(connection), candidates: 10 };
    let measured = measure(&service.child, &Load::closed(service.addr, 64, bench.size.time), calls)?;
    bench.add("reserve", measured.outcome.per_second(), Some(measured.memory), measured.details);
    Ok(())
}
