//! What comes back, from a bucket that is whole, damaged or away.

use super::store::{FakeStore, files_in};
use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A prefix with two snapshots, and what the store was at each.
async fn two_snapshots() -> (Place, FakeStore, Vec<std::collections::BTreeMap<String, Vec<u8>>>) {
    let place = Place::in_memory();
    let store = FakeStore::new("store");
    let mut states = Vec::new();
    let running = place.start(&store, &place.dir("data")).await;
    for round in 1..3 {
        store.table(9_000_000 * round);
        store.log(b"some");
        running.handle.take().await.unwrap();
        states.push(store.files());
    }
    running.kill().await;
    (place, store, states)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_empty_is_left_alone() {
    let (place, _, _) = two_snapshots().await;
    let newest = place.catalog().newest().await.unwrap().unwrap();
    let dir = place.dir("full");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("precious"), "mine").unwrap();
    let refused = restore(&place.catalog(), newest, &RestoreOptions::new(dir.clone())).await.unwrap_err();
    assert_eq!(refused.code(), "directory_not_empty");
    assert!(refused.to_string().contains("precious"), "{refused}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    // Nor one that another restore is writing to.
    let newest = place.catalog().newest().await.unwrap().unwrap();
    let lock = crate::store::lock_dir(&place.dir("other")).unwrap();
    let into = RestoreOptions::new(place.dir("other"));
    let refused = restore(&place.catalog(), newest.clone(), &into).await.unwrap_err();
    assert_eq!(refused.code(), "data_dir_in_use");
    drop(lock);
    restore(&place.catalog(), newest, &into).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshot_that_is_asked_for_comes_back() {
    let (place, _, states) = two_snapshots().await;
    let catalog = place.catalog();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let progress: OnProgress = Arc::new(move |progress| tell.lock().unwrap().push(progress));
    let first = catalog.find(Which::Sequence(1)).await.unwrap();
    let into = RestoreOptions { progress, ..RestoreOptions::new(place.dir("first")) };
    let restored = restore(&catalog, first.clone(), &into).await.unwrap();
    assert_eq!(restored, first);
    assert_eq!(files_in(&place.dir("first")), states[0]);
    let told = told.lock().unwrap().clone();
    let last = told.iter().max_by_key(|progress| (progress.bytes_done, progress.objects_done)).unwrap();
    assert_eq!((last.bytes_done, last.objects_done), (first.bytes(), first.objects().count() as u64));
    assert_eq!((last.bytes, last.objects), (last.bytes_done, last.objects_done));
    assert_eq!(told[0].bytes_done, 0);
    // By time.
    let at = catalog.find(Which::At(TsMs(1_700_000_000_000))).await.unwrap();
    assert_eq!(at.sequence, 2);
    for missing in [Which::At(TsMs(1_699_999_999_999)), Which::Sequence(3)] {
        assert_eq!(catalog.find(missing).await.unwrap_err().code(), "no_snapshot");
    }
    let none = Place::in_memory();
    assert_eq!(none.catalog().find(Which::Newest).await.unwrap_err().code(), "no_snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_named_and_the_snapshot_before_it_offered() {
    type Harm = (&'static str, fn(Vec<u8>) -> Option<Vec<u8>>, &'static str);
    let harms: [Harm; 4] = [
        ("gone", |_| None, "snapshot_object_missing"),
        ("cut", |bytes| Some(bytes[..bytes.len() - 1].to_vec()), "snapshot_damaged"),
        ("longer", |bytes| Some([&bytes[..], b"x"].concat()), "snapshot_damaged"),
        (
            "changed",
            |mut bytes| {
                bytes[5] ^= 1;
                Some(bytes)
            },
            "snapshot_damaged",
        ),
    ];
    for (name, harm, code) in harms {
        let (place, _, states) = two_snapshots().await;
        let catalog = place.catalog();
        let newest = catalog.newest().await.unwrap().unwrap();
        let object = newest.files.iter().find(|file| file.bytes == 18_000_000).unwrap().parts[0].object.clone();
        let bytes = place.bucket.get(&object, 100_000_000).await.unwrap().to_vec();
        match harm(bytes) {
            None => place.bucket.delete(&object).await.unwrap(),
            Some(bytes) => place.bucket.put(&object, bytes.into()).await.unwrap(),
        }
        let into = RestoreOptions::new(place.dir("copy"));
        let refused = restore(&catalog, newest.clone(), &into).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {refused}");
        let text = refused.to_string();
        assert!(text.contains(&object) && text.contains("snapshot 1 of"), "{text}");
        assert_eq!(contents(&place.dir("copy")).unwrap(), Contents::Unfinished(2));
        // Verified, it is told of the one snapshot that names it.
        let both = [catalog.read(1).await.unwrap(), newest.clone()];
        let verified = verify(&catalog, &both, Arc::new(|_, _| {})).await.unwrap();
        assert_eq!(verified.whole, [1]);
        assert_eq!((verified.damaged.len(), verified.damaged[0].1.code()), (1, code));
        // The one that is offered can be restored in its place.
        let older = catalog.before(2).await.unwrap().unwrap();
        assert_eq!(restore(&catalog, older, &into).await.unwrap().sequence, 1);
        assert_eq!(files_in(&place.dir("copy")), states[0], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_read_does_not_mean_that_there_is_none() {
    let (place, _, _) = two_snapshots().await;
    let catalog = place.catalog();
    place.bucket.put("p-000/m/00000000000000000002.json.zst", "torn".into()).await.unwrap();
    let refused = catalog.newest().await.unwrap_err();
    assert_eq!(refused.code(), "snapshot_damaged");
    assert!(refused.to_string().contains("snapshot 1 of"), "{refused}");
    // Nobody begins an epoch upon it, unless the one before it was chosen by hand.
    assert_eq!(place.acquire(Local::Nothing).await.unwrap_err().code(), "snapshot_damaged");
    let chosen = WriterOptions { pass_over_damage: true, takeover: true, ..quick("two") };
    let writer = place.acquire_as(&chosen, Local::Nothing).await.unwrap();
    assert_eq!(writer.newest().unwrap().sequence, 1);
    let into = RestoreOptions { epoch: writer.epoch(), ..RestoreOptions::new(place.dir("older")) };
    restore(&catalog, writer.newest().unwrap().clone(), &into).await.unwrap();
    writer.attach(&place.dir("older"), "store").unwrap();
    drop(writer);
    let listed = catalog.list().await.unwrap();
    assert!(matches!(&listed[1].state, State::Unreadable { code: "snapshot_damaged", .. }), "{listed:?}");
    assert_eq!(catalog.before(2).await.unwrap().unwrap().sequence, 1);
    let mut newer = catalog.read(1).await.unwrap();
    (newer.format, newer.sequence) = (FORMAT + 1, 3);
    let bytes = newer.encode().unwrap();
    place.bucket.put("p-000/m/00000000000000000003.json.zst", bytes.into()).await.unwrap();
    assert_eq!(catalog.newest().await.unwrap_err().code(), "snapshot_newer_format");
    assert_eq!(place.acquire(Local::Nothing).await.unwrap_err().code(), "snapshot_newer_format");
}

/// Killed at each step in turn, the restore is done again and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_any_step_is_finished_by_the_next() {
    let (place, _, states) = two_snapshots().await;
    let catalog = place.catalog();
    let newest = catalog.newest().await.unwrap().unwrap();
    let mut kills = 0;
    for at in 0.. {
        let dir = place.dir(&format!("copy-{at}"));
        let count = Arc::new(AtomicU32::new(0));
        let killed = Steps::new(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) == at {
                return Err(SnapshotError::Internal("killed".to_owned()));
            }
            Ok(())
        });
        let into = RestoreOptions { steps: killed, ..RestoreOptions::new(dir.clone()) };
        let done = restore(&catalog, newest.clone(), &into).await;
        if done.is_err() {
            kills += 1;
            assert_eq!(contents(&dir).unwrap(), Contents::Unfinished(2));
            // Another snapshot begins anew, in the same place.
            let other = if at % 2 == 0 { newest.clone() } else { catalog.read(1).await.unwrap() };
            restore(&catalog, other.clone(), &RestoreOptions::new(dir.clone())).await.unwrap();
            assert_eq!(files_in(&dir), states[other.sequence as usize - 1]);
        } else {
            assert_eq!(files_in(&dir), states[1]);
        }
        assert!(matches!(contents(&dir).unwrap(), Contents::Something(_)));
        if done.is_ok() {
            break;
        }
    }
    assert!(kills > 6, "{kills}");
}

/// What the store's side does to the files is part of the restore: one that fails or is killed there begins again.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_made_ready_before_it_may_be_opened() {
    let (place, _, states) = two_snapshots().await;
    let catalog = place.catalog();
    let newest = catalog.newest().await.unwrap().unwrap();
    let into = RestoreOptions::new(place.dir("copy"));
    let fails: Prepare = Arc::new(|dir, _| {
        assert_eq!(contents(dir).unwrap(), Contents::Unfinished(2));
        std::fs::write(dir.join("CURRENT"), "half").unwrap();
        std::fs::write(dir.join("000999.log"), "new").unwrap();
        Err("no".to_owned())
    });
    let failing = RestoreOptions { prepare: Some(fails), ..into.clone() };
    assert_eq!(restore(&catalog, newest.clone(), &failing).await.unwrap_err().code(), "restore_failed");
    let works: Prepare = Arc::new(|dir, manifest| {
        // Who makes it ready may lock it, and end the restore.
        let _lock = crate::store::lock_dir(dir).map_err(|error| error.to_string())?;
        assert_eq!(manifest.sequence, 2);
        std::fs::remove_file(dir.join(crate::store::RESTORING)).map_err(|error| error.to_string())
    });
    let working = RestoreOptions { prepare: Some(works), is_new_store: true, ..into };
    restore(&catalog, newest.clone(), &working).await.unwrap();
    assert_eq!(files_in(&place.dir("copy")), states[1]);
    assert_eq!(store_id(&place.dir("copy")).unwrap(), None);
    let synced = read_file(&catalog, &newest, "CURRENT").await.unwrap();
    assert_eq!(synced.as_deref(), Some(&b"MANIFEST-000001\n"[..]));
    assert_eq!(read_file(&catalog, &newest, "freqcap.erased").await.unwrap(), None);
}
