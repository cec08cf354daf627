//! How soon an acknowledged event is seen: by the next GET on another connection, and by a reader of Redis.

use crate::load::calls::{Batches, JSON, get, post, put};
use crate::load::stream::Stream;
use crate::load::text::{number_after, push_number};
use crate::load::{Connection, Load, Stop};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, LONG, with};
use crate::suite::peer::redis::Redis;
use crate::suite::service::Service;
use crate::suite::watch::Watch;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Events a second that come in meanwhile, for the second half. They cap nothing.
const MEANWHILE: f64 = 50_000.0;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let redis = Redis::start(&bench.work, false)?;
    let service = bench.start(&["--redis", &redis.url(), "--limit", "none"])?;
    let rule = br#"{"key":"campaign:*","limit":1,"window":"1h"}"#;
    service.request(|out| put(out, "/rules/once", JSON, |out| out.extend_from_slice(rule)))?;

    let processes = Watch::start(&[("service", &service.child), ("redis", &redis.child)])?;
    let idle = watch(&service, &redis, "a", bench.size.watched)?;
    let stop = Stop::default();
    let load = Load::open(service.addr, CONNECTIONS, LONG, MEANWHILE / BATCH as f64);
    let load = Load { stop: stop.clone(), ..load };
    let (busy, events) = std::thread::scope(|scope| {
        let events = scope.spawn(|| load.run(|n| Batches { events: Stream::EVEN.part(n), batch: BATCH }));
        let busy = watch(&service, &redis, "b", bench.size.watched);
        stop.now();
        (busy, events.join().expect("the load does not panic"))
    });
    let (busy, events) = (busy?, events?);
    let cpu = processes.finish()?;
    let memory = Some(service.child.peak_memory()?);
    bench.add("visible-redis", idle.p99(), memory, with(idle.details(), "cpu", cpu.clone()));
    let details = with(with(busy.details(), "events", events.to_json()), "cpu", cpu.clone());
    bench.add("visible-redis-busy", busy.p99(), memory, details);
    bench.add(
        "visible-get",
        (idle.unseen + busy.unseen) as f64,
        memory,
        json!({"asked": bench.size.watched * 2, "cpu": cpu}),
    );
    Ok(())
}

struct Seen {
    /// GETs that did not see what was acknowledged.
    unseen: u64,
    /// From the acknowledgement to the answer of Redis that holds the cap, in ns.
    redis: Histogram<u64>,
}

impl Seen {
    fn ms(&self, quantile: f64) -> f64 {
        self.redis.value_at_quantile(quantile) as f64 / 1e6
    }

    fn p99(&self) -> f64 {
        self.ms(0.99)
    }

    fn details(&self) -> Value {
        json!({"p50_ms": self.ms(0.5), "p99_ms": self.ms(0.99), "max_ms": self.ms(1.0), "watched": self.redis.len()})
    }
}

/// Events one after another, each of which caps a campaign for a user of its own.
fn watch(service: &Service, redis: &Redis, name: &str, count: u64) -> anyhow::Result<Seen> {
    let mut mirror = redis.connect()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut seen = Seen { unseen: 0, redis: Histogram::new(3)? };
    let mut writer = runtime.block_on(Connection::open(service.addr, None))?;
    let mut reader = runtime.block_on(Connection::open(service.addr, None))?;
    let mut request = Vec::new();
    for number in 0..count {
        let user = format!("{name}{number}");
        request.clear();
        post(&mut request, "/events", JSON, |out| {
            out.extend_from_slice(format!(r#"{{"user":"{user}","da":"1","keys":["campaign:"#).as_bytes());
            push_number(out, number);
            out.extend_from_slice(b"\"]}");
        });
        let status = runtime.block_on(writer.call(&request))?.status;
        let acknowledged = Instant::now();
        anyhow::ensure!(status == 200, "an event was answered {status}");
        let key = format!("campaign:{number}");
        while redis::cmd("ZSCORE").arg(format!("cap:{{{user}}}")).arg(&key).query::<Option<f64>>(&mut mirror)?.is_none()
        {
            anyhow::ensure!(acknowledged.elapsed() < Duration::from_secs(10), "{user} is not in Redis after 10 s");
        }
        seen.redis.record(acknowledged.elapsed().as_nanos() as u64)?;

        // Another event, so that what is asked for is only just acknowledged.
        request.clear();
        post(&mut request, "/events", JSON, |out| {
            out.extend_from_slice(format!(r#"{{"user":"{user}","da":"2"}}"#).as_bytes());
        });
        runtime.block_on(writer.call(&request))?;
        request.clear();
        get(&mut request, |out| out.extend_from_slice(format!("/cap/{user}/2").as_bytes()));
        let answer = runtime.block_on(reader.call(&request))?;
        seen.unseen += u64::from(number_after(answer.body, b"\"count\":") != 1);
    }
    Ok(seen)
}
