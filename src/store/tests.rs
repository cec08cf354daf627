//! What a store promises whoever opens it.

use super::table::Table;
use super::*;
use crate::model::{CapKey, Entry, Kind, Log, ShardId, TsMs, UserId};

fn options(dir: &std::path::Path) -> StoreOptions {
    StoreOptions { data_dir: dir.to_owned(), keep_changes: true, ..StoreOptions::default() }
}

fn row_key() -> RowKey {
    RowKey::new(&UserId::new("u1").unwrap(), &CapKey::new("da:77").unwrap())
}

fn log(ts: u64) -> Log {
    let mut log = Log::default();
    log.insert(Kind::IMPRESSION, Entry { ts: TsMs(ts), hash: 0 }, 256);
    log
}

fn put(store: &Store, log: &Log) -> Result<(), StoreError> {
    let mut commit = store.begin_commit();
    commit.put_log(row_key().as_bytes(), log, false);
    commit.write().map(drop)
}

/// RocksDB alone, of a store that is closed.
fn rocks(dir: &std::path::Path) -> rocksdb::DB {
    let options = rocksdb::Options::default();
    let tables = rocksdb::DB::list_cf(&options, dir).unwrap();
    rocksdb::DB::open_cf(&options, dir, tables).unwrap()
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    let newer = (FORMAT + 1).to_string();
    store.db.rocks.put(b"format", &newer).unwrap();
    store.close().unwrap();
    drop(store);
    let Err(OpenError::NewerFormat { found, .. }) = Store::open(&options(dir.path())) else { panic!("it was opened") };
    assert_eq!(found, newer);
}

#[test]
fn a_directory_of_the_first_format_is_taken_over_with_all_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    put(&store, &log(1)).unwrap();
    let id = store.info().id.clone();
    drop(store);
    let mut rocks = rocks(dir.path());
    for table in ["reservations", "erased", "rules", "audit"] {
        rocks.drop_cf(table).unwrap();
    }
    rocks.put(b"format", b"1").unwrap();
    rocks.delete(b"erasure_key").unwrap();
    drop(rocks);
    let store = Store::open(&options(dir.path())).unwrap();
    assert_eq!(store.info().id, id);
    assert!(store.logs().get_many([row_key().as_bytes()]).unwrap().remove(0).is_some());
    assert_eq!(store.db.rocks.get(b"format").unwrap(), Some(FORMAT.to_string().into_bytes()));
    let mark = store.erased().mark("u1");
    drop(store);
    assert_eq!(Store::open(&options(dir.path())).unwrap().erased().mark("u1"), mark);
}

#[test]
fn a_directory_with_a_table_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&options(dir.path())).unwrap());
    rocks(dir.path()).create_cf("snapshots", &rocksdb::Options::default()).unwrap();
    let Err(error) = Store::open(&options(dir.path())) else { panic!("it was opened") };
    assert!(error.to_string().contains("snapshots") && error.to_string().contains("--data-dir"), "{error}");
}

#[test]
fn a_directory_has_one_id_for_ever_and_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    let id = store.info().id.clone();
    let Err(OpenError::InUse { owner, .. }) = Store::open(&options(dir.path())) else { panic!("it was opened twice") };
    assert_eq!(owner, format!("process {}", std::process::id()));
    drop(store);
    assert_eq!(Store::open(&options(dir.path())).unwrap().info().id, id);
}

#[test]
fn a_poisoned_store_writes_nothing_and_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    put(&store, &log(1_732_233_600_000)).unwrap();
    store.poison();
    assert_eq!(put(&store, &log(1_732_233_700_000)), Err(StoreError::Poisoned));
    assert_eq!(store.sync(), Err(StoreError::Poisoned));
    assert_eq!(store.changes().drop_up_to([(ShardId(0), 1)]), Err(StoreError::Poisoned));
    let row = store.logs().get_many([row_key().as_bytes()]).unwrap().remove(0).unwrap();
    assert_eq!(row.log, log(1_732_233_600_000));
}

#[test]
fn void_logs_leave_the_disk_an_hour_later_and_only_while_the_clock_is_believed() {
    const DAY: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path())).unwrap();
    let newest = 1_732_233_600_000;
    let held_after_compaction = |now: Option<u64>| {
        // Rewritten each time: a row that was compacted to the bottom is not looked at again.
        put(&store, &log(newest)).unwrap();
        store.compaction_filter().set_now(now.map(TsMs));
        store.flusher().flush_all().unwrap();
        store.db.rocks.compact_range_cf(store.db.cf(Table::Logs), None::<&[u8]>, None::<&[u8]>);
        store.logs().get_many([row_key().as_bytes()]).unwrap().remove(0).is_some()
    };
    assert!(held_after_compaction(Some(newest + 100 * DAY)), "nobody has said how long to keep");
    store.compaction_filter().set_keep(Keep { least_ms: 7 * DAY, of_key_ms: Box::new(|_| 7 * DAY) });
    assert!(held_after_compaction(Some(newest + 7 * DAY)), "void, but within the margin");
    assert!(held_after_compaction(None), "the clock is not believed");
    assert!(!held_after_compaction(Some(newest + 7 * DAY + 3_600_000)));
    assert_eq!(store.compaction_filter().reclaimed(), 1);
}

/// A run without a mirror notes no changes: nobody's marker of before may be gone on from.
#[test]
fn sequences_step_into_a_new_epoch_where_changes_were_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let seq = |keep_changes: bool| {
        let store = Store::open(&StoreOptions { keep_changes, ..options(dir.path()) }).unwrap();
        let now = TsMs(1_732_233_600_000);
        let mut commit = store.begin_commit();
        let plan = crate::model::CapPlan { notify: true, ..Default::default() };
        commit.put_cap(row_key().as_bytes(), &plan, now);
        store.changes().publish(commit.write().unwrap());
        store.close().unwrap();
        let shard = ShardId(row_key().as_bytes()[0]);
        (store.changes().durable_seq(shard), store.changes().trimmed_to(shard))
    };
    assert_eq!(seq(true), (1, 0));
    assert_eq!(seq(true), (2, 0));
    seq(false);
    let (durable, trimmed) = seq(true);
    assert!(trimmed > 1 << 39 && durable == trimmed + 1, "{durable} {trimmed}");
}
