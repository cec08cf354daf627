//! kill -9 under load and the disk lost, with writes shipped between snapshots: what was acknowledged longer ago than the lag is
//! there.

use super::world::{Oracle, Stop, World};
use crate::support::{Server, client, now_ms, wait_for};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LAG_MS: u64 = 500;
/// An upload may wait for a processor that others use.
const SLACK_MS: u64 = 1_500;
const FLAGS: [&str; 6] = ["--snapshot-every", "1h", "--snapshot-lag", "500ms", "--takeover", "--overlay-size=192KiB"];

/// `FREQCAP_SNAPSHOT_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("FREQCAP_SNAPSHOT_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

fn shipping(server: &Server) -> Value {
    server.get("/status").1["snapshots"].clone()
}

/// From here on the promise holds.
fn has_first_snapshot(server: &Server) {
    wait_for("the first snapshot", || (shipping(server)["taken"].as_u64()? > 0).then_some(()));
}

fn lose(world: &World, rounds: usize) {
    let mut oracle = Oracle::default();
    let (mut acknowledged, mut since) = (0, 0);
    for round in 0..rounds {
        let server = world.start("data", &FLAGS);
        oracle.check(&server, since);
        has_first_snapshot(&server);
        let (url, stop, shared) = (server.url.clone(), AtomicBool::new(false), Mutex::new(oracle));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                let http = client();
                while !stop.load(Ordering::Relaxed) {
                    if !shared.lock().unwrap().send(&url, &http, 50) {
                        return;
                    }
                }
            });
            wait_for("answers", || (shared.lock().unwrap().acknowledged() > 200).then_some(()));
            let pause = Duration::from_millis(LAG_MS + SLACK_MS + ((round * 7_919) % 1_500) as u64);
            let begun = std::time::Instant::now();
            while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            since = now_ms() - LAG_MS - SLACK_MS;
            server.kill();
        });
        oracle = shared.into_inner().unwrap();
        acknowledged += oracle.acknowledged();
        world.lose_disk("data");
    }
    let server = world.start("data", &FLAGS);
    oracle.check(&server, since);
    has_first_snapshot(&server);
    let verified = world.json(&["verify", "--json"]);
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0, "{verified}");
    println!("{rounds} rounds, {acknowledged} events acknowledged");
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_no_more_than_the_lag_is_lost_in_a_directory() {
    lose(&World::of_directory(), rounds() / 2);
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_no_more_than_the_lag_is_lost_in_s3() {
    lose(&World::of_s3(), rounds().div_ceil(2));
}

#[test]
fn a_service_goes_on_shipping_after_a_restart_on_its_disk_and_stops_with_everything_in_the_bucket() {
    let world = World::of_directory();
    let mut oracle = Oracle::default();
    let http = client();
    for _ in 0..3 {
        let server = world.start("data", &FLAGS);
        has_first_snapshot(&server);
        (0..20).for_each(|_| assert!(oracle.send(&server.url, &http, 20)));
        server.kill();
    }
    let server = world.start("data", &FLAGS);
    (0..20).for_each(|_| assert!(oracle.send(&server.url, &http, 20)));
    assert!(server.terminate().success());
    world.lose_disk("data");
    oracle.is_exact(&world.start("data", &FLAGS));
}

#[test]
fn a_segment_that_is_missing_stops_the_start_until_it_is_given_up_by_hand() {
    let world = World::of_directory();
    let mut oracle = Oracle::default();
    let http = client();
    let server = world.start("data", &FLAGS);
    has_first_snapshot(&server);
    let segments = || {
        let mut found = Vec::new();
        for chain in std::fs::read_dir(world.objects().join("p-000/s")).into_iter().flatten() {
            let files = std::fs::read_dir(chain.unwrap().path()).unwrap().map(|file| file.unwrap().path());
            found.extend(files.filter(|file| file.extension().is_some_and(|ending| ending == "zst")));
        }
        found.sort();
        found
    };
    wait_for("three segments", || {
        assert!(oracle.send(&server.url, &http, 5));
        (segments().len() >= 3).then_some(())
    });
    server.kill();
    world.lose_disk("data");
    let lost = segments()[1].clone();
    std::fs::remove_file(&lost).unwrap();
    let (code, said) = super::world::refused(world.serve("data", &FLAGS));
    assert_ne!(code, 0);
    assert!(said.contains(lost.file_name().unwrap().to_str().unwrap()) && said.contains("--restore 1"), "{said}");
    let server = world.start("data", &[&FLAGS[..], &["--restore", "1"]].concat());
    // What was counted up to there is there.
    oracle.check(&server, 0);
}
