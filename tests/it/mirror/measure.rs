//! Figures, for a person to read: `cargo test --release --test mirror -- --ignored --nocapture measure`.

use super::world::{World, eventually, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, State};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn throughput_and_latency() {
    for layout in [Layout::Zset, Layout::String] {
        let (server, mut world) = (Server::start(), World::new());
        let until = now() + 10_000_000;
        for chunk in 0..100u64 {
            let caps = (0..3_000)
                .map(|i| (format!("u{}", (chunk * 3_000 + i) * 7 % 150_000), format!("da:{chunk}"), Some(until)));
            world.write(&caps.collect::<Vec<_>>());
        }
        let n = world.caps.len();
        let start = Instant::now();
        let mirror = world.mirror(options(&server.url(), layout));
        mirror.is(State::Live).await;
        println!("{layout:?}: full pass of {n} caps in {:?}", start.elapsed());
        let changes: Vec<_> =
            world.caps.keys().map(|(user, key)| (user.clone(), key.clone(), Some(until + 1))).collect();
        let start = Instant::now();
        for chunk in changes.chunks(5_000) {
            world.write(chunk);
        }
        let written = start.elapsed();
        eventually("told", || mirror.handle.snapshot().sets >= 2 * n as u64).await;
        println!("{layout:?}: {n} changes written in {written:?}, told in {:?}", start.elapsed());
        eventually("idle", || mirror.handle.snapshot().pending == 0).await;
        let mut connection = server.connection();
        let mut took = Vec::new();
        for i in 0..300 {
            let user = format!("x{i}");
            world.cap(&user, "da:1", until);
            let start = Instant::now();
            let name = if layout == Layout::Zset { format!("cap:{{{user}}}") } else { format!("cap:{{{user}}}:da:1") };
            while !redis::cmd("EXISTS").arg(&name).query::<bool>(&mut connection).unwrap() {}
            took.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took.sort();
        println!("{layout:?}: visible after {:?} (median), {:?} (p99)", took[150], took[297]);
        mirror.end().await;
    }
}
