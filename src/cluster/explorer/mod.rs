//! Explores orders of messages, stops, losses and restarts of the protocol of ownership, with the code that the service uses.
//!
//! What must hold, whatever happens:
//!
//! 1. No slot is granted twice, and none that the log did not grant.
//! 2. No acknowledged event is missing from the log's state.
//! 3. No read misses an event that was acknowledged before the read began, by whichever node.
//! 4. A call that was refused as void has no effect.
//! 5. No snapshot is set back.
//! 6. All nodes come to the same state at the same offset.
//! 7. Once faults end, the partition is served again.
//!
//! `FREQCAP_MODEL_RUNS` sets the number of runs, `FREQCAP_MODEL_SEED` the first seed.

mod group;
mod mutation;
mod node;
mod world;

use mutation::Mutation;
use world::{Seen, World};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_order_of_messages_breaks_what_must_hold() {
    let first = setting("FREQCAP_MODEL_SEED", 1);
    let runs = setting("FREQCAP_MODEL_RUNS", 40);
    let mut all = Seen::default();
    for seed in first..first + runs {
        let seen = World::new(seed, None).run();
        let seen = seen.unwrap_or_else(|broken| panic!("FREQCAP_MODEL_SEED={seed}: {broken}"));
        all.acknowledged += seen.acknowledged;
        all.reads += seen.reads;
        all.claims += seen.claims;
        all.refused += seen.refused;
        all.snapshots += seen.snapshots;
    }
    println!("{runs} runs: {all:?}");
    if runs >= 20 {
        let runs = runs as usize;
        assert!(all.acknowledged > 100 * runs && all.reads > 100 * runs && all.claims > 3 * runs, "{all:?}");
        assert!(all.refused > 0 && all.snapshots > runs, "{all:?}");
    }
}

#[test]
fn every_way_to_break_the_protocol_is_found() {
    let runs = setting("FREQCAP_MODEL_RUNS", 20);
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        let first = mutation.seed();
        let broken = |seed| World::new(seed, Some(mutation)).run().err().map(|broken| (seed, broken));
        match (first..first + runs).find_map(broken) {
            Some((seed, broken)) => println!("{mutation:?}: seed {seed}: {broken}"),
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "not found in {runs} runs each: {missed:?}");
}
