//! What a budget comes to: shares that fit, grow with it, and keep what was set.

use super::*;
use crate::config::tests::load_in;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn free(budget: u64) -> Result<[u64; Part::ALL.len()], TooLittle> {
    split(budget, |_| None, |_| 0)
}

fn sum(shares: &[u64]) -> u64 {
    shares.iter().sum()
}

/// Sizes that some of the parts are set to.
fn settings() -> impl Strategy<Value = [Option<u64>; Part::ALL.len()]> {
    prop::array::uniform9(prop::option::weighted(0.3, prop_oneof![0..4 * MIB, 0..GIB, 0..u64::MAX]))
}

fn index(part: Part) -> usize {
    Part::ALL.iter().position(|other| *other == part).unwrap()
}

proptest! {
    #[test]
    fn shares_fit_the_budget_and_what_is_set_is_kept(
        budget in prop_oneof![128 * MIB..2 * GIB, 0..1u64 << 50],
        set in settings(),
        raised in prop_oneof![Just(0), 0..GIB],
    ) {
        let fixed = |part| set[index(part)];
        let least = |part| if part == Part::Bodies { raised } else { 0 };
        match split(budget, fixed, least) {
            Ok(shares) => {
                prop_assert!(sum(&shares) <= budget - own(budget));
                for part in Part::ALL {
                    let share = shares[index(part)];
                    match fixed(part) {
                        Some(bytes) => prop_assert_eq!(share, bytes),
                        None => prop_assert!(share >= part.least().max(least(part))),
                    }
                }
            }
            Err(TooLittle { needed }) => {
                prop_assert!(needed.0 > budget || budget < LEAST_BUDGET.0);
                // And so much is enough.
                if needed.0 < 1 << 60 {
                    prop_assert!(split(needed.0, fixed, least).is_ok(), "{}", needed);
                }
            }
        }
    }

    #[test]
    fn a_larger_budget_takes_nothing_from_anybody(
        budget in 128 * MIB..1u64 << 40,
        more in prop_oneof![0..16 * MIB, 0..1u64 << 40],
        set in settings(),
    ) {
        let fixed = |part| set[index(part)];
        if let Ok(before) = split(budget, fixed, |_| 0) {
            let after = split(budget + more, fixed, |_| 0).unwrap();
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{:?} {:?}", before, after);
        }
    }
}

#[test]
fn a_budget_of_1_gib_has_the_shares_that_everything_was_measured_with() {
    let mib = free(GIB).unwrap().map(|bytes| bytes / MIB);
    assert_eq!(mib, [384, 128, 112, 96, 64, 40, 32, 88, 0]);
    assert_eq!(MemoryPlan::default().shares().iter().map(|share| share.bytes / MIB).collect::<Vec<_>>(), mib);
    assert_eq!(free(GIB).unwrap().map(|bytes| bytes % MIB), [0; Part::ALL.len()]);
    assert_eq!(MemoryPlan::default().write_buffer(), ByteSize::mib(32));
    assert_eq!(load_in(&[], &[], "", None).unwrap().connections(), (4096, 24 << 20));
}

#[test]
fn uploads_of_snapshots_have_their_share_where_there_are_snapshots() {
    let url = ["--snapshots", "file:///snapshots"];
    let of = |more: &[&str]| load_in(&[&url[..], more].concat(), &[], "", None).map(|config| config.plan);
    assert_eq!(load_in(&[], &[], "", None).unwrap().plan.bytes(Part::Snapshots), ByteSize(0));
    assert_eq!(of(&[]).unwrap().bytes(Part::Snapshots), ByteSize::mib(16));
    assert_eq!(of(&["--memory", "256MiB"]).unwrap().bytes(Part::Snapshots), ByteSize::mib(16));
    assert_eq!(of(&["--memory", "128MiB"]).unwrap().bytes(Part::Snapshots), ByteSize(0));
    let plan = of(&["--snapshot-memory", "64MiB"]).unwrap();
    assert_eq!(plan.bytes(Part::Snapshots), ByteSize::mib(64));
    // The others have less for it.
    assert!(plan.bytes(Part::BlockCache) < ByteSize::mib(384));
    assert!(of(&["--snapshot-memory", "4MiB"]).is_err(), "less than one upload takes");
}

#[test]
fn every_budget_from_the_least_on_is_used() {
    for budget in [128 * MIB, 256 * MIB, 512 * MIB, GIB, 8 * GIB, 100 * GIB] {
        let shares = free(budget).unwrap();
        let left = budget - own(budget) - sum(&shares);
        assert!(left < MIB, "{budget}: {left} of it are nobody's");
    }
    // The block cache has what others cannot use.
    assert!(free(100 * GIB).unwrap()[0] > 88 * GIB);
}

#[test]
fn the_settings_make_the_plan() {
    let plan = load_in(&[], &[], "", None).unwrap().plan;
    assert_eq!((plan.budget, &plan.source), (ByteSize(GIB), &BudgetSource::Default));
    assert_eq!(plan, MemoryPlan::default());
    let config =
        load_in(&["--memory", "256MiB", "--overlay-size", "64KiB"], &[("FREQCAP_WRITE_BUFFER", "1MiB")], "", None);
    let config = config.unwrap();
    let share = |part| config.plan.shares().iter().find(|share| share.part == part).unwrap();
    assert_eq!(config.plan.source, BudgetSource::Setting("--memory".to_owned()));
    assert_eq!(
        (share(Part::Overlay).bytes, share(Part::Overlay).set_by.as_deref()),
        (64 << 10, Some("--overlay-size"))
    );
    let buffers = share(Part::WriteBuffers);
    assert_eq!((buffers.bytes, buffers.set_by.as_deref()), (3 * MIB, Some("FREQCAP_WRITE_BUFFER")));
    assert_eq!(share(Part::BlockCache).set_by, None);
    let store = config.store_options();
    assert_eq!((store.overlay_size, store.write_buffer), (ByteSize(64 << 10), ByteSize::mib(1)));
    assert_eq!(store.block_cache.0, share(Part::BlockCache).bytes);
    assert!(config.plan.process_bytes() >= own(256 * MIB));
}

#[test]
fn without_a_setting_the_budget_is_half_of_the_containers_limit_and_1_gib_at_most() {
    let of = |mib: u64| {
        let limit = ContainerLimit { bytes: mib * MIB, file: "/sys/fs/cgroup/memory.max".into() };
        let plan = load_in(&[], &[], "", Some(limit.clone())).unwrap().plan;
        assert_eq!(plan.container, Some(limit));
        (plan.budget.0 / MIB, plan.source)
    };
    assert_eq!(of(600), (300, BudgetSource::Container));
    assert_eq!(of(2048), (1024, BudgetSource::Default));
    assert_eq!(of(64 << 10), (1024, BudgetSource::Default));
    // Less than the least: it starts, and says so.
    assert_eq!(of(200), (128, BudgetSource::Container));
    let limit = Some(ContainerLimit { bytes: 600 * MIB, file: "/x".into() });
    let plan = load_in(&["--memory", "400MiB"], &[], "", limit).unwrap().plan;
    assert_eq!((plan.budget.0 / MIB, plan.source.name()), (400, "--memory"));
    let file = load_in(&[], &[], "memory = '2GiB'", None).unwrap().plan;
    assert_eq!((file.budget.0, file.source.name().contains(": memory")), (2 * GIB, true));
}

#[test]
fn what_does_not_fit_is_refused_by_name_with_what_would_do() {
    let why = |flags: &[&str]| load_in(flags, &[], "", None).unwrap_err();
    assert_eq!(why(&["--memory", "127MiB"]), "--memory: \"127MiB\" is less than 128MiB");
    let sum = why(&["--memory", "512MiB", "--block-cache", "400MiB", "--overlay-size", "100MiB"]);
    assert!(
        sum.starts_with(
            "--memory: a budget of 512MiB is too little with --block-cache 400MiB, --overlay-size 100MiB: "
        )
    );
    let needed = sum.split("take ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(
        load_in(&["--memory", needed, "--block-cache", "400MiB", "--overlay-size", "100MiB"], &[], "", None).is_ok(),
        "{sum}"
    );
    let default = why(&["--block-cache", "2GiB"]);
    assert!(
        default.starts_with("the default of memory: a budget of 1GiB is too little with --block-cache 2GiB: "),
        "{default}"
    );
    let body = why(&["--memory", "128MiB", "--max-body", "64MiB"]);
    assert!(body.contains("with --max-body 64MiB: "), "{body}");
    let many = why(&["--memory", "128MiB", "--max-connections", "100000"]);
    assert!(many.contains("with --max-connections 100000: "), "{many}");
    assert!(why(&["--memory", "1GB"]).starts_with("--memory: \"1GB\" is not an integer followed by KiB, MiB or GiB"));
}

#[test]
fn connections_are_as_many_as_fit_unless_somebody_says_how_many() {
    let of = |flags: &[&str]| load_in(flags, &[], "", None).unwrap().connections();
    let (connections, headers) = of(&["--memory", "128MiB"]);
    assert!((128..1024).contains(&connections) && headers >= 1 << 20, "{connections} {headers}");
    let (connections, headers) = of(&["--max-connections", "20000"]);
    assert!(connections == 20_000 && headers >= 4 << 20, "{headers}");
    assert_eq!(of(&["--max-connections", "3"]).0, 3);
}
