//! What was erased is gone from every file of the data directory in time.

use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files below a folder that have one of some texts in them.
fn files_with(dir: &Path, texts: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        // Files come and go while it is looked through.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let holds = |text: &String| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
                if texts.iter().any(holds) {
                    found.push(path);
                }
            }
        }
    }
    found
}

/// Without compression, so that a text that is there is found.
fn site(more: &[&str]) -> Site {
    let flags = ["--compression", "none", "--limit", "2", "--overlay-size", "128KiB", "--write-buffer", "64KiB"];
    Site::new(&[&flags[..], more].concat())
}

fn names(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{of}-7c1f9ab2e4d06538-{n}-user")).collect()
}

/// Impressions, caps, reservations: a row in every table for each user.
fn fill(server: &Server, users: &[String]) {
    let now = now_ms();
    let events = users.iter().flat_map(|user| {
        (0..40u64).map(move |n| {
            let keys = [format!("campaign:{}", n % 3), format!("advertiser:{}", n % 2)];
            json!({"user": user, "da": (n / 2).to_string(), "ts": now - n, "id": format!("i{n}"), "keys": keys})
        })
    });
    let events: Vec<_> = events.collect();
    for batch in events.chunks(5_000) {
        assert_eq!(server.count(&json!(batch))["counted"], batch.len());
    }
    for user in users {
        server.call("/reserve", &json!({"user": user, "candidates": ["r1", "r2"], "want": 2, "id": "r"}));
    }
}

fn erase(server: &Server, users: &[String]) {
    for user in users {
        assert_eq!(server.send("DELETE", &format!("/users/{user}"), &[], None).0, 200);
    }
}

fn is_gone(site: &Site, users: &[String]) {
    wait_for("no file to hold a user who was erased", || files_with(&site.data(), users).is_empty().then_some(()));
}

/// Users who stay, before and after in the order of keys, and in the same shards.
fn others() -> Vec<String> {
    names("other", 300)
}

#[test]
fn nobody_who_was_erased_is_in_any_file_in_time() {
    let redis = Redis::start();
    let site = site(&["--erase-within", "2s", "--redis", &redis.url()]);
    let server = site.start();
    let (early, late) = (names("early", 40), names("late", 40));
    fill(&server, &early);
    fill(&server, &others());
    fill(&server, &late);
    // It can fail.
    assert!(files_with(&site.data(), &early).len() > 1);
    assert!(!files_with(&site.data(), &late).is_empty());
    erase(&server, &early);
    erase(&server, &late);
    // What is refused is not written either.
    let again = json!({"user": late[0], "da": "1", "ts": now_ms() - 60_000});
    assert_eq!(server.count(&again)["result"], "erased");
    is_gone(&site, &[&early[..], &late[..]].concat());
    wait_for("what waits to be told", || (server.metric("freqcap_erasures_pending_shards") == 0.0).then_some(()));
    // Those who stay are there.
    for user in &others()[..10] {
        assert_eq!(server.ok(&format!("/cap/{user}/0"))["count"], 2);
    }
    assert!(!files_with(&site.data(), &others()).is_empty());
    server.terminate();
    assert_eq!(files_with(&site.data(), &early), Vec::<PathBuf>::new());
    // What is left is whole.
    let mut verify = std::process::Command::new(crate::support::binary());
    assert!(verify.args(["verify", "--data-dir"]).arg(site.data()).status().unwrap().success());
}

#[test]
fn an_erasure_waits_for_its_time_over_a_crash() {
    let mut site = site(&["--erase-within", "1h"]);
    let server = site.start();
    let erased = names("erased", 20);
    fill(&server, &erased);
    fill(&server, &others());
    erase(&server, &erased);
    server.kill();
    assert!(!files_with(&site.data(), &erased).is_empty());
    for flag in site.flags.iter_mut().filter(|flag| *flag == "1h") {
        *flag = "2s".to_owned();
    }
    let server = site.start();
    is_gone(&site, &erased);
    assert_eq!(server.ok(&format!("/cap/{}/0", others()[0]))["count"], 2);
}

#[test]
fn a_redis_that_is_away_keeps_no_erased_user_in_the_changes() {
    let mut redis = Redis::start();
    let site = site(&["--erase-within", "2s", "--redis", &redis.url()]);
    let server = site.start();
    let erased = names("erased", 20);
    fill(&server, &erased);
    wait_for("the caps in Redis", || (redis.run::<Vec<String>>("KEYS cap:{*").len() == 20).then_some(()));
    redis.kill();
    erase(&server, &erased);
    is_gone(&site, &erased);
    // Whoever was not told is told everything.
    redis.start_again();
    wait_for("an empty Redis", || redis.run::<Vec<String>>("KEYS cap:{*").is_empty().then_some(()));
}

#[test]
fn a_stop_does_not_wait_for_a_round() {
    let site = site(&["--erase-within", "1s"]);
    let server = site.start();
    fill(&server, &others());
    for round in 0..3 {
        let erased = names(&format!("round{round}"), 5);
        fill(&server, &erased);
        erase(&server, &erased);
    }
    let start = std::time::Instant::now();
    assert!(server.terminate().success());
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_data_directory_is_closed_to_others() {
    let site = Site::new(&[]);
    let mode = || std::fs::metadata(site.data()).unwrap().permissions().mode() & 0o777;
    site.start().terminate();
    assert_eq!(mode(), 0o700);
    // One that stood open is closed.
    std::fs::set_permissions(site.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    site.start().terminate();
    assert_eq!(mode(), 0o700);
}
