//! A checkpoint beside writers, flushes, trims and erasures holds all that was acknowledged.

use super::*;
use crate::model::{Entry, Kind, Log, ShardId};
use crate::store::{AuditEntry, ByteSize, Durability, RowKey, StoreOptions};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const WRITERS: usize = 3;
/// So many users each writer writes in turn.
const USERS: u64 = 400;
/// Every so manieth turn erases instead.
const ERASES: u64 = 37;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        data_dir: dir.to_owned(),
        overlay_size: ByteSize(32 << 10),
        existence_filter: ByteSize::mib(1),
        block_cache: ByteSize::mib(1),
        ..StoreOptions::default()
    }
}

fn user(writer: usize, turn: u64) -> String {
    format!("user-{writer}-{}", turn % USERS)
}

fn row_key(user: &str) -> Vec<u8> {
    let mut row_key = Vec::new();
    RowKey::write(&mut row_key, user, "da:77");
    row_key
}

/// How far each writer is.
#[derive(Default)]
struct Turns([AtomicU64; WRITERS]);

impl Turns {
    fn now(&self) -> [u64; WRITERS] {
        std::array::from_fn(|writer| self.0[writer].load(Ordering::SeqCst))
    }
}

/// A turn's number is the time of the events that it leaves, or of the tombstone.
fn write(store: &Store, writer: usize, turn: u64) {
    let user = user(writer, turn);
    let mut commit = store.begin_commit();
    if turn.is_multiple_of(ERASES) {
        commit.erase(&user, TsMs(turn)).unwrap();
        store
            .at_rest()
            .write_erasure(commit, ShardId::of_user(user.as_bytes()), TsMs(turn), Some(&AuditEntry::default()))
            .unwrap();
        return;
    }
    let mut log = Log::default();
    for hash in 0..20 {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(turn), hash }, 256);
    }
    commit.put_log(&row_key(&user), &log, false);
    commit.write().unwrap();
}

/// The last turn that is seen of a user.
fn seen(store: &Store, user: &str) -> u64 {
    let log = store.logs().get_many([&row_key(user)[..]]).unwrap().remove(0);
    let written = log.and_then(|row| row.log.newest()).map_or(0, |ts| ts.0);
    let (shard, mark) = (ShardId::of_user(user.as_bytes()), store.erased().mark(user));
    let erased = store.erased().until(shard, mark, u64::MAX, TsMs(0)).unwrap().map_or(0, |ts| ts.0);
    assert!(written == 0 || written > erased, "{user} came back from {written} after {erased}");
    written.max(erased)
}

/// What a copy lacks of all that was acknowledged, and has beyond what was sent.
fn holes(store: &Store, acknowledged: [u64; WRITERS], sent: [u64; WRITERS]) -> Vec<String> {
    let mut holes = Vec::new();
    for writer in 0..WRITERS {
        for n in 0..USERS {
            let last = |turn: u64| if turn < n { 0 } else { turn - (turn - n) % USERS };
            let (least, most) = (last(acknowledged[writer]), last(sent[writer]));
            let seen = seen(store, &user(writer, n));
            if seen < least || seen > most {
                holes.push(format!("writer {writer}, user {n}: {seen}, not in {least}..={most}"));
            }
        }
    }
    holes
}

/// Takes checkpoints under load until one has a hole or there were so many. Returns how many, and the hole.
fn checkpoints(tries: u64, durability: Durability) -> (u64, Option<String>) {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&StoreOptions { durability, ..options(dir.path()) }).unwrap();
    let (acknowledged, sent, done) = (Turns::default(), Turns::default(), AtomicBool::new(false));
    let mut found = None;
    let mut taken = 0;
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| store.flusher().run());
        let rests = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.at_rest().run(|| !done.load(Ordering::SeqCst)).unwrap();
                std::thread::park_timeout(Duration::from_millis(300));
            }
        });
        for writer in 0..WRITERS {
            let (store, acknowledged, sent, done) = (&store, &acknowledged, &sent, &done);
            scope.spawn(move || {
                let mut turn = 0;
                while !done.load(Ordering::SeqCst) {
                    turn += 1;
                    sent.0[writer].store(turn, Ordering::SeqCst);
                    write(store, writer, turn);
                    acknowledged.0[writer].store(turn, Ordering::SeqCst);
                }
            });
        }
        while taken < tries && found.is_none() {
            taken += 1;
            let at = copies.path().join("checkpoint");
            let before = acknowledged.now();
            let checkpoint = store.checkpoint(&at).unwrap();
            let after = sent.now();
            found = match Store::open(&options(&at)) {
                Ok(copy) => holes(&copy, before, after).into_iter().next(),
                Err(error) => Some(error.to_string()),
            };
            checkpoint.remove().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        rests.thread().unpark();
        rests.join().unwrap();
        store.flusher().end();
        flusher.join().unwrap();
    });
    let freezes = store.overlay_figures().freezes;
    assert!(found.is_some() || freezes > taken, "{freezes} flushes beside {taken} checkpoints put nothing to the test");
    (taken, found)
}

fn tries(default: u64) -> u64 {
    std::env::var("FREQCAP_TEST_CHECKPOINTS").ok().and_then(|tries| tries.parse().ok()).unwrap_or(default)
}

#[test]
fn a_checkpoint_under_load_holds_all_that_was_acknowledged() {
    for durability in [Durability::Wal, StoreOptions::default().durability] {
        let (taken, found) = checkpoints(tries(12), durability);
        assert_eq!(found, None, "checkpoint {taken}");
    }
}

/// A flush waits for a checkpoint, and a checkpoint for a flush: beside each other, a log could be missing from both the list
/// of files, copied before it was taken in, and the journal, copied after it was trimmed.
#[test]
fn a_checkpoint_waits_for_a_flush_that_is_under_way() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    (1..=500).for_each(|turn| write(&store, 0, turn));
    let at = copies.path().join("checkpoint");
    let (is_flushed, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flush = store.overlay.flushing.lock().unwrap();
        let taking = scope.spawn(|| {
            begun.store(true, Ordering::SeqCst);
            store.checkpoint(&at).unwrap();
            assert!(is_flushed.load(Ordering::SeqCst), "it did not wait");
        });
        let until = std::time::Instant::now() + Duration::from_millis(300);
        while !begun.load(Ordering::SeqCst) || std::time::Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert!(!at.exists() && !taking.is_finished());
        is_flushed.store(true, Ordering::SeqCst);
        drop(flush);
        taking.join().unwrap();
    });
    assert!(at.join("CURRENT").exists());
}

#[test]
fn a_checkpoint_says_what_is_in_it_and_goes_without_a_trace() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    (1..=500).for_each(|turn| write(&store, 0, turn));
    let at = copies.path().join("checkpoint");
    let checkpoint = store.checkpoint(&at).unwrap();
    assert_eq!(checkpoint.sequence, store.db.rocks.latest_sequence_number());
    for kind in [FileKind::Table, FileKind::Log, FileKind::Manifest] {
        assert!(checkpoint.files.iter().any(|file| file.kind == kind && file.bytes > 0), "{kind:?}");
    }
    assert_eq!(checkpoint.files.iter().filter(|file| file.kind == FileKind::Current).count(), 1);
    assert!(checkpoint.files.iter().any(|file| file.name == ERASED));
    // What is there already is somebody else's.
    assert!(matches!(store.checkpoint(&at), Err(StoreError::Io { .. })));
    assert!(at.join("CURRENT").exists());
    checkpoint.remove().unwrap();
    assert_eq!(std::fs::read_dir(copies.path()).unwrap().count(), 0);
    (0..USERS).for_each(|n| assert!(seen(&store, &user(0, n)) > 0 || n == 0));
}

#[test]
fn a_checkpoint_that_lost_a_file_or_the_end_of_its_log_is_refused() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    (1..=500).for_each(|turn| write(&store, 0, turn));
    let first = store.checkpoint(&copies.path().join("first")).unwrap();
    for (number, file) in first.files.iter().enumerate() {
        let needed = |kind| matches!(kind, FileKind::Options | FileKind::Other);
        if needed(file.kind) || file.bytes == 0 {
            continue;
        }
        for cut in [false, true] {
            let at = copies.path().join(format!("{number}-{cut}"));
            std::fs::create_dir(&at).unwrap();
            for file in &first.files {
                std::fs::copy(first.dir.join(&file.name), at.join(&file.name)).unwrap();
            }
            let path = at.join(&file.name);
            if cut {
                std::fs::File::options().write(true).open(&path).unwrap().set_len(file.bytes / 2).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            assert!(Store::open(&options(&at)).is_err(), "{} cut: {cut}", file.name);
        }
    }
}

#[test]
fn the_bytes_of_who_was_erased_never_change() {
    let mut bytes = Vec::new();
    put_erased(&mut bytes, b"\x01mark", b"\x80\x01");
    put_erased(&mut bytes, b"\x02other", b"\x07");
    assert_eq!(bytes, b"\x05\x02\x01mark\x80\x01\x06\x01\x02other\x07");
    let rows: Vec<(&[u8], &[u8])> = vec![(b"\x01mark", b"\x80\x01"), (b"\x02other", b"\x07")];
    assert_eq!(erased_rows(&bytes), Some(rows));
    assert!((1..bytes.len()).filter(|end| *end != 9).all(|end| erased_rows(&bytes[..end]).is_none()));
}
