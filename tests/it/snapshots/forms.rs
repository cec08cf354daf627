//! The three forms in random order over one history (an interval, a lag, the bucket): killed at any time, with the disk lost or not,
//! every count that the form promises is there.

use super::world::{Oracle, Stop, World};
use crate::support::{client, now_ms, wait_for};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LAG_MS: u64 = 300;
/// An upload may wait for a processor that others use.
const SLACK_MS: u64 = 1_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Interval,
    Lag,
    Bucket,
}

/// `FREQCAP_SNAPSHOT_FORM_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("FREQCAP_SNAPSHOT_FORM_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap())
}

/// `FREQCAP_SIM_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

impl Form {
    fn flags(self) -> Vec<&'static str> {
        let mut flags = vec!["--takeover", "--overlay-size=192KiB", "--snapshot-every=1s"];
        match self {
            Self::Interval => {}
            Self::Lag => flags.push("--snapshot-lag=300ms"),
            Self::Bucket => flags.extend(["--durability=bucket", "--bucket-wait=60s"]),
        }
        flags
    }
}

fn lose(world: &World, rounds: usize, seed: u64) {
    let mut random = Random(seed);
    let mut oracle = Oracle::default();
    let (mut acknowledged, mut since) = (0, 0);
    let (mut done, mut is_in_place) = ([0; 3], false);
    for round in 0..rounds {
        let form = [Form::Interval, Form::Lag, Form::Bucket][random.below(3) as usize];
        let server = world.start("data", &form.flags());
        println!("seed {seed}, round {round}: {form:?}, since {since}");
        if is_in_place {
            oracle.holds(&server, u64::MAX);
        } else {
            oracle.check(&server, since);
        }
        let before = oracle.acknowledged();
        if form == Form::Lag {
            wait_for("the first snapshot", || {
                (server.get("/status").1["snapshots"]["taken"].as_u64()? > 0).then_some(())
            });
        }
        let pause = Duration::from_millis(match form {
            Form::Interval => random.below(2_500),
            Form::Lag => LAG_MS + SLACK_MS + random.below(800),
            Form::Bucket => random.below(800),
        });
        let (url, stop, shared) = (server.url.clone(), AtomicBool::new(false), Mutex::new(oracle));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                let http = client();
                while !stop.load(Ordering::Relaxed) {
                    if !shared.lock().unwrap().send(&url, &http, 10) {
                        return;
                    }
                }
            });
            wait_for("answers", || (shared.lock().unwrap().acknowledged() > before).then_some(()));
            let begun = Instant::now();
            while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            since = now_ms() - LAG_MS - SLACK_MS;
            server.kill();
        });
        oracle = shared.into_inner().unwrap();
        acknowledged += oracle.acknowledged() - before;
        done[form as usize] += 1;
        since = match form {
            Form::Interval => world.snapshots().first().map_or(0, |newest| newest["time"].as_u64().unwrap()),
            Form::Lag => since,
            Form::Bucket => u64::MAX,
        };
        // Otherwise only the process is lost: the rest is on the disk alone, and the next round may lose that.
        is_in_place = random.below(4) == 0;
        if is_in_place {
            oracle.promise(since);
        } else {
            world.lose_disk("data");
        }
    }
    if is_in_place {
        since = u64::MAX;
    }
    oracle.check(&world.start("data", &Form::Bucket.flags()), since);
    let verified = world.json(&["verify", "--json"]);
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0, "{verified}");
    println!("{rounds} rounds {done:?}, {acknowledged} events acknowledged");
}

fn seed() -> u64 {
    std::env::var("FREQCAP_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11)
}

#[test]
fn whatever_form_is_run_and_lost_every_count_that_it_promises_is_there_in_a_directory() {
    lose(&World::of_directory(), rounds() / 2, seed());
}

#[test]
fn whatever_form_is_run_and_lost_every_count_that_it_promises_is_there_in_s3() {
    lose(&World::of_s3(), rounds().div_ceil(2), seed() + 1);
}
