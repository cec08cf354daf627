//! A pass over all logs, which answers what is asked of all users: how long it takes, and what it costs others meanwhile.

use crate::load::calls::{Batches, Caps, get};
use crate::load::stream::Stream;
use crate::load::{Load, ask};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, LONG, Measured, measure, with};
use crate::suite::child::pause;
use anyhow::Context;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Wants every log. An answer is kept for who asked for it: so each pass is asked another question.
fn question(pass: usize) -> String {
    format!("/reach?level=da&top={}&max_age=0s", 1 + pass % 1_000)
}

const GETS_PER_SECOND: f64 = 2_000.0;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let loaded = bench.take_loaded()?;
    let (service, held) = (&loaded.service, loaded.held);
    service.settle(Duration::from_secs(60))?;
    let asked = AtomicUsize::new(0);
    let seconds =
        pass(service.addr, &AtomicBool::new(false), &asked)?.context("a pass that nobody ends has an answer")?;
    bench.add("reach-pass", seconds, Some(service.child.peak_memory()?), with(Value::Null, "held", bench.size.held));

    let batches = Load::closed(service.addr, CONNECTIONS, bench.size.time);
    let more =
        |seed| move |connection| Batches { events: Stream { seed, ..Stream::EVEN }.part(connection), batch: BATCH };
    let alone = measure(&service.child, &batches, more(11))?;
    let (beside, passes) = beside_passes(service.addr, &asked, || measure(&service.child, &batches, more(12)))?;
    bench.add("reach-ingest-alone", alone.outcome.per_second(), Some(alone.memory), alone.details);
    let details = with(beside.details, "passes", passes);
    bench.add("reach-ingest", beside.outcome.per_second(), Some(beside.memory), details);
    service.settle(Duration::from_secs(60))?;

    let gets = Load::open(service.addr, 64, bench.size.open_time, GETS_PER_SECOND);
    let caps = |connection: usize| Caps::of(&Stream::EVEN, connection % CONNECTIONS, held).drawn_by(connection);
    let alone = measure(&service.child, &gets, caps)?;
    let (beside, passes) = beside_passes(service.addr, &asked, || measure(&service.child, &gets, caps))?;
    bench.add("reach-p99-alone", alone.outcome.ms(0.99), Some(alone.memory), alone.details);
    let details = with(beside.details, "passes", passes);
    bench.add("reach-p99", beside.outcome.ms(0.99), Some(beside.memory), details);
    bench.give_back(loaded);
    Ok(())
}

/// Measures while one pass follows the other. Says how long each of them took, in seconds; the last is not waited for.
fn beside_passes(
    addr: SocketAddr,
    asked: &AtomicUsize,
    measure: impl FnOnce() -> anyhow::Result<Measured>,
) -> anyhow::Result<(Measured, Vec<f64>)> {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let passing = scope.spawn(|| {
            let mut passes = Vec::new();
            while let Some(seconds) = pass(addr, &ends, asked)? {
                passes.push(seconds);
            }
            anyhow::Ok(passes)
        });
        let measured = measure();
        ends.store(true, Ordering::Relaxed);
        let passes = passing.join().expect("who asks does not panic")?;
        Ok((measured?, passes))
    })
}

/// Has all logs read, and waits for the answer; `None` if it is ended before. Says how long the pass took, in seconds.
fn pass(addr: SocketAddr, ends: &AtomicBool, asked: &AtomicUsize) -> anyhow::Result<Option<f64>> {
    let mut request = Vec::new();
    let question = question(asked.fetch_add(1, Ordering::Relaxed));
    get(&mut request, |out| out.extend_from_slice(question.as_bytes()));
    let start = Instant::now();
    while !ends.load(Ordering::Relaxed) {
        let (status, body) = ask(addr, None, &request)?;
        if status == 200 {
            let answer: Value = serde_json::from_str(&body)?;
            let ms = answer["took_ms"].as_f64().context("an answer says how long it took")?;
            return Ok(Some(ms / 1e3));
        }
        anyhow::ensure!(status == 202 && start.elapsed() < LONG, "answered {status}: {body}");
        pause(Duration::from_millis(100));
    }
    Ok(None)
}
