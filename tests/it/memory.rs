//! The memory budget: the process keeps to it under load, `/status` and the metrics say what it is, and what cannot fit is
//! refused at the start.

use crate::support::{Server, Site, now_ms};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LINES: &str = "application/x-ndjson";
const MIB: f64 = 1_048_576.0;

/// The most memory that the process has had, in MiB.
fn peak_mib(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    kib.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// A batch of 2,000 events: each of a user of many and an ad of some, with an id and a campaign.
fn batch(number: u64) -> String {
    let now = now_ms();
    let line = |n: u64| {
        let n = number * 2_000 + n;
        let (user, da) = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44, n % 997);
        format!(
            "{{\"user\":\"user-{user}\",\"da\":\"{da}\",\"ts\":{},\"id\":\"impression-{n}\",\"keys\":[\"campaign:{}\"]}}\n",
            now - n % 3_600_000,
            da % 50
        )
    };
    (0..2_000).map(line).collect()
}

/// Posts a body; the status of the answer.
fn post((http, url): (&Client, &str), path: &str, content_type: &str, body: String) -> u16 {
    let request = http.post(format!("{url}{path}")).header("content-type", content_type).body(body);
    request.send().unwrap().status().as_u16()
}

/// Sends batches, large bodies, reads and idle connections all at once until so many batches are counted.
fn load(server: &Server, batches: u64) {
    let next = AtomicU64::new(0);
    let (next, deadline) = (&next, Instant::now() + Duration::from_secs(240));
    let counted = AtomicU64::new(0);
    let (counted, to) = (&counted, (&server.http, &server.url[..]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= batches {
                        return;
                    }
                    // Refused where there is no room: then it is sent again.
                    let body = batch(number);
                    while post(to, "/events", LINES, body.clone()) != 200 {
                        assert!(Instant::now() < deadline, "batch {number} of {batches} is refused again and again");
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(move || {
            let mut n = 0u64;
            while counted.load(Ordering::Relaxed) < batches {
                n += 1;
                let user = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
                let candidates: Vec<Value> =
                    (0..200).map(|da| json!({"da": da.to_string(), "keys": ["campaign:7"]})).collect();
                let check = json!({"user": format!("user-{user}"), "candidates": candidates});
                post(to, "/check", "application/json", check.to_string());
                to.0.get(format!("{}/users/user-{user}", to.1)).send().unwrap();
            }
        });
        scope.spawn(move || {
            // Nearly as large as a body may be; nothing in it counts.
            let body = format!("{{\"user\":\"\",\"da\":\"1\",\"x\":\"{}\"}}\n", "x".repeat(1_000)).repeat(9_000);
            while counted.load(Ordering::Relaxed) < batches {
                post(to, "/events", LINES, body.clone());
            }
        });
    });
}

/// Opens connections that have asked for something and stay; as many as the service leaves open.
fn idle_connections(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.write_all(b"GET /cap/u/1 HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    open
}

#[test]
fn a_process_with_the_least_budget_works_and_keeps_to_it() {
    let (_site, server) = Server::with(&["--memory", "128MiB", "--limit", "2"]);
    let open = idle_connections(&server, 1_000);
    load(&server, 150);
    drop(open);
    let status = server.ok("/status");
    let peak = peak_mib(&server);
    // The shares are kept; beyond them the code's own pages (25 MiB without optimisation), bodies and turns while they are
    // worked on, and what compaction has in hand weigh more in so small a budget than what is kept back for them.
    assert!(peak < 1.5 * 128.0, "{peak} MiB: {}", status["memory"]);
    let used = |part: &str| status["memory"]["shares"][part]["used_bytes"].as_f64().unwrap();
    assert!(used("overlay") > 0.0 && used("write_buffers") > 0.0 && used("block_cache") > 0.0, "{}", status["memory"]);
    // What was counted is there.
    assert!(server.metric("freqcap_events_total{result=\"counted\"}") >= 300_000.0);
}

/// `FREQCAP_MEASURE_MEMORY=256MiB,1GiB cargo test --test memory -- --ignored --nocapture`
#[test]
#[ignore = "measures; prints the peak for each budget"]
fn peaks() {
    let budgets = std::env::var("FREQCAP_MEASURE_MEMORY").unwrap_or("128MiB,256MiB,1GiB".to_owned());
    let batches = std::env::var("FREQCAP_MEASURE_BATCHES").map_or(500, |text| text.parse().unwrap());
    for budget in budgets.split(',') {
        let (_site, server) = Server::with(&["--memory", budget, "--limit", "2"]);
        let start = peak_mib(&server);
        let open = idle_connections(&server, 1_000);
        let connected = peak_mib(&server);
        load(&server, batches);
        drop(open);
        let memory = &server.ok("/status")["memory"];
        println!(
            "{budget}: {start:.0} at start, {connected:.0} with 1000 connections, {:.0} MiB after",
            peak_mib(&server)
        );
        for (part, share) in memory["shares"].as_object().unwrap() {
            let mib = |name: &str| share[name].as_f64().unwrap_or(f64::NAN) / MIB;
            println!("  {part}: {:.1} of {:.1} MiB", mib("used_bytes"), mib("bytes"));
        }
    }
}

#[test]
fn status_and_metrics_say_what_the_budget_is_and_who_set_what() {
    let (_site, server) = Server::with(&["--memory", "512MiB", "--block-cache", "100MiB"]);
    let memory = &server.ok("/status")["memory"];
    assert_eq!((&memory["budget_bytes"], &memory["set_by"]), (&json!(512 << 20), &json!("--memory")));
    let shares = memory["shares"].as_object().unwrap();
    let cache = &shares["block_cache"];
    assert_eq!((&cache["bytes"], &cache["set_by"]), (&json!(100 << 20), &json!("--block-cache")));
    assert_eq!(shares["bodies"]["set_by"], "budget");
    let sum: u64 = shares.values().map(|share| share["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum + memory["process_bytes"].as_u64().unwrap(), 512 << 20);
    assert!(memory["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(server.metric("freqcap_memory_budget_bytes"), 512.0 * MIB);
    assert_eq!(server.metric("freqcap_memory_share_bytes{part=\"block_cache\"}"), 100.0 * MIB);
    assert!(server.metric("freqcap_memory_share_bytes{part=\"process\"}") > 32.0 * MIB);
    for (part, share) in shares {
        let metric = server.metric(&format!("freqcap_memory_share_bytes{{part=\"{part}\"}}"));
        assert_eq!(metric, share["bytes"].as_f64().unwrap(), "{part}");
    }
}

#[test]
fn what_does_not_fit_is_refused_at_the_start_by_name() {
    for (flags, said) in [
        (&["--memory", "64MiB"][..], &["--memory", "128MiB"][..]),
        (
            &["--memory", "200MiB", "--block-cache", "150MiB", "--max-bodies", "64MiB"],
            &["--block-cache 150MiB", "--max-bodies 64MiB"],
        ),
    ] {
        let output = Site::new(flags).command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(said.iter().all(|part| text.contains(part)), "{text}");
    }
}
