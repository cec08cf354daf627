//! A checkpoint and the writes after it are the store, wherever flushes, erasures and rounds at rest come.

use super::*;
use crate::model::{Entry, Kind, Log, ShardId, TsMs};
use crate::store::replay::{Replay, ReplayError};
use crate::store::{AuditEntry, ByteSize, PrepareOptions, RowKey, StoreOptions, finish, prepare};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const USERS: u64 = 60;
const NAME: &[u8] = b"chain";

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        data_dir: dir.to_owned(),
        overlay_size: ByteSize(32 << 10),
        existence_filter: ByteSize::mib(1),
        block_cache: ByteSize::mib(1),
        keep_wal_s: 600,
        ..StoreOptions::default()
    }
}

fn write(store: &Store, user: u64, events: u64) {
    let mut row_key = Vec::new();
    RowKey::write(&mut row_key, &format!("user-{user}"), "da:77");
    let mut log = Log::default();
    for hash in 0..events {
        log.insert(Kind::IMPRESSION, Entry { ts: TsMs(hash + 1), hash }, 256);
    }
    let mut commit = store.begin_commit();
    commit.put_log(&row_key, &log, false);
    commit.put_rules_revision(ShardId(row_key[0]), events);
    commit.write().unwrap();
}

fn erase(store: &Store, user: u64) {
    let user = format!("user-{user}");
    let mut commit = store.begin_commit();
    commit.erase(&user, TsMs(9)).unwrap();
    store
        .at_rest()
        .write_erasure(commit, ShardId::of_user(user.as_bytes()), TsMs(9), Some(&AuditEntry::default()))
        .unwrap();
}

/// One step of a load. A flush of the overlay, a round at rest and a flush of a table come between writes, too.
fn step(store: &Store, what: u8, user: u64, events: u64) {
    match what {
        0..=199 => write(store, user, events),
        200..=229 => erase(store, user),
        230..=244 => store.flusher.flush_beside_writers().unwrap(),
        245..=250 => store.db.flush(Table::Journal).unwrap(),
        _ => drop(store.at_rest().run(|| true).unwrap()),
    }
}

/// All that can be read: logs, and the tables beside them that the load changes.
fn content(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    for shard in ShardId::all() {
        let (mut after, mut is_last) = (None, false);
        while !is_last {
            (after, is_last) = store
                .logs
                .scan(shard, after.as_deref(), 100, |key, row| {
                    content.insert(key.to_vec(), format!("{row:?}").into_bytes());
                })
                .unwrap();
        }
        let revision = store.meta().rules_revision(shard).unwrap();
        content.insert(vec![shard.0], format!("{revision:?}").into_bytes());
        store.erased().rows(shard, |key, value| {
            content.insert([b"erased", key].concat(), value.to_vec());
        });
    }
    content
}

fn read_all(tail: &mut WalTail, most: usize) -> Vec<TailBatch> {
    let mut all = Vec::new();
    loop {
        let batches = tail.read(most).unwrap();
        if batches.is_empty() {
            return all;
        }
        all.extend(batches);
    }
}

fn restored(dir: &Path) -> Store {
    prepare(&options(dir), &PrepareOptions { incarnation: "i1", new_id: None, newest_erased: None }).unwrap();
    finish(dir).unwrap();
    Store::open(&options(dir)).unwrap()
}

type Load = Vec<(u8, u64, u64)>;

fn load() -> impl Strategy<Value = Load> {
    proptest::collection::vec((any::<u8>(), 0..USERS, 1..30u64), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_checkpoint_and_the_writes_after_it_are_the_store(before in load(), after in load(), most in 1..5_000usize, crash in 0..400usize) {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(&options(dir.path())).unwrap();
        before.iter().for_each(|&(what, user, events)| step(&store, what, user, events));
        let at = copies.path().join("checkpoint");
        store.keep_tail(64 << 20);
        write(&store, 0, 1);
        let checkpoint = store.checkpoint(&at).unwrap();
        let mut tail = store.wal_tail(checkpoint.sequence).unwrap();
        let mut batches = Vec::new();
        for (number, &(what, user, events)) in after.iter().enumerate() {
            step(&store, what, user, events);
            if number % 50 == 49 {
                batches.extend(read_all(&mut tail, most));
            }
        }
        batches.extend(read_all(&mut tail, most));
        prop_assert_eq!(tail.behind(), 0);
        // What was kept is what the log has; a batch that is kept does not say its sequence itself.
        let mut kept = store.take_tail(usize::MAX).unwrap();
        kept.retain(|batch| batch.last() > checkpoint.sequence);
        let without_sequence = |batches: &[TailBatch]| -> Vec<_> {
            batches.iter().map(|batch| (batch.first, batch.count, batch.bytes[8..].to_vec())).collect()
        };
        prop_assert_eq!(without_sequence(&kept), without_sequence(&batches));
        let batches = kept;

        // The replay is dropped somewhere, and begun anew.
        let mut replay = Replay::begin(&options(&at), NAME, checkpoint.sequence).unwrap();
        batches.iter().take(crash).for_each(|batch| replay.apply(batch).unwrap());
        drop(replay);
        let mut replay = Replay::begin(&options(&at), NAME, checkpoint.sequence).unwrap();
        batches.iter().for_each(|batch| replay.apply(batch).unwrap());
        prop_assert_eq!(replay.end().unwrap(), tail.position());
        let copy = restored(&at);
        prop_assert_eq!(content(&copy), content(&store));
    }
}

#[test]
fn a_write_that_is_missing_is_a_gap() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    let at = copies.path().join("checkpoint");
    let checkpoint = store.checkpoint(&at).unwrap();
    (0..20).for_each(|user| write(&store, user, 3));
    let batches = read_all(&mut store.wal_tail(checkpoint.sequence).unwrap(), 1 << 20);
    assert_eq!(batches.len(), 20);
    let mut replay = Replay::begin(&options(&at), NAME, checkpoint.sequence).unwrap();
    replay.apply(&batches[0]).unwrap();
    assert!(matches!(replay.apply(&batches[2]), Err(ReplayError::Gap { .. })));
    replay.apply(&batches[1]).unwrap();
    assert_eq!(replay.end().unwrap(), batches[1].last());
    // Once ended, the chain is not gone on with: what the copy wrote since then may be in its way.
    let mut replay = Replay::begin(&options(&at), NAME, checkpoint.sequence).unwrap();
    batches.iter().for_each(|batch| replay.apply(batch).unwrap());
    assert_eq!(replay.end().unwrap(), batches[1].last());
    assert_eq!(content(&restored(&at)).keys().filter(|key| key.len() > 1).count(), 2);
}

#[test]
fn a_log_that_is_not_kept_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreOptions { keep_wal_s: 0, ..options(dir.path()) }).unwrap();
    let mut tail = store.wal_tail(store.db.rocks.latest_sequence_number()).unwrap();
    (0..20).for_each(|user| write(&store, user, 3));
    Table::ALL.iter().for_each(|table| store.db.flush(*table).unwrap());
    store.db.rocks.flush().unwrap();
    (0..20).for_each(|user| write(&store, user, 4));
    Table::ALL.iter().for_each(|table| store.db.flush(*table).unwrap());
    (0..20).for_each(|user| write(&store, user, 5));
    assert!(matches!(tail.read(1 << 20), Err(TailError::Gap { .. })));
}

#[test]
fn writers_at_once_are_kept_in_the_order_of_their_sequences() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(&options(dir.path())).unwrap();
    let at = copies.path().join("checkpoint");
    let mut kept = Vec::new();
    let checkpoint = std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || (0..300).for_each(|turn| write(store, writer * 100 + turn % 15, turn % 20 + 1)));
        }
        scope.spawn(|| (0..20).for_each(|_| store.flusher.flush_beside_writers().unwrap()));
        // Begun in the middle of writes.
        store.keep_tail(64 << 20);
        store.checkpoint(&at).unwrap()
    });
    kept.extend(store.take_tail(usize::MAX).unwrap());
    let mut replay = Replay::begin(&options(&at), NAME, checkpoint.sequence).unwrap();
    for batch in kept.iter().filter(|batch| batch.last() > checkpoint.sequence) {
        replay.apply(batch).unwrap();
    }
    replay.end().unwrap();
    assert_eq!(content(&restored(&at)), content(&store));
}

#[test]
fn what_there_is_no_room_to_keep_is_a_gap_until_it_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    store.keep_tail(1_000);
    (0..20).for_each(|user| write(&store, user, 20));
    assert_eq!(store.take_tail(1 << 20), Err(crate::store::TailGap));
    store.keep_tail(1 << 20);
    write(&store, 1, 2);
    assert_eq!(store.take_tail(1 << 20).unwrap().len(), 1);
    assert_eq!(store.take_tail(1 << 20).unwrap(), []);
}
