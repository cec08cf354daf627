//! The pure core against a naive reading of the contract, on random streams: they must agree to the millisecond.
//!
//! [`stream`] makes up settings, rules and calls that meet on the edges of windows; [`world`] runs them through the
//! engine and through [`oracle`], which keeps lists and recounts them for every answer; [`examples`] pins a few
//! sentences of the contract by hand. FREQCAP_PROPTEST_CASES asks for more streams than the thousand of every run.

pub mod calendar;
mod caps;
mod examples;
pub mod oracle;
mod stream;
mod tell;
mod world;

use freqcap::model::{CalendarUnit, TsMs, Window, Zone};
use jiff::Timestamp;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::hash::{BuildHasher, RandomState};
use stream::{Scenario, Shape, scenarios};
use tell::{Story, counted_from};
use world::World;

/// Where clocks changed at or about midnight, by two hours or by half an hour, once and for all, or a day was skipped.
const ODD_ZONES: &[&str] = &[
    "Africa/Cairo",
    "America/Asuncion",
    "America/Havana",
    "America/Metlakatla",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
];

#[test]
fn every_answer_is_what_a_recount_of_the_stream_gives() {
    holds(Shape::Free);
}

#[test]
fn caps_and_timers_hold_exactly_what_is_capped_however_late_they_fire() {
    holds(Shape::Steady);
}

#[test]
fn reservations_count_until_they_are_confirmed_released_or_lapse_and_erasure_forgets() {
    holds(Shape::Busy);
}

#[test]
fn a_calendar_period_is_the_run_of_instants_with_one_local_date_week_or_month() {
    let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let zones = prop_oneof![select(all), select(ODD_ZONES).prop_map(str::to_owned)];
    let years = 100_000_000_000..2_500_000_000_000i64;
    // Two thirds of the instants lie within a day of a change of the clocks, where there is one.
    let distance = prop_oneof![Just(0), -90..90i64, -24 * 60..24 * 60i64].prop_map(|minutes| minutes * 60_000);
    let moments = (zones, years, option::weighted(0.67, distance), -1..2i64).prop_map(|(zone, t, distance, jitter)| {
        let zone = Zone::new(&zone).unwrap();
        let change = zone.tz().following(Timestamp::from_millisecond(t).unwrap()).next();
        let t = match (change, distance) {
            (Some(change), Some(distance)) => change.timestamp().as_millisecond() + distance + jitter,
            _ => t,
        };
        (zone, TsMs(t as u64))
    });
    let agree = |(zone, t): &(Zone, TsMs)| {
        for unit in [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month] {
            let Window::Calendar(window) = Window::calendar(unit, zone.clone()) else { unreachable!() };
            let period = window.period(*t);
            prop_assert_eq!((period.start, period.end), calendar::period(unit, zone, *t), "{:?} around {}", unit, t);
        }
        Ok(())
    };
    // Instants cost little, and the odd ones are few.
    search(cases().saturating_mul(20), &moments, agree, |moment| format!("{moment:?}"));
}

fn holds(shape: Shape) {
    let agree = |scenario: &Scenario| {
        let (checked, _) = World::run(scenario, Story::default());
        checked.map_err(|why| TestCaseError::fail(counted_from(scenario.start, &why)))
    };
    let tell = |scenario: &Scenario| World::run(scenario, Story::aloud()).1.told(scenario.start);
    search(cases(), &scenarios(shape), agree, tell);
}

/// How many streams each property tries.
fn cases() -> u32 {
    std::env::var("FREQCAP_PROPTEST_CASES").map_or(1_000, |cases| cases.parse().unwrap())
}

/// Runs a property; of what fails it tells the smallest case in the words of `tell`.
fn search<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(&S::Value) -> Result<(), TestCaseError>,
    tell: impl Fn(&S::Value) -> String,
) {
    let seed = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(cases),
    };
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    match TestRunner::new(config).run(strategy, |value| test(&value)) {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => {
            panic!("{why}\nThe smallest such case (PROPTEST_RNG_SEED={seed} repeats it):\n{}\n", tell(&value))
        }
        Err(why) => panic!("{why}"),
    }
}
