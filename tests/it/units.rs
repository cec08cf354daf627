//! Units: several in one process, each with shards, a store and threads of its own, started and stopped while others go on.

use crate::support::now_ms;
use freqcap::clock::Clock;
use freqcap::engine::Policy;
use freqcap::model::*;
use freqcap::shard::{self, Counted, Refusal, Resources, Source, Unit, UnitOptions};
use freqcap::store::StoreOptions;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const DAY: u64 = 86_400_000;
const LIMIT: usize = 3;
const USERS: usize = 400;

/// What a unit of these shards is made of. `name` is at the end of the names of its threads.
fn options(dir: &Path, name: &str, shards: ShardSet) -> UnitOptions {
    let rule = Rule {
        id: RuleId::new("r").unwrap(),
        key: KeyPattern::new("da:*").unwrap(),
        kind: Kind::IMPRESSION,
        limit: Some(LIMIT as u64),
        window: Window::Rolling("5d".parse().unwrap()),
        mode: Mode::Enforce,
    };
    UnitOptions {
        store: StoreOptions {
            data_dir: dir.join(name),
            shards,
            unit: Some(name.to_owned()),
            keep_changes: true,
            ..StoreOptions::default()
        },
        shards: shard::Options {
            writers: 2,
            mailbox_events: 10_000,
            mailbox_bytes: 64 << 20,
            min_free_disk: 0,
            max_offline: Duration::from_secs(7 * 86_400),
            accept_clock: false,
            erase_within: Duration::from_secs(86_400),
            opted_out: Default::default(),
        },
        policy: Policy::new(RuleSet::new([]), 256, 7 * DAY, 400 * DAY, 60_000),
        rules: vec![(rule, Source::File)],
    }
}

fn resources(dir: &Path) -> Resources {
    let options = options(dir, "any", ShardSet::ALL);
    Resources::new(&options.store, &options.shards)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// The users of some shards.
fn users_of(shards: ShardSet) -> Vec<String> {
    (0..USERS).map(user).filter(|user| shards.contains(ShardId::of_user(user.as_bytes()))).collect()
}

/// Counts an event of each user at once.
fn count(runtime: &Runtime, unit: &Unit, users: &[String]) -> Counted {
    let router = unit.shards().router();
    let mut events = router.builder();
    for (index, user) in users.iter().enumerate() {
        let event = Event {
            user: UserId::new(user.as_str()).unwrap(),
            da: DaId::new("a").unwrap(),
            ts: Some(TsMs(now_ms())),
            id: None,
            kind: Kind::IMPRESSION,
            keys: [].into_iter().collect(),
        };
        events.push(index, &event).unwrap();
    }
    runtime.block_on(router.count(events))
}

/// The threads of a unit that run now.
fn threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|thread| thread.ends_with(name)).collect()
}

fn capped(unit: &Unit) -> usize {
    unit.store().caps().after(None, 2 * USERS).unwrap().caps.len()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn two_units_with_complementary_shards_count_each_their_own_users() {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let shared = resources(dir.path());
    let even = ShardSet::of_partition(0, 2);
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let start = |name: &str, shards| Unit::start(&options(dir.path(), name, shards), &shared, Clock::system()).unwrap();
    let (left, right) =
        metrics::with_local_recorder(&recorder, || (start("left", even), start("right", even.complement())));

    for round in 1..=LIMIT {
        for (unit, shards) in [(&left, even), (&right, even.complement())] {
            let users = users_of(shards);
            let counted = count(&runtime, unit, &users);
            assert_eq!((counted.counted, counted.unavailable), (users.len(), 0), "round {round}");
            assert_eq!(counted.capped.len(), if round == LIMIT { users.len() } else { 0 });
        }
    }
    assert_eq!(capped(&left) + capped(&right), USERS);
    assert_eq!(capped(&left), users_of(even).len());
    for name in ["left", "right"] {
        assert_eq!(threads(&format!("-{name}")).len(), 6, "{:?}", threads(name));
        let gauge = format!("freqcap_erasures_pending_shards{{unit=\"{name}\"}}");
        assert!(metrics.render().contains(&format!("freqcap_free_disk_bytes{{unit=\"{name}\"}}")), "{gauge}");
    }
    // Nobody else's user is taken, and those beside it are.
    let mixed = [users_of(even)[0].clone(), users_of(even.complement())[0].clone()];
    let counted = count(&runtime, &left, &mixed);
    assert_eq!((counted.counted, counted.unavailable, counted.refusal), (1, 1, Some(Refusal::OtherUnit)));
    let view = left.shards().rulebook().get("r").unwrap();
    assert_eq!(view.total, even.len());
    left.stop().unwrap();
    right.stop().unwrap();
}

#[test]
fn a_unit_starts_and_stops_five_times_while_another_goes_on() {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let shared = resources(dir.path());
    let (here, there) = (ShardSet::of_partition(1, 4), ShardSet::of_partition(3, 4));
    let stays = Unit::start(&options(dir.path(), "stays", here), &shared, Clock::system()).unwrap();
    let (mine, theirs) = (users_of(here), users_of(there));
    let descriptors = || {
        std::fs::read_dir("/proc/self/fd").unwrap().filter(|fd| {
            let target = fd.as_ref().ok().and_then(|fd| std::fs::read_link(fd.path()).ok());
            target.is_some_and(|target| target.starts_with(dir.path().join("comes")))
        })
    };
    for round in 1..=5 {
        let comes = Unit::start(&options(dir.path(), "comes", there), &shared, Clock::system()).unwrap();
        assert!(Unit::start(&options(dir.path(), "comes", there), &shared, Clock::system()).is_err(), "it is locked");
        assert_eq!(count(&runtime, &comes, &theirs).counted, theirs.len());
        assert_eq!(capped(&comes), if round >= LIMIT { theirs.len() } else { 0 });
        assert_eq!(count(&runtime, &stays, &mine).counted, mine.len());
        let start = Instant::now();
        comes.stop().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(threads("-comes"), [] as [String; 0]);
        assert_eq!(descriptors().count(), 0);
    }
    assert_eq!(capped(&stays), mine.len());
    stays.stop().unwrap();
}
