//! A bucket that answers, fails, hangs and lies.

use super::faulty::{Call, Fault, Faulty};
use super::*;
use bytes::Bytes;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn faulty(rule: impl FnMut(Call, &str) -> Fault + Send + 'static) -> Bucket {
    let store = Faulty::new(Arc::new(InMemory::new()), rule);
    Bucket::new(Arc::new(store), "root", "memory://root".to_owned()).with_call_timeout(Duration::from_millis(200))
}

#[tokio::test]
async fn names_are_relative_to_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let url: BucketUrl = format!("file://{}/not/yet", dir.path().display()).parse().unwrap();
    assert_eq!(open(&url, Access::Read).unwrap_err().cause, Cause::Missing);
    let in_directory = open(&url, Access::Write).unwrap();
    for bucket in [in_directory, faulty(|_, _| Fault::None)] {
        bucket.put("a/2", Bytes::from_static(b"two")).await.unwrap();
        bucket.put("a/1", Bytes::from_static(b"one")).await.unwrap();
        bucket.put("ab/3", Bytes::from_static(b"three")).await.unwrap();
        let listed = bucket.list("a").await.unwrap();
        assert_eq!(listed.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["a/1", "a/2"]);
        assert_eq!(bucket.get("a/1", 3).await.unwrap(), "one");
        assert_eq!(bucket.get("a/1", 2).await.unwrap_err().cause, Cause::Damaged);
        assert_eq!(bucket.get("a/9", 3).await.unwrap_err().cause, Cause::Missing);
        assert_eq!(bucket.get_range("ab/3", 1..4, 5).await.unwrap(), "hre");
        assert_eq!(bucket.get_range("ab/3", 1..4, 6).await.unwrap_err().cause, Cause::Damaged);
        assert_eq!(bucket.get_range("ab/3", 6..9, 9).await.unwrap_err().cause, Cause::Damaged);
        assert!(bucket.list("nothing").await.unwrap().is_empty());
        let mut folders = bucket.folders().await.unwrap();
        folders.sort();
        assert_eq!(folders, ["a", "ab"]);
        bucket.delete("a/1").await.unwrap();
        bucket.delete("a/1").await.unwrap();
        let both = ["a/1", "a/2"].map(str::to_owned).to_vec();
        bucket.delete_all(both).await.unwrap();
        assert!(bucket.list("a").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn of_two_who_create_one_wins_and_a_lost_answer_is_looked_up() {
    let lost = AtomicU32::new(0);
    let bucket = faulty(move |call, _| match call {
        Call::Create if lost.fetch_add(1, Ordering::Relaxed) == 0 => Fault::LoseAnswer,
        _ => Fault::None,
    });
    let (mine, yours) = (Bytes::from_static(b"mine"), Bytes::from_static(b"yours"));
    assert_eq!(bucket.create("m/1", mine.clone()).await.unwrap(), Created::Ours);
    assert_eq!(bucket.create("m/1", yours).await.unwrap(), Created::Theirs(mine.clone()));
    assert_eq!(bucket.create("m/1", mine).await.unwrap(), Created::Ours);
    // One that fails without being done is done again.
    let failed = AtomicU32::new(0);
    let bucket = faulty(move |call, _| match call {
        Call::Create if failed.fetch_add(1, Ordering::Relaxed) < 2 => Fault::Fail,
        _ => Fault::None,
    });
    assert_eq!(bucket.create("m/1", Bytes::from_static(b"mine")).await.unwrap(), Created::Ours);
}

#[tokio::test]
async fn a_bucket_that_hangs_or_refuses_is_told_by_its_cause() {
    for (fault, cause) in [
        (Fault::Fail, Cause::Away),
        (Fault::Forbid, Cause::Forbidden),
        (Fault::Full, Cause::Full),
        (Fault::Hang, Cause::Slow),
    ] {
        let bucket = faulty(move |_, _| fault);
        let errors = [
            bucket.put("x", Bytes::new()).await.unwrap_err(),
            bucket.create("x", Bytes::new()).await.unwrap_err(),
            bucket.get("x", 1).await.unwrap_err(),
            bucket.head("x").await.unwrap_err(),
            bucket.list("x").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.cause, cause, "{error}");
            assert!(error.to_string().contains(cause.code()), "{error}");
        }
        let ProbeError::Bucket(error) = probe(&bucket).await.unwrap_err() else { panic!("the bucket does not answer") };
        assert_eq!(error.cause, cause);
    }
}

#[tokio::test]
async fn a_bucket_that_passes_over_conditions_is_refused() {
    let error = probe(&faulty(|_, _| Fault::Lie)).await.unwrap_err();
    assert_eq!(error.code(), "bucket_without_conditions");
    // One that says that it failed and overwrites all the same is as bad.
    let creates = AtomicU32::new(0);
    let bucket = faulty(move |call, _| match call {
        Call::Create if creates.fetch_add(1, Ordering::Relaxed) == 1 => Fault::Lie,
        _ => Fault::None,
    });
    assert_eq!(probe(&bucket).await.unwrap_err().code(), "bucket_without_conditions");
    let clock = probe(&faulty(|_, _| Fault::None)).await.unwrap();
    assert_eq!(clock.age(clock.now().0 + 10_000), Duration::ZERO);
    assert!(clock.age(clock.now().0 - 5_000) >= Duration::from_secs(5));
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_removed_once_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = open(&format!("file://{}", dir.path().display()).parse().unwrap(), Access::Write).unwrap();
    bucket.put("p/f/1", Bytes::from_static(b"whole")).await.unwrap();
    for name in ["p/f/2#1", "p/f/odd#x", "p/f/odd#"] {
        std::fs::write(dir.path().join(name), "half").unwrap();
    }
    assert_eq!(bucket.remove_unfinished("p", |_| false).await.unwrap(), 0);
    assert_eq!(bucket.remove_unfinished("p", |modified_ms| modified_ms > 1_600_000_000_000).await.unwrap(), 1);
    assert_eq!(bucket.remove_unfinished("nothing", |_| true).await.unwrap(), 0);
    assert!(!dir.path().join("p/f/2#1").exists() && dir.path().join("p/f/odd#x").exists());
    assert_eq!(bucket.get("p/f/1", 10).await.unwrap(), "whole");
}
