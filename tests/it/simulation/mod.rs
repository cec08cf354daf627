//! The store under faults, against a naive reading of the contract: thousands of short runs, each from one seed.
//!
//! A run is a few lives of a process on one directory. Its disk fails, loses power in the middle of a call, keeps what was
//! synced and of the rest what chance leaves ([`disk`], shim.c); its clock is wrong at times. What was acknowledged must
//! be there afterwards, and what was not is there as a whole or not at all ([`judge`]).
//!
//! FREQCAP_SIM_RUNS asks for more runs, FREQCAP_SIM_SEED for those from one seed on. Seeds that failed once are kept in
//! regressions.txt.

mod disk;
mod hang;
mod judge;
mod life;
mod mirrored;
mod plan;
mod random;
mod run;

use plan::Plan;
use run::{Failure, Lies, Seen, run, told};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs every seed, on as many threads as there are cores, and says which failed.
fn search(seeds: &[u64], lies: Lies) -> (Seen, Vec<Failure>) {
    let (next, all) = (AtomicU64::new(0), Mutex::new((Seen::default(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let done = run(seed, lies);
                    let mut all = all.lock().unwrap();
                    match done {
                        Ok(seen) => all.0.add(seen),
                        Err(why) => all.1.push(why),
                    }
                }
            });
        }
    });
    all.into_inner().unwrap()
}

fn holds(seeds: &[u64]) {
    let (seen, failed) = search(seeds, Lies::default());
    println!("{} runs: {seen:?}", seeds.len());
    tell(&failed);
}

/// Fails where a run did, with what happened in the first of them.
fn tell(failed: &[Failure]) {
    let Some(Failure { seed, life, why }) = failed.first() else { return };
    let line = |it: &Failure| format!("{}: life {}: {}\n", it.seed, it.life, it.why.lines().next().unwrap_or_default());
    let others: String = failed.iter().map(line).collect();
    panic!(
        "{}\n{why}\n\n{} runs failed. FREQCAP_SIM_SEED={seed} repeats this one. All:\n{others}",
        told(*seed, life + 1),
        failed.len()
    );
}

/// The seeds of this time: those asked for; others every time where more runs are; else always the same, so that what fails
/// after a change is of the change.
fn seeds(runs: u64) -> std::ops::Range<u64> {
    let first = setting("FREQCAP_SIM_SEED");
    let runs = setting("FREQCAP_SIM_RUNS").unwrap_or(if first.is_some() { 1 } else { runs });
    let is_search = setting("FREQCAP_SIM_RUNS").is_some();
    let first = first.unwrap_or_else(|| if is_search { RandomState::new().hash_one("seed") >> 24 } else { 1 });
    first..first + runs
}

#[test]
fn what_was_acknowledged_outlives_every_fault() {
    holds(&seeds(250).collect::<Vec<u64>>());
}

#[test]
fn redis_holds_exactly_the_caps_once_it_answers_again() {
    let with_redis = |seed: &u64| Plan::new(*seed).has_redis;
    let runs = setting("FREQCAP_SIM_RUNS").map_or(8, |runs| runs as usize / 50);
    holds(&(seeds(1).start..).filter(with_redis).take(runs).collect::<Vec<u64>>());
}

/// The seeds that are kept, of runs with damage or without.
fn kept(of_damage: bool) -> Vec<u64> {
    let lines = include_str!("regressions.txt").lines().filter_map(|line| line.split('#').next());
    let of_this_kind = lines.filter_map(|line| match line.trim().strip_prefix("damage ") {
        Some(seed) => of_damage.then(|| seed.to_owned()),
        None => (!of_damage && !line.trim().is_empty()).then(|| line.to_owned()),
    });
    of_this_kind.map(|seed| seed.trim().parse().unwrap()).collect()
}

#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    holds(&kept(false));
}

/// A byte of a file that was synced is another one, or the file is gone: what can no longer be read is refused, and never
/// left out without a word.
#[test]
fn damage_is_refused_or_does_no_harm() {
    let seeds: Vec<u64> = kept(true).into_iter().chain(seeds(30)).collect();
    let (seen, failed) = search(&seeds, Lies { damage: true, ..Lies::default() });
    println!("{seen:?}");
    tell(&failed);
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let seeds: Vec<u64> = (1..60).collect();
    let (_, failed) = search(&seeds, Lies { syncs: true, ..Lies::default() });
    assert!(!failed.is_empty(), "{} runs without any sync, and nobody noticed", seeds.len());
}
