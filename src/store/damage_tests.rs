//! A directory that has lost what was acknowledged is refused, and one that has not is opened, whatever its last write
//! looks like.

use super::overlay::flush::Step;
use super::position::{Known, Position};
use super::table::Table;
use super::*;
use crate::model::{CapKey, Entry, Kind, Log, TsMs, UserId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const WRITES: u64 = 60;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { data_dir: dir.to_owned(), keep_changes: true, ..StoreOptions::default() }
}

fn row_key(user: u64) -> RowKey {
    RowKey::new(&UserId::new(format!("user-{user}")).unwrap(), &CapKey::new("da:1").unwrap())
}

fn put(store: &Store, user: u64) {
    let mut log = Log::default();
    for n in 0..40 {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(1_732_233_600_000 + n), hash: n + 1 }, 256);
    }
    let mut commit = store.begin_commit();
    commit.put_log(row_key(user).as_bytes(), &log, false);
    commit.write().unwrap();
}

fn has(store: &Store, user: u64) -> bool {
    store.logs().get_many([row_key(user).as_bytes()]).unwrap().remove(0).is_some()
}

/// What a kill -9 leaves of a directory on which nothing is being written.
fn killed(dir: &Path) -> tempfile::TempDir {
    let files = || -> BTreeMap<PathBuf, u64> {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files.filter_map(|path| Some((path.clone(), path.metadata().ok()?.len()))).collect()
    };
    // A process that is killed leaves what was there at one instant, and RocksDB compacts while files are copied.
    loop {
        let (before, copy) = (files(), tempfile::tempdir().unwrap());
        let copied = before.keys().all(|path| std::fs::copy(path, copy.path().join(whole::name(path))).is_ok());
        if copied && files() == before {
            return copy;
        }
    }
}

/// Everything in a directory but what says who has it open.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| !whole::name(path).starts_with("LOG") && !path.ends_with("freqcap.lock");
    files
        .filter(|path| path.is_file() && ours(path))
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect()
}

fn logs_in(dir: &Path) -> Vec<PathBuf> {
    wal::scan(dir).unwrap().into_iter().map(|file| file.path).collect()
}

fn refused(dir: &Path, why: &str) -> String {
    let before = bytes_of(dir);
    let error = match Store::open(&options(dir)) {
        Err(error) => error,
        Ok(_) => panic!("it was opened: {why}"),
    };
    assert!(matches!(error, OpenError::Damaged { .. }), "{why}: {error}");
    let text = error.to_string();
    let data_dir = format!("--data-dir {}", dir.display());
    for part in [format!("freqcap verify {data_dir}"), format!("freqcap repair {data_dir}")] {
        assert!(text.contains(&part), "{text}");
    }
    assert!(bytes_of(dir) == before, "{why}: something was changed");
    text
}

/// A directory with [`WRITES`] synced writes in its log, killed.
fn world(last_is_synced: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    for user in 0..WRITES {
        put(&store, user);
        if last_is_synced || user + 1 < WRITES {
            store.sync().unwrap();
        }
    }
    killed(dir.path())
}

#[test]
fn a_byte_that_flipped_anywhere_in_the_log_is_found() {
    let world = world(true);
    let bytes = std::fs::read(&logs_in(world.path())[0]).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let copy = killed(world.path());
        let path = logs_in(copy.path()).remove(0);
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        let text = refused(copy.path(), &format!("byte {at}"));
        assert!(text.contains(&whole::name(&path)) && text.contains("sequence"), "{text}");
    }
}

#[test]
fn a_torn_tail_starts_and_a_log_that_lost_more_than_its_last_write_does_not() {
    let world = world(true);
    let len = std::fs::metadata(&logs_in(world.path())[0]).unwrap().len();
    let file = wal::scan(world.path()).unwrap().remove(0);
    let write = (file.bytes - 200) / (WRITES + 3);
    let cut = |bytes: u64| {
        let copy = killed(world.path());
        let log = std::fs::OpenOptions::new().write(true).open(&logs_in(copy.path())[0]).unwrap();
        log.set_len(len - bytes).unwrap();
        copy
    };
    for bytes in [1, 7, write / 2] {
        let copy = cut(bytes);
        let store = Store::open(&options(copy.path())).unwrap();
        assert!((0..WRITES - 1).all(|user| has(&store, user)) && !has(&store, WRITES - 1), "{bytes} bytes");
        put(&store, WRITES);
        store.sync().unwrap();
        drop(store);
        assert!(has(&Store::open(&options(copy.path())).unwrap(), WRITES));
    }
    for bytes in [2 * write, len / 2, len - 1, len] {
        refused(cut(bytes).path(), &format!("{bytes} bytes of {len} are missing"));
    }
}

#[test]
fn whatever_a_write_that_was_not_synced_left_is_gone_past() {
    let world = world(false);
    let len = std::fs::metadata(&logs_in(world.path())[0]).unwrap().len() as usize;
    let file = wal::scan(world.path()).unwrap().remove(0);
    let write = ((file.bytes - 200) / (WRITES + 3)) as usize;
    type Spoil = Box<dyn Fn(&mut Vec<u8>)>;
    let spoil: [(&str, Spoil); 6] = [
        ("cut", Box::new(move |log| log.truncate(len - 3))),
        ("cut in its head", Box::new(move |log| log.truncate(len - write + 9))),
        ("flipped", Box::new(move |log| log[len - 3] ^= 1)),
        ("zeroed", Box::new(move |log| log[len - write / 2..].fill(0))),
        ("garbage behind", Box::new(|log| log.extend((0..5_000u32).map(|n| (n * 37 % 251) as u8)))),
        ("zeros behind", Box::new(|log| log.extend([0; 70_000]))),
    ];
    for (what, spoil) in spoil {
        let copy = killed(world.path());
        let path = logs_in(copy.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        spoil(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let store = Store::open(&options(copy.path())).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!((0..WRITES - 1).all(|user| has(&store, user)), "{what}");
    }
}

#[test]
fn a_log_that_is_missing_or_empty_is_found() {
    let world = world(true);
    let copy = killed(world.path());
    std::fs::remove_file(&logs_in(copy.path())[0]).unwrap();
    let text = refused(copy.path(), "missing");
    assert!(text.contains("missing") && text.contains("*.log"), "{text}");
    let copy = killed(world.path());
    std::fs::write(&logs_in(copy.path())[0], "").unwrap();
    refused(copy.path(), "empty");
}

/// With write buffers so small that there are several logs at a time.
#[test]
fn each_of_several_logs_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let small = StoreOptions { write_buffer: ByteSize(64 << 10), ..options(dir.path()) };
    let store = Store::open(&small).unwrap();
    for user in 0..4_000 {
        put(&store, user);
        if user % 10 == 0 {
            store.sync().unwrap();
        }
        // A table that is written little keeps the logs of others.
        if logs_in(dir.path()).len() >= 4 {
            break;
        }
    }
    store.sync().unwrap();
    // What is copied is of one instant: flushes that go on beside would show some files from before and some from after.
    store.db.rocks.cancel_all_background_work(true);
    let world = killed(dir.path());
    let all = logs_in(world.path());
    assert!(all.len() >= 3, "{} logs", all.len());
    let whole_dir = killed(world.path());
    let whole = Store::open(&options(whole_dir.path())).unwrap();
    let users = |store: &Store| (0..4_000).filter(|&user| has(store, user)).collect::<Vec<u64>>();
    assert!(users(&whole).len() > 100);
    for missing in &all {
        let copy = killed(world.path());
        std::fs::remove_file(copy.path().join(missing.file_name().unwrap())).unwrap();
        match Store::open(&options(copy.path())) {
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
            Ok(store) => {
                // Then nothing of it was needed any more.
                let logs = wal::scan(world.path()).unwrap();
                let logs: Vec<_> = logs.iter().map(|log| (log.number, log.before, log.records, log.last_seq)).collect();
                assert!(users(&store) == users(&whole), "{} was missed by nobody: {logs:?}", missing.display());
            }
        }
        let copy = killed(world.path());
        std::fs::write(copy.path().join(missing.file_name().unwrap()), "").unwrap();
        match Store::open(&options(copy.path())) {
            Err(OpenError::Damaged { .. }) => {
                assert!(matches!(Store::open(&options(copy.path())), Err(OpenError::Damaged { .. })));
            }
            Err(error) => panic!("{error}"),
            Ok(store) => assert!(users(&store) == users(&whole), "{} is empty", missing.display()),
        }
    }
    // Each that the next one speaks of is missed even if it ends where a write does.
    let scanned = wal::scan(world.path()).unwrap();
    let speaks_of = |at: usize| scanned[at + 1].before.is_some_and(|before| before.number == scanned[at].number);
    let spoken_of: Vec<usize> = (0..all.len() - 1).filter(|at| speaks_of(*at)).collect();
    assert!(!spoken_of.is_empty());
    for at in spoken_of {
        let (copy, short) = (killed(world.path()), &all[at]);
        without_last_write(&copy.path().join(short.file_name().unwrap()));
        refused(copy.path(), &format!("{} is short of a write", short.display()));
    }
}

/// The power goes right after a log was begun: nothing says that there was one before it, but what was noted.
#[test]
fn a_log_is_missed_by_whom_the_power_cut_left_nothing_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    put(&store, WRITES);
    store.close().unwrap();
    drop(store);
    let known = Position::read(dir.path()).unwrap().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    for user in 0..WRITES {
        put(&store, user);
        store.sync().unwrap();
    }
    let world = killed(dir.path());
    // What survives of it is what the start wrote.
    Position::begin(world.path(), Known { clean: false, ..known }).unwrap();
    let number = wal::scan(world.path()).unwrap()[0].number;
    std::fs::write(world.path().join(format!("{:06}.log", number + 20)), "").unwrap();
    let logs = logs_in(world.path());
    assert_eq!(logs.len(), 2, "{logs:?}");
    let whole = killed(world.path());
    let store = Store::open(&options(whole.path())).unwrap();
    assert!((0..WRITES).all(|user| has(&store, user)));
    let lost = killed(world.path());
    std::fs::remove_file(lost.path().join(whole::name(&logs[0]))).unwrap();
    let text = refused(lost.path(), "the only log with writes is missing");
    assert!(text.contains(&whole::name(&logs[0])), "{text}");
    // The same where the next one has a torn write that was promised to nobody.
    let torn = killed(lost.path());
    std::fs::write(torn.path().join(whole::name(&logs[1])), [7; 20]).unwrap();
    refused(torn.path(), "and the next one is torn");
    let options = options(lost.path());
    let found = verify(&options, &mut |_, _| {}).unwrap();
    assert!(found.files.iter().any(|damage| damage.what.contains(&whole::name(&logs[0]))), "{found:?}");
    repair(&options, &mut |_, _| {}).unwrap();
    assert!(has(&Store::open(&options).unwrap(), WRITES));
}

/// Logs come and go, and a start after kill -9 finds some that were noted no more.
#[test]
fn a_log_that_rocksdb_is_done_with_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    let (mut seen_gone, mut users) = (0, 0);
    for round in 0..6 {
        for _ in 0..3 {
            put(&store, users);
            store.sync().unwrap();
            users += 1;
        }
        match round % 3 {
            0 => store.flusher().flush_all().unwrap(),
            1 => store.db.rocks.flush().unwrap(),
            _ => Table::ALL.into_iter().for_each(|table| store.db.flush(table).unwrap()),
        }
        let copy = killed(dir.path());
        let logs = whole::look(copy.path(), 0).unwrap();
        seen_gone += logs.not_there().len();
        // Whoever copies a directory to another machine has no such file, or an older one.
        let without = killed(copy.path());
        std::fs::remove_file(without.path().join("freqcap.logs")).unwrap();
        for dir in [copy, without] {
            let store = Store::open(&options(dir.path())).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert!((0..users).all(|user| has(&store, user)), "round {round}");
        }
    }
    assert!(seen_gone > 0);
}

fn without_last_write(path: &Path) {
    let log = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let find = || wal::scan(path.parent().unwrap()).unwrap().into_iter().find(|file| file.path == path).unwrap();
    let whole = find();
    log.set_len(whole.bytes - 1).unwrap();
    log.set_len(find().whole_to).unwrap();
    assert_eq!((find().records, find().end), (whole.records - 1, wal::WalEnd::Whole));
}

#[test]
fn files_that_are_missing_or_short_are_found_and_so_is_a_list_of_them_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    (0..WRITES).for_each(|user| put(&store, user));
    store.close().unwrap();
    drop(store);
    let sst = bytes_of(dir.path()).into_keys().find(|path| path.extension().is_some_and(|ext| ext == "sst")).unwrap();
    let sst = PathBuf::from(sst.file_name().unwrap());
    // One from before may be there still.
    let current = std::fs::read_to_string(dir.path().join("CURRENT")).unwrap();
    let manifest = PathBuf::from(current.trim_end());
    let spoilt = |spoil: &dyn Fn(&Path)| {
        let copy = killed(dir.path());
        spoil(copy.path());
        let Err(OpenError::Damaged { damage, .. }) = Store::open(&options(copy.path())) else { panic!("opened") };
        // Still so the next time.
        assert!(matches!(Store::open(&options(copy.path())), Err(OpenError::Damaged { .. })));
        damage.to_string()
    };
    let text = spoilt(&|dir| std::fs::remove_file(dir.join(&sst)).unwrap());
    assert!(text.contains(sst.to_str().unwrap()) && text.contains("table logs"), "{text}");
    let text = spoilt(&|dir| {
        let bytes = std::fs::read(dir.join(&sst)).unwrap();
        std::fs::write(dir.join(&sst), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(text.contains(sst.to_str().unwrap()), "{text}");
    let text = spoilt(&|dir| std::fs::remove_file(dir.join("CURRENT")).unwrap());
    assert!(text.contains("CURRENT"), "{text}");
    let text = spoilt(&|dir| std::fs::remove_file(dir.join(&manifest)).unwrap());
    assert!(text.contains("MANIFEST"), "{text}");
    spoilt(&|dir| {
        let mut bytes = std::fs::read(dir.join(&manifest)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(dir.join(&manifest), bytes).unwrap();
    });
    spoilt(&|dir| {
        for path in bytes_of(dir).into_keys().filter(|path| !path.ends_with("freqcap.synced")) {
            std::fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn after_a_clean_end_the_log_is_whole_to_its_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    for user in 0..3 {
        let store = Store::open(&options(dir.path())).unwrap();
        put(&store, user);
        store.close().unwrap();
    }
    let log = logs_in(dir.path()).remove(0);
    let bytes = std::fs::read(&log).unwrap();
    for len in [bytes.len() - 1, bytes.len() / 2, 0] {
        let copy = killed(dir.path());
        std::fs::write(copy.path().join(log.file_name().unwrap()), &bytes[..len]).unwrap();
        refused(copy.path(), &format!("{len} of {} bytes", bytes.len()));
    }
    let store = Store::open(&options(dir.path())).unwrap();
    assert!((0..3).all(|user| has(&store, user)));
}

/// A list of files that was being added to when the power went has a torn end; whatever else of it is bad is damage.
#[test]
fn a_torn_end_of_the_list_of_files_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    (0..WRITES).for_each(|user| put(&store, user));
    store.flusher().flush_all().unwrap();
    let manifest_of = |dir: &Path| {
        let current = std::fs::read_to_string(dir.join("CURRENT")).unwrap();
        dir.join(current.trim_end())
    };
    let noted = killed(dir.path());
    let whole = std::fs::read(manifest_of(noted.path())).unwrap();
    let spoilt = |bytes: &[u8]| {
        let copy = killed(noted.path());
        std::fs::write(manifest_of(copy.path()), bytes).unwrap();
        copy
    };
    // What is added is torn: its head is there and no more, or a hole is in it.
    for added in [&[1, 2, 3, 4, 200, 0, 1, 9, 9][..], &[7; 900][..], &[0; 40][..]] {
        let copy = spoilt(&[&whole, added].concat());
        let store = Store::open(&options(copy.path())).unwrap_or_else(|error| panic!("{added:?}: {error}"));
        assert!((0..WRITES).all(|user| has(&store, user)));
    }
    // What was noted to be on disk is not there.
    for at in [whole.len() - 3, whole.len() / 2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(spoilt(&bytes).path(), &format!("byte {at} of {}", whole.len()));
    }
    // A list that nobody has added to yet is whole from its beginning.
    drop(store);
    drop(Store::open(&options(dir.path())).unwrap());
    let mut bytes = std::fs::read(manifest_of(dir.path())).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    std::fs::write(manifest_of(dir.path()), bytes).unwrap();
    refused(dir.path(), "a list that was never added to");
}

#[test]
fn a_file_that_rocksdb_names_and_has_removed_is_put_in_its_place() {
    // The write that names it was told to have failed, and is there after all.
    let (dir, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    let (from, to) = (dir.path().join("overlay"), ours.path().to_owned());
    let keep = move |step| {
        if step == Step::Written {
            for file in std::fs::read_dir(&from).unwrap().map(|file| file.unwrap().path()) {
                std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
            }
        }
    };
    assert!(store.flusher().at_step.set(Box::new(keep)).is_ok());
    let mut files = Vec::new();
    for round in 0..2 {
        (0..WRITES).for_each(|user| put(&store, round * WRITES + user));
        store.flusher().flush_all().unwrap();
        let tables = store.db.rocks.live_files().unwrap().into_iter().filter(|file| file.column_family_name == "logs");
        files.push(tables.map(|file| file.name).max().unwrap());
    }
    let mut kept: Vec<PathBuf> = std::fs::read_dir(ours.path()).unwrap().map(|file| file.unwrap().path()).collect();
    kept.sort();
    assert_eq!(kept.len(), 2);
    // Without ours, with that of the flush before, with the right one.
    for (ours, starts) in [(None, false), (Some(&kept[0]), false), (Some(&kept[1]), true)] {
        let without_last = killed(dir.path());
        std::fs::remove_file(without_last.path().join(files[1].trim_start_matches('/'))).unwrap();
        let folder = without_last.path().join("overlay");
        std::fs::create_dir_all(&folder).unwrap();
        if let Some(ours) = ours {
            std::fs::copy(ours, folder.join(ours.file_name().unwrap())).unwrap();
        }
        let opened = Store::open(&options(without_last.path()));
        assert_eq!(opened.is_ok(), starts, "{ours:?}");
        let Ok(store) = opened else { continue };
        assert!((0..2 * WRITES).all(|user| has(&store, user)));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

/// RocksDB's list of files then says how long the earlier ones are. Opened only to be read, and told not to go by that, RocksDB
/// would crash.
#[test]
fn a_directory_with_several_logs_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    for user in 0..4 {
        put(&store, user);
        store.sync().unwrap();
        // Another log is begun; the one before is needed by the other tables.
        store.meta().put_clock_doubted(user % 2 == 0).unwrap();
        store.db.flush(Table::ALL[user as usize % 2 + 2]).unwrap();
        store.db.rocks.flush().unwrap();
    }
    put(&store, 4);
    store.sync().unwrap();
    let copy = killed(dir.path());
    assert!(logs_in(copy.path()).len() > 1, "one log puts nothing to the test");
    let verified = verify(&options(copy.path()), &mut |_, _| {}).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
}
