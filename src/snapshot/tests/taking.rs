//! What is uploaded, and what is not.

use super::store::{FakeStore, files_in};
use super::*;

async fn restore_newest(place: &Place, dir: &Path) -> Manifest {
    let manifest = place.catalog().newest().await.unwrap().unwrap();
    restore(&place.catalog(), manifest, &RestoreOptions::new(dir.to_owned())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_comes_back_byte_for_byte() {
    for place in [Place::in_memory(), Place::in_directory()] {
        let store = FakeStore::new("store");
        // More than a part, so that it is uploaded in several.
        store.table(20_000_000);
        store.table(10);
        store.log(b"one");
        let running = place.start(&store, &place.dir("data")).await;
        let taken = running.handle.take().await.unwrap();
        assert_eq!(taken.sequence, 1);
        let first = restore_newest(&place, &place.dir("first")).await;
        assert_eq!(files_in(&place.dir("first")), store.files());
        assert_eq!((first.sequence, first.epoch, first.store_id.as_str()), (1, 1, "store"));
        assert_eq!(first.kafka[0].next, 6);
        let before = running.handle.figures();
        assert_eq!((before.uploaded_bytes, before.spared_bytes), (first.bytes(), 0));
        // A log that went on is uploaded from where it was; what is as it was, not at all.
        store.log(b" and two");
        running.handle.take().await.unwrap();
        let second = restore_newest(&place, &place.dir("second")).await;
        assert_eq!(files_in(&place.dir("second")), store.files());
        let after = running.handle.figures();
        assert_eq!(after.uploaded_bytes - before.uploaded_bytes, " and two".len() as u64 + 1);
        assert_eq!(after.spared_bytes, first.bytes());
        assert_eq!((second.sequence, after.taken, after.failed), (2, 2, 0));
        // The checkpoint is gone, and a last snapshot is taken at the end.
        assert!(!place.dir("data").join(CHECKPOINT).exists());
        store.log(b" and the last");
        running.stop().await.unwrap();
        restore_newest(&place, &place.dir("third")).await;
        assert_eq!(files_in(&place.dir("third")), store.files());
        let listed = place.catalog().list().await.unwrap();
        assert_eq!(listed.iter().map(|summary| summary.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(listed.iter().all(|summary| matches!(&summary.state, State::Listed(details) if details.epoch == 1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_uploads_only_what_is_new() {
    let place = Place::in_memory();
    let (store, dir) = (FakeStore::new("store"), place.dir("data"));
    let table = store.table(100_000);
    place.start(&store, &dir).await.stop().await.unwrap();
    let running = place.start(&store, &dir).await;
    running.handle.take().await.unwrap();
    let figures = running.handle.figures();
    // The list of files is of another epoch, so it is uploaded as a whole.
    assert_eq!((figures.epoch, figures.uploaded_bytes), (2, 5));
    assert!(figures.spared_bytes > 100_000);
    running.stop().await.unwrap();
    // RocksDB may give a table's number again after a crash: its size is the same, its end is not.
    store.set(&table, &vec![7; 100_000]);
    place.start(&store, &dir).await.stop().await.unwrap();
    restore_newest(&place, &place.dir("copy")).await;
    assert_eq!(files_in(&place.dir("copy")), store.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_many_pieces_is_uploaded_as_one() {
    let place = Place::in_memory();
    let store = FakeStore::new("store");
    let running = place.start(&store, &place.dir("data")).await;
    let mut most = 0;
    for round in 0..70_u8 {
        store.log(&[round; 10]);
        running.handle.take().await.unwrap();
        let newest = place.catalog().newest().await.unwrap().unwrap();
        most = newest.files.iter().map(|file| file.parts.len()).max().unwrap().max(most);
    }
    assert_eq!(most, 64);
    restore_newest(&place, &place.dir("copy")).await;
    assert_eq!(files_in(&place.dir("copy")), store.files());
    running.stop().await.unwrap();
}
