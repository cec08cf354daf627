//! Events, checks and reads for minutes; then every count that was acknowledged must be there, and memory is compared.

use crate::load::calls::{Batches, Caps, Checks, JSON, get, post};
use crate::load::stream::Stream;
use crate::load::text::number_after;
use crate::load::{Connection, Load, Stop};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, LONG};
use crate::suite::child::pause;
use crate::suite::service::Service;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const EVENTS_PER_SECOND: f64 = 50_000.0;
const CHECKS_PER_SECOND: f64 = 1_000.0;
const GETS_PER_SECOND: f64 = 1_000.0;
/// Users whose events are counted here, too: each sees one ad, every so often.
const WITNESSES: u64 = 1_000;
/// Each is told of so many times at the most, under what a log holds.
const VIEWS_MAX: u64 = 200;
const BETWEEN: Duration = Duration::from_millis(2);

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let service = bench.start(&[])?;
    let stop = Stop::default();
    let open =
        |connections, rate| Load { stop: stop.clone(), ..Load::open(service.addr, connections, LONG * 1_000, rate) };
    let (events, checks, gets) =
        (open(CONNECTIONS, EVENTS_PER_SECOND / BATCH as f64), open(16, CHECKS_PER_SECOND), open(16, GETS_PER_SECOND));
    let time = bench.soak;
    let (told, early, outcomes) = std::thread::scope(|scope| {
        let events = scope.spawn(|| events.run(|n| Batches { events: Stream::EVEN.part(n), batch: BATCH }));
        let checks = scope.spawn(|| checks.run(|n| Checks { draws: Stream::REAL.part(n), candidates: 20 }));
        let gets = scope.spawn(|| gets.run(|n| Caps::of(&Stream::EVEN, n % CONNECTIONS, 10_000)));
        let told = scope.spawn(|| tell(service.addr, time));
        // Caches are full by a fifth of the time, or so it should be.
        pause(time / 5);
        let early = service.child.memory();
        let told = told.join().expect("the witness does not panic");
        stop.now();
        let outcomes = [events, checks, gets].map(|load| load.join().expect("the load does not panic"));
        (told, early, outcomes)
    });
    let (told, early, late) = (told?, early?, service.child.memory()?);
    let wrong = verify(&service, &told)?;
    let memory = Some(service.child.peak_memory()?);
    let loads = outcomes.into_iter().map(|outcome| outcome.map(|outcome| outcome.to_json()));
    let loads = loads.collect::<anyhow::Result<Vec<_>>>()?;
    let details = json!({"minutes": time.as_secs_f64() / 60.0, "told": told.iter().sum::<u64>(), "loads": loads});
    bench.add("soak-wrong", wrong as f64, memory, details.clone());
    bench.add("soak-growth", late as f64 / early as f64, memory, details);
    Ok(())
}

/// Events of the witnesses, one after another; how many of each were acknowledged.
fn tell(addr: SocketAddr, time: Duration) -> anyhow::Result<Vec<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut told = vec![0; WITNESSES as usize];
    let (start, mut request) = (Instant::now(), Vec::new());
    let mut connection = runtime.block_on(Connection::open(addr, None))?;
    for number in 0..WITNESSES * VIEWS_MAX {
        if start.elapsed() > time {
            break;
        }
        let witness = number % WITNESSES;
        request.clear();
        post(&mut request, "/events", JSON, |out| {
            let event = format!(r#"{{"user":"witness-{witness}","da":"1","id":"{number}"}}"#);
            out.extend_from_slice(event.as_bytes());
        });
        let status = runtime.block_on(connection.call(&request))?.status;
        anyhow::ensure!(status == 200, "a witness was answered {status}");
        told[witness as usize] += 1;
        pause(BETWEEN);
    }
    pause(time.saturating_sub(start.elapsed()));
    Ok(told)
}

/// How many witnesses are told another count than they were acknowledged.
fn verify(service: &Service, told: &[u64]) -> anyhow::Result<u64> {
    let mut wrong = 0;
    for (witness, &told) in told.iter().enumerate() {
        let body = service.request(|out| {
            get(out, |out| out.extend_from_slice(format!("/cap/witness-{witness}/1").as_bytes()));
        })?;
        wrong += u64::from(number_after(body.as_bytes(), b"\"count\":") != told);
    }
    Ok(wrong)
}
