//! Wherever a log is, in the overlay or in a file, it is found, and after a crash at any step it still is.

use super::flush::Step;
use crate::model::{Entry, Kind, Log, ShardId, TsMs};
use crate::store::table::Table;
use crate::store::{ByteSize, LogRow, RowKey, RowKeys, StorageKind, Store, StoreError, StoreOptions, Unbounded};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const USERS: u64 = 40;
const KEYS: u64 = 12;

/// What is held, by row key: how many events.
type Model = BTreeMap<Vec<u8>, usize>;

fn options(dir: &Path, overlay_kib: u64) -> StoreOptions {
    StoreOptions {
        data_dir: dir.to_owned(),
        overlay_size: ByteSize(overlay_kib << 10),
        existence_filter: ByteSize::mib(16),
        ..StoreOptions::default()
    }
}

fn user(number: u64) -> String {
    format!("user-{number}")
}

fn key(number: u64) -> String {
    // Some of them longer than what is compared first.
    if number.is_multiple_of(3) { format!("campaign:{number}") } else { format!("da:{number}") }
}

fn row_key(user_number: u64, key_number: u64) -> Vec<u8> {
    let mut row_key = Vec::new();
    RowKey::write(&mut row_key, &user(user_number), &key(key_number));
    row_key
}

fn log(events: usize) -> Log {
    let mut log = Log::default();
    for n in 0..events as u64 {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(1_732_233_600_000 + n), hash: n + 1 }, 256);
    }
    log
}

fn events_of(row: Option<LogRow>) -> usize {
    row.map_or(0, |row| row.log.sections[0].entries.len())
}

/// Writes a turn: how many events each row has from now on; none removes it.
fn put(store: &Store, model: &mut Model, rows: &BTreeMap<Vec<u8>, usize>) -> Result<(), StoreError> {
    let mut commit = store.begin_commit();
    for (row_key, &events) in rows {
        commit.put_log(row_key, &log(events), false);
        if events == 0 {
            model.remove(row_key);
        } else {
            model.insert(row_key.clone(), events);
        }
    }
    commit.write().map(drop)
}

/// Every way to read says what the model says.
fn check(store: &Store, model: &Model) {
    let mut scanned = Model::new();
    for shard in ShardId::all() {
        let (mut after, mut is_last) = (None, false);
        while !is_last {
            let page = store.logs().scan(shard, after.as_deref(), 3, |row_key, row| {
                assert!(scanned.insert(row_key.to_vec(), events_of(Some(row))).is_none(), "{row_key:?} came twice");
            });
            (after, is_last) = page.unwrap();
        }
    }
    assert_eq!(&scanned, model);
    for number in 0..USERS {
        let mut keys = RowKeys::default();
        (0..KEYS).for_each(|n| keys.push(&user(number), &key(n)));
        let expected: Vec<usize> = keys.iter().map(|key| model.get(key).copied().unwrap_or(0)).collect();
        for rows in [store.logs().get_many(keys.iter()).unwrap(), store.logs().at_once(&keys, &mut Unbounded).unwrap()]
        {
            assert_eq!(rows.into_iter().map(events_of).collect::<Vec<_>>(), expected);
        }
        for n in 0..KEYS {
            let mut one = RowKeys::default();
            one.push(&user(number), &key(n));
            assert_eq!(events_of(store.logs().at_once(&one, &mut Unbounded).unwrap().remove(0)), expected[n as usize]);
        }
        let mut paged = Model::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.logs().of_user_after(&user(number), after.as_deref(), 5, 1_000, &mut Unbounded).unwrap();
            for (key, row) in page.logs {
                let mut row_key = Vec::new();
                RowKey::write(&mut row_key, &user(number), &key);
                paged.insert(row_key, events_of(Some(row)));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let of_user = |row_key: &Vec<u8>| RowKey::user_of(row_key) == Some(&user(number));
        let expected: Model = model.iter().filter(|(key, _)| of_user(key)).map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(paged, expected);
        let mut at_once = Model::new();
        let mut keys = Vec::new();
        let each = |key: &str, log| {
            let mut row_key = Vec::new();
            RowKey::write(&mut row_key, &user(number), key);
            at_once.insert(row_key, events_of(Some(LogRow { log, may_cap: false })));
            keys.push(key.to_owned());
            true
        };
        store.logs().of_user(&user(number), each).unwrap();
        assert_eq!(at_once, expected);
        assert!(keys.is_sorted(), "{keys:?}");
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Copies a directory as it is: where RocksDB removes a file meanwhile that it no longer needs, once more.
fn take(from: &Path, to: &Path) {
    for _ in 0..100 {
        match copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::remove_dir_all(to).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the directory does not come to rest");
}

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<(u64, u64, usize)>),
    Flush,
    /// What RocksDB has is found out, as by the flusher.
    Look,
    /// Closed and opened again.
    Restart,
    /// Opened again without having been closed.
    Crash,
}

fn turns() -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    prop::collection::vec((0..USERS, 0..KEYS, prop_oneof![Just(0), 1..4usize, 200..256usize]), 1..30)
}

fn run(options: &StoreOptions, ops: &[Op]) {
    let (mut store, mut model) = (Store::open(options).unwrap(), Model::new());
    for op in ops {
        match op {
            Op::Put(rows) => {
                let rows = rows.iter().map(|&(user, key, events)| (row_key(user, key), events)).collect();
                put(&store, &mut model, &rows).unwrap();
            }
            Op::Flush => store.flusher().flush_all().unwrap(),
            Op::Look => ShardId::all().for_each(|shard| store.flusher().build_filter(shard).unwrap()),
            Op::Restart | Op::Crash if options.storage == StorageKind::Memory => {}
            Op::Restart | Op::Crash => {
                if matches!(op, Op::Restart) {
                    store.close().unwrap();
                }
                drop(store);
                store = Store::open(options).unwrap();
            }
        }
    }
    check(&store, &model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn logs_are_a_map_wherever_they_are(
        ops in prop::collection::vec(
            prop_oneof![6 => turns().prop_map(Op::Put), 1 => Just(Op::Flush), 1 => Just(Op::Look), 1 => Just(Op::Restart), 1 => Just(Op::Crash)],
            1..30,
        ),
        in_memory: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let storage = if in_memory { StorageKind::Memory } else { StorageKind::Rocksdb };
        run(&StoreOptions { storage, ..options(dir.path(), 64) }, &ops);
    }
}

/// What kill -9 leaves of the directory, taken after each step of writing and flushing.
#[test]
fn after_a_crash_at_any_step_every_turn_is_whole() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path(), 16)).unwrap();
    // Nothing but the steps may change the directory while it is copied.
    for table in ["logs", "journal"] {
        let cf = store.db.rocks.cf_handle(table).unwrap();
        store.db.rocks.set_options_cf(cf, &[("disable_auto_compactions", "true")]).unwrap();
    }
    // The model before the turn that is being written, and after it.
    let models = Arc::new(Mutex::new((Model::new(), Model::new())));
    let taken: Arc<Mutex<Vec<(Step, Model)>>> = Arc::default();
    let look = {
        let (models, taken, from, to) =
            (models.clone(), taken.clone(), dir.path().to_owned(), copies.path().to_owned());
        move |step| {
            let models = models.lock().unwrap();
            let model = if step == Step::Journalled { models.1.clone() } else { models.0.clone() };
            let mut taken = taken.lock().unwrap();
            take(&from, &to.join(taken.len().to_string()));
            taken.push((step, model));
        }
    };
    assert!(store.flusher.at_step.set(Box::new(look)).is_ok());
    let mut model = Model::new();
    for turn in 0..60u64 {
        let rows = (0..40).map(|n| {
            let n = turn * 7_919 + n * 104_729;
            (row_key(n / 3 % USERS, n % KEYS), if n % 11 == 0 { 0 } else { 1 + (n % 5) as usize })
        });
        let rows: Model = rows.collect();
        let mut after = model.clone();
        for (key, &events) in &rows {
            after.remove(key);
            if events > 0 {
                after.insert(key.clone(), events);
            }
        }
        models.lock().unwrap().1 = after;
        put(&store, &mut model, &rows).unwrap();
        models.lock().unwrap().0 = model.clone();
    }
    let taken = std::mem::take(&mut *taken.lock().unwrap());
    for step in [Step::Frozen, Step::Synced, Step::Written, Step::Ingested, Step::Trimmed, Step::Thawed] {
        let times = taken.iter().filter(|(at, _)| *at == step).count();
        assert!(times > 2, "{step:?} came {times} times: too seldom to test anything");
    }
    for (number, (step, mut model)) in taken.into_iter().enumerate() {
        // Each turn leaves the same kind of directory: some of them are enough.
        if step == Step::Journalled && number % 5 > 0 {
            continue;
        }
        let options = options(&copies.path().join(number.to_string()), 16);
        let store = Store::open(&options).unwrap_or_else(|error| panic!("after {step:?}: {error}"));
        check(&store, &model);
        // And it goes on from there.
        put(&store, &mut model, &Model::from([(row_key(1, 1), 0), (row_key(2, 2), 9)])).unwrap();
        store.flusher().flush_all().unwrap();
        drop(store);
        check(&Store::open(&options).unwrap(), &model);
    }
}

/// Every turn of the writer gives all keys of its user as many events; whoever reads several sees no turn half.
#[test]
fn who_reads_several_logs_of_a_user_sees_whole_turns_while_files_are_written() {
    const READ: [u64; 3] = [1, 2, 3];
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| store.flusher().run());
        let mut readers = Vec::new();
        for reader in 0..2 {
            let (store, done, reads) = (&store, &done, &reads);
            readers.push(scope.spawn(move || {
                let mut last = [0; USERS as usize];
                while !done.load(Ordering::Relaxed) {
                    for number in 0..USERS {
                        let mut keys = RowKeys::default();
                        // With more keys they are looked for in another way.
                        let more = if reader == 0 { 0 } else { 9 };
                        READ.into_iter().chain(100..100 + more).for_each(|n| keys.push(&user(number), &key(n)));
                        let rows = store.logs().at_once(&keys, &mut Unbounded).unwrap();
                        let counts: Vec<usize> = rows.into_iter().take(3).map(events_of).collect();
                        assert!(counts.iter().all(|&count| count == counts[0]), "a turn was seen half: {counts:?}");
                        assert!(counts[0] >= last[number as usize], "it went back");
                        last[number as usize] = counts[0];
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        for events in 1..=200 {
            for number in 0..USERS {
                let rows = READ.into_iter().map(|n| (row_key(number, n), events)).collect();
                put(&store, &mut Model::new(), &rows).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        store.flusher().end();
        flusher.join().unwrap();
    });
    let (freezes, reads) = (store.overlay_figures().freezes, reads.load(Ordering::Relaxed));
    assert!(freezes > 10 && reads > 1_000, "{freezes} freezes, {reads} reads: nothing was put to the test");
}

/// While logs go in and files are written, a directory that held others already is looked through.
#[test]
fn what_was_held_before_is_found_while_it_is_looked_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let rows_of =
        |turn: u64| (0..40).map(|n| (row_key((turn + n) % USERS, turn % KEYS), 1 + (turn % 7) as usize)).collect();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    (0..60).for_each(|turn| put(&store, &mut model, &rows_of(turn)).unwrap());
    store.close().unwrap();
    drop(store);
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| store.flusher().run());
        for turn in 60..1_500 {
            put(&store, &mut model, &rows_of(turn)).unwrap();
            let asked = row_key(turn % USERS, (turn + 5) % KEYS);
            let found = store.logs().get_many([&*asked]).unwrap().remove(0);
            assert_eq!(events_of(found), model.get(&asked).copied().unwrap_or(0));
        }
        store.flusher().end();
        flusher.join().unwrap();
    });
    assert!(store.overlay.shards_without_filter().is_empty(), "it was not looked through to the end");
    check(&store, &model);
}

/// A write fails while another writer waits for its end to freeze: both come back.
#[test]
fn a_turn_that_fails_while_another_freezes_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    let mut model = Model::new();
    while !store.overlay.is_full() {
        let n = model.len() as u64;
        put(&store, &mut model, &Model::from([(row_key(n % USERS, n / USERS), 250)])).unwrap();
    }
    let entered = store.overlay.enter();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| put(&store, &mut Model::new(), &Model::from([(row_key(1, 1), 1)])));
        // Until it waits for the gate, as far as that can be seen from here: nobody else gets in.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while store.overlay.gate.try_read().is_ok() {
            assert!(std::time::Instant::now() < deadline, "it never came to freeze");
            std::thread::yield_now();
        }
        store.poison();
        drop(entered);
        assert_eq!(other.join().unwrap(), Err(StoreError::Poisoned));
    });
    check(&store, &model);
}

/// What is known is forgotten where it would take too much, and found out anew.
#[test]
fn filters_take_no_more_memory_than_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    let mut model = Model::new();
    for round in 0..60u64 {
        // One user's shard alone, with more keys than its filter may have.
        let rows = (0..1_000).map(|n| (row_key(1, round * 1_000 + n), 1)).collect();
        put(&store, &mut model, &rows).unwrap();
        assert!(store.overlay.figures().filter_bytes <= 64 << 10);
    }
    let shard = ShardId::of_user(user(1).as_bytes());
    assert_eq!(store.overlay.shards_without_filter(), [shard]);
    store.flusher().build_filter(shard).unwrap();
    assert!(store.overlay.shards_without_filter().is_empty() && store.overlay.figures().filter_bytes == 0);
    let keys: Vec<Vec<u8>> = (0..60_000).step_by(777).map(|n| row_key(1, n)).collect();
    let found = store.logs().get_many(keys.iter().map(|key| &key[..])).unwrap();
    assert!(found.into_iter().all(|row| events_of(row) == 1));
}

/// A row that changes again and again takes no more room in the overlay, but in the journal it does.
#[test]
fn the_journal_is_bounded_however_few_logs_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    let mut model = Model::new();
    for _ in 0..200 {
        put(&store, &mut model, &Model::from([(row_key(1, 1), 200)])).unwrap();
        let journal = store.db.rocks.iterator_cf(store.db.cf(Table::Journal), rocksdb::IteratorMode::Start);
        let bytes: usize = journal.map(|row| row.unwrap().1.len()).sum();
        assert!(bytes <= 70 << 10, "{bytes} bytes");
    }
    assert!(store.overlay_figures().freezes > 2);
}

#[test]
fn where_no_file_can_be_written_nothing_is_written_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), 64)).unwrap();
    std::fs::remove_dir_all(dir.path().join("overlay")).unwrap();
    let mut model = Model::new();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| store.flusher().run());
        let mut refused = 0;
        for n in 0..2_000u64 {
            let rows = Model::from([(row_key(n % USERS, n % KEYS), 200)]);
            let mut after = model.clone();
            match put(&store, &mut after, &rows) {
                Ok(()) => model = after,
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0 && store.is_poisoned());
        flusher.join().unwrap();
    });
    check(&store, &model);
    assert_eq!(store.close(), Err(StoreError::Poisoned));
    drop(store);
    // Nothing was lost, for the journal has it.
    check(&Store::open(&options(dir.path(), 64)).unwrap(), &model);
}

/// As many rows as are put in order in several steps, some of them in files, some frozen, some active.
#[test]
fn a_pass_over_a_user_sees_one_instant_whatever_is_written_and_flushed_meanwhile() {
    const ADS: u64 = 12_000;
    for flushes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&options(dir.path(), 64 << 10)).unwrap();
        let mut model = Model::new();
        let rows = |ads: &[u64], events: usize| {
            let level = |ad: u64| ["da", "campaign", "zone"][(ad % 3) as usize];
            let row_key = |ad: &u64| {
                let mut row_key = Vec::new();
                RowKey::write(&mut row_key, "u", &format!("{}:{:05}", level(*ad), ad * 7_919 % 100_000));
                row_key
            };
            ads.iter().map(|ad| (row_key(ad), events)).collect::<BTreeMap<_, _>>()
        };
        let all: Vec<u64> = (0..ADS).collect();
        put(&store, &mut model, &rows(&all[..4_000], 1)).unwrap();
        store.flusher().flush_all().unwrap();
        put(&store, &mut model, &rows(&all[2_000..8_000], 2)).unwrap();
        store.overlay.freeze(|_| true);
        put(&store, &mut model, &rows(&all[6_000..], 3)).unwrap();
        put(&store, &mut model, &rows(&all[..100], 0)).unwrap();
        let (then, mut seen, mut keys) = (model.clone(), Model::new(), Vec::new());
        let each = |key: &str, log| {
            // Grown, removed, and new, before and behind where the pass is.
            if keys.len() % 3_000 == 0 {
                let n = keys.len() as u64;
                put(&store, &mut model, &rows(&all[..2_000], 9)).unwrap();
                put(&store, &mut model, &rows(&all[2_000..4_000], 0)).unwrap();
                put(&store, &mut model, &rows(&(ADS + n..ADS + n + 500).collect::<Vec<_>>(), 1)).unwrap();
                if flushes {
                    store.flusher().flush_beside_writers().unwrap();
                }
            }
            let mut row_key = Vec::new();
            RowKey::write(&mut row_key, "u", key);
            seen.insert(row_key, events_of(Some(LogRow { log, may_cap: false })));
            keys.push(key.to_owned());
            true
        };
        store.logs().of_user("u", each).unwrap();
        assert_eq!(keys.len(), then.len());
        assert!(keys.is_sorted());
        assert!(seen == then, "flushes: {flushes}");
    }
}
