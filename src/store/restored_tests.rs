//! A copy that was made ready, and what a crash in the middle of it leaves.

use super::*;
use crate::model::{Entry, Kind, Log};
use crate::store::{AuditEntry, ByteSize};
use std::cell::RefCell;

fn options(dir: &Path) -> StoreOptions {
    let (overlay_size, existence_filter) = (ByteSize(32 << 10), ByteSize::mib(1));
    StoreOptions { data_dir: dir.to_owned(), overlay_size, existence_filter, ..StoreOptions::default() }
}

fn row_key(user: &str) -> Vec<u8> {
    let mut row_key = Vec::new();
    RowKey::write(&mut row_key, user, "da:77");
    row_key
}

fn write(store: &Store, user: &str, ts: u64) {
    let mut log = Log::default();
    for hash in 0..20 {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(ts), hash }, 256);
    }
    let mut commit = store.begin_commit();
    commit.put_log(&row_key(user), &log, false);
    commit.write().unwrap();
}

fn erase(store: &Store, user: &str, at: u64) {
    let mut commit = store.begin_commit();
    commit.erase(user, TsMs(at)).unwrap();
    store
        .at_rest()
        .write_erasure(commit, ShardId::of_user(user.as_bytes()), TsMs(at), Some(&AuditEntry::default()))
        .unwrap();
}

fn holds(store: &Store, user: &str) -> bool {
    store.logs().get_many([&row_key(user)[..]]).unwrap().remove(0).is_some()
}

fn erased_at(store: &Store, user: &str) -> Option<u64> {
    let (shard, mark) = (ShardId::of_user(user.as_bytes()), store.erased().mark(user));
    store.erased().until(shard, mark, u64::MAX, TsMs(0)).unwrap().map(|ts| ts.0)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

const AS_IT_WAS: PrepareOptions<'static> = PrepareOptions { incarnation: "i1", new_id: None, newest_erased: None };

#[test]
fn a_copy_is_refused_until_it_is_ready_and_is_another_history_then() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    (0..300).for_each(|n| write(&store, &format!("u{n}"), 1_000));
    store.meta().put_mirror_run("s:1-a").unwrap();
    store.meta().put_last_believed(TsMs(77)).unwrap();
    for new_id in [None, Some("0123456789abcdef0123456789abcdef")] {
        let at = copies.path().join(new_id.unwrap_or("same"));
        store.checkpoint(&at).unwrap();
        let prepared = prepare(&options(&at), &PrepareOptions { new_id, ..AS_IT_WAS }).unwrap();
        let id = new_id.map_or_else(|| store.info().id.clone(), str::to_owned);
        assert_eq!((prepared.store_id, prepared.clock, prepared.users_erased), (id.clone(), Some(TsMs(77)), 0));
        assert!(matches!(Store::open(&options(&at)), Err(OpenError::Unfinished { .. })));
        finish(&at).unwrap();
        let copy = Store::open(&options(&at)).unwrap();
        assert_eq!(copy.info().id, id);
        assert_eq!(copy.meta().incarnation().unwrap().as_deref(), Some("i1"));
        assert_eq!(copy.meta().mirror_run().unwrap(), None);
        assert!((0..300).all(|n| holds(&copy, &format!("u{n}"))));
    }
    assert_eq!(store.meta().mirror_run().unwrap().as_deref(), Some("s:1-a"));
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(prepare(&options(nothing.path()), &AS_IT_WAS), Err(OpenError::Directory { .. })));
}

/// Users by what became of them before the older checkpoint and after it.
#[test]
fn who_was_erased_later_stays_erased_whatever_step_a_crash_comes_after() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    (0..200).for_each(|n| write(&store, &format!("u{n}"), 1_000));
    erase(&store, "back", 500);
    write(&store, "back", 600);
    let (older, newest) = (copies.path().join("older"), copies.path().join("newest"));
    store.checkpoint(&older).unwrap();
    (0..200).step_by(10).for_each(|n| erase(&store, &format!("u{n}"), 2_000));
    erase(&store, "stranger", 2_000);
    store.checkpoint(&newest).unwrap();
    let erased = std::fs::read(newest.join(ERASED)).unwrap();
    let and_erased = PrepareOptions { newest_erased: Some(&erased), ..AS_IT_WAS };

    let steps = RefCell::new(Vec::new());
    let at_step = |step| {
        let number = steps.borrow().len();
        copy(&older, &copies.path().join(number.to_string()));
        steps.borrow_mut().push(step);
    };
    let first = prepare_with(&options(&older), &and_erased, &at_step).unwrap();
    assert_eq!(first.users_erased, 20);
    let steps = steps.into_inner();
    for step in [Step::Marked, Step::Opened, Step::UserErased, Step::Erased, Step::Begun, Step::Closed] {
        assert!(steps.contains(&step), "{step:?}");
    }
    let mut dirs = vec![(None, older)];
    dirs.extend(steps.iter().enumerate().map(|(number, step)| (Some(*step), copies.path().join(number.to_string()))));
    for (step, at) in dirs {
        assert!(matches!(Store::open(&options(&at)), Err(OpenError::Unfinished { .. })), "{step:?}");
        prepare(&options(&at), &and_erased).unwrap_or_else(|error| panic!("after {step:?}: {error}"));
        finish(&at).unwrap();
        let copy = Store::open(&options(&at)).unwrap();
        for n in 0..200 {
            let user = format!("u{n}");
            let expected = if n % 10 == 0 { (false, Some(2_000)) } else { (true, None) };
            assert_eq!((holds(&copy, &user), erased_at(&copy, &user)), expected, "{user} after {step:?}");
        }
        assert_eq!((holds(&copy, "back"), erased_at(&copy, "back")), (true, Some(500)), "{step:?}");
        assert_eq!(erased_at(&copy, "stranger"), Some(2_000), "{step:?}");
    }
}

#[test]
fn a_file_of_who_was_erased_that_is_cut_off_is_refused() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    erase(&store, "u1", 500);
    let at = copies.path().join("copy");
    store.checkpoint(&at).unwrap();
    let erased = std::fs::read(at.join(ERASED)).unwrap();
    let cut = PrepareOptions { newest_erased: Some(&erased[..erased.len() - 1]), ..AS_IT_WAS };
    assert!(matches!(prepare(&options(&at), &cut), Err(OpenError::State { .. })));
    assert!(matches!(Store::open(&options(&at)), Err(OpenError::Unfinished { .. })));
}
