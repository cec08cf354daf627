//! kill -9 under load, the disk lost, restored: round after round.

use super::world::{Oracle, Stop, World};
use crate::support::{client, wait_for};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `FREQCAP_SNAPSHOT_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("FREQCAP_SNAPSHOT_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap())
}

/// Kills at another moment each round, between a first answer and some snapshots.
fn lose(world: &World, rounds: usize) {
    let mut oracle = Oracle::default();
    let (mut acknowledged, mut with_snapshot) = (0, 0);
    // When the snapshot that is restored was begun.
    let mut since = 0;
    for round in 0..rounds {
        // An overlay so small that files are written all the while.
        let server = world.start("data", &["--snapshot-every", "1s", "--takeover", "--overlay-size", "192KiB"]);
        oracle.check(&server, since);
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
            // From before the first snapshot of the round until within the third.
            let pause = Duration::from_millis(((round * 7_919) % 2_900) as u64);
            let begun = std::time::Instant::now();
            while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            server.kill();
        });
        oracle = shared.into_inner().unwrap();
        acknowledged += oracle.acknowledged();
        let newest = world.snapshots().first().map_or(0, |newest| newest["time"].as_u64().unwrap());
        with_snapshot += usize::from(newest > since);
        since = newest;
        world.lose_disk("data");
    }
    let server = world.start("data", &["--takeover"]);
    oracle.check(&server, since);
    let verified = world.json(&["verify", "--json"]);
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0, "{verified}");
    assert!(with_snapshot * 3 > rounds, "only {with_snapshot} of {rounds} rounds had a snapshot");
    println!("{rounds} rounds, {acknowledged} events acknowledged, {with_snapshot} rounds with a new snapshot");
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_every_count_of_the_snapshot_is_there_in_a_directory() {
    lose(&World::of_directory(), rounds() / 2);
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_every_count_of_the_snapshot_is_there_in_s3() {
    lose(&World::of_s3(), rounds().div_ceil(2));
}
