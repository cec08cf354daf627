//! The real stream, with a campaign key and duplicates, under two rules, mirrored to Redis.

use crate::load::calls::{Batches, JSON, put};
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, batches};
use crate::suite::peer::redis::Redis;
use crate::suite::watch::Watch;

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let redis = Redis::start(&bench.work, false)?;
    let service = bench.start(&["--redis", &redis.url(), "--limit", "3", "--window", "24h"])?;
    let rule = br#"{"key":"campaign:*","limit":5,"window":"5d"}"#;
    service.request(|out| put(out, "/rules/campaigns", JSON, |out| out.extend_from_slice(rule)))?;
    let watch = Watch::start(&[("service", &service.child), ("redis", &redis.child)])?;
    let outcome = batches(&service, bench.size.real_events)
        .run(|connection| Batches { events: Stream::REAL.part(connection), batch: BATCH })?;
    let cpu = watch.finish()?;
    let users_capped: u64 = redis::cmd("DBSIZE").query(&mut redis.connect()?)?;
    anyhow::ensure!(users_capped > 2, "nothing was mirrored");
    let mut details = outcome.to_json();
    details["cpu"] = cpu;
    details["seconds_done"] = outcome.seconds.clone().into();
    details["redis_keys"] = users_capped.into();
    bench.add("real", outcome.per_second(), Some(service.child.peak_memory()?), details);
    Ok(())
}
