//! Snapshots beside a load, what they upload, a restore after the loss of the disk, and answers that wait for the bucket.

use crate::load::Load;
use crate::load::calls::{Batches, Single};
use crate::load::stream::Stream;
use crate::suite::bench::{BATCH, Bench, batches, ingest, measure, with};
use crate::suite::peer::bucket::BucketServer;
use crate::suite::service::Service;
use anyhow::Context;
use serde_json::json;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

/// Objects whose time is taken for the server's own latency.
const OBJECTS: usize = 300;

/// The last snapshot of many logs, for the first time.
const STOP_MAX: Duration = Duration::from_secs(180);

fn start(bench: &Bench, server: &BucketServer, prefix: &str, flags: &[&str]) -> anyhow::Result<Service> {
    let url = server.url(prefix);
    let flags = [&["--snapshots", &url, "--snapshot-at-end", "170s", "--takeover"], flags].concat();
    Service::start_in(&bench.bin, &bench.work, &flags, server.env())
}

/// Ingest with and without, in turns.
pub fn beside_ingest(bench: &mut Bench) -> anyhow::Result<()> {
    let server = BucketServer::start(&bench.work)?;
    for (name, flags) in [
        ("snapshots-without", None),
        ("snapshots-10s", Some(&["--snapshot-every", "10s"][..])),
        ("snapshots-60s", Some(&["--snapshot-every", "60s"][..])),
        ("snapshots-lag", Some(&["--snapshot-every", "60s", "--snapshot-lag", "1s"][..])),
    ] {
        let service = match flags {
            Some(flags) => start(bench, &server, name, flags)?,
            None => bench.start(&[])?,
        };
        let calls = |connection| Batches { events: Stream::EVEN.part(connection), batch: BATCH };
        let measured = measure(&service.child, &batches(&service, bench.size.ingest_events), calls)?;
        let mut details = measured.details;
        for metric in
            ["freqcap_snapshots_total", "freqcap_snapshot_uploaded_bytes_total", "freqcap_snapshot_segments_total"]
        {
            details[metric] = json!(service.metric(metric)?);
        }
        bench.add(name, measured.outcome.per_second(), Some(measured.memory), details);
        if name == "snapshots-10s" {
            uploaded(bench, &server, name, &service)?;
        }
    }
    Ok(())
}

/// Bytes uploaded for each byte of them that was new: 1 where none is uploaded twice.
fn uploaded(bench: &mut Bench, server: &BucketServer, prefix: &str, service: &Service) -> anyhow::Result<()> {
    let uploaded = service.metric("freqcap_snapshot_uploaded_bytes_total")?;
    let (mut seen, mut bytes, mut distinct) = (HashSet::new(), 0, 0);
    for folder in ["f", "w"] {
        look(&server.objects(prefix).join("p-000").join(folder), &mut |content: &[u8]| {
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            bytes += content.len();
            if seen.insert((content.len(), hasher.finish())) {
                distinct += content.len();
            }
        })?;
    }
    anyhow::ensure!(distinct > 0, "there is no snapshot under {prefix}");
    let details = json!({"uploaded": uploaded, "in_the_bucket": bytes, "distinct": distinct});
    bench.add("snapshots-twice", bytes as f64 / distinct as f64, None, details);
    Ok(())
}

fn look(dir: &Path, each: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            look(&entry.path(), each)?;
        } else {
            each(&std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// The disk of a service that holds many logs is lost.
pub fn restore(bench: &mut Bench) -> anyhow::Result<()> {
    let server = BucketServer::start(&bench.work)?;
    let mut service = start(bench, &server, "restore", &["--snapshot-every", "1h"])?;
    ingest(&service, Stream::EVEN, 0, bench.size.held)?;
    service.stop_within(STOP_MAX)?;
    std::fs::remove_dir_all(service.data_dir())?;
    let (read, counted) = service.answers_again()?;
    let memory = Some(service.child.peak_memory()?);
    let details = json!({"held": bench.size.held});
    bench.add("restore-read", read, memory, details.clone());
    bench.add("restore-event", counted, memory, details);
    Ok(())
}

/// `--durability bucket` beside what the server takes by itself.
pub fn durable(bench: &mut Bench) -> anyhow::Result<()> {
    let server = BucketServer::start(&bench.work)?;
    let times = server.create_ms(OBJECTS)?;
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile) as usize];
    let alone = json!({"objects": OBJECTS, "p50_ms": at(0.5), "p99_ms": at(0.99)});
    bench.add("bucket-server", at(0.5), None, alone.clone());
    bench.add("bucket-server-rate", 1e3 / at(0.5), None, alone);
    let service = start(bench, &server, "durable", &["--durability", "bucket"])?;
    let calls = |connection| Single { events: Stream::EVEN.part(connection) };
    // Nothing is answered before the first snapshot.
    Load::closed(service.addr, 1, Duration::from_secs(30)).requests(1).run(calls)?;
    for (name, rate, connections) in [("bucket-1", "bucket-1-rate", 1), ("bucket-64", "bucket-64-rate", 64)] {
        let calls =
            |connection| Single { events: Stream { seed: connections as u64, ..Stream::EVEN }.part(connection) };
        let load = Load::closed(service.addr, connections, bench.size.time);
        let measured = measure(&service.child, &load, calls)?;
        let details = with(measured.details, "segments", service.metric("freqcap_snapshot_segments_total")?);
        bench.add(name, measured.outcome.ms(0.5), Some(measured.memory), details.clone());
        bench.add(rate, measured.outcome.per_second(), Some(measured.memory), details);
    }
    let calls = |connection| Batches { events: Stream { seed: 9, ..Stream::EVEN }.part(connection), batch: BATCH };
    let measured = measure(&service.child, &batches(&service, bench.size.redis_events), calls)?;
    bench.add("bucket-ingest", measured.outcome.per_second(), Some(measured.memory), measured.details);
    Ok(())
}
