//! How fast a topic is read; run by hand: cargo test --release --workspace --test kafka -- --ignored --nocapture

use crate::kafka::world::{TOPIC, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::now_ms;
use std::time::{Duration, Instant};

#[test]
#[ignore = "a measurement, not a test"]
fn rate() {
    let records: usize = std::env::var("FREQCAP_RECORDS").map_or(2_000_000, |records| records.parse().unwrap());
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 4);
    let now = now_ms();
    let start = Instant::now();
    produce(
        &broker,
        TOPIC,
        (0..records).map(|n| {
            let spread = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let (user, ad, ts) = (spread % 1_000_000, spread / 1_000_000 % 1_000, now - 600_000 + n as u64 / 10);
            record(
                format!("u{user:07}"),
                format!(r#"{{"user":"u{user:07}","da":"ad{ad:04}","ts":{ts},"id":"imp-{n:012}","keys":[]}}"#),
            )
        }),
    );
    println!("{records} records sent in {:.1} s", start.elapsed().as_secs_f64());
    let site = site(&broker, &[]);
    for what in ["the whole topic", "a restart"] {
        let server = site.start();
        let start = Instant::now();
        while server.get("/readyz?kafka").0 != 200 {
            std::thread::park_timeout(Duration::from_millis(20));
            assert!(start.elapsed() < Duration::from_secs(600));
        }
        let taken = start.elapsed().as_secs_f64();
        let of = |name: &str| server.metric(name);
        let (read, skipped) = (of("freqcap_kafka_records_total"), of("freqcap_kafka_skipped_total"));
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!("{what}: {read} records, {skipped} skipped, {taken:.2} s, {:.0}/s, {memory}", read / taken);
        // As a crash would: what was stored a second ago is where it goes on.
        server.kill();
    }
}
