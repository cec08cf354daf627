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
    let output = verify.args(["verify", "--data-dir"]).arg(site.data()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
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

/// A user with more keys than one write should remove.
const KEYS: usize = 300_000;

/// Impressions of one user: an ad and a campaign each. Every ad is capped, so that each is mirrored, too.
fn fill_large(server: &Server, user: &str, keys: usize) {
    let ts = now_ms() - 3_600_000;
    for start in (0..keys / 2).step_by(5_000) {
        let event = |n: usize| json!({"user": user, "da": n.to_string(), "id": "i", "ts": ts, "keys": [format!("campaign:{n}")]});
        let events: Vec<_> = (start..start + 5_000).map(event).collect();
        assert_eq!(server.count(&json!(events))["counted"], 5_000);
    }
    server.call("/reserve", &json!({"user": user, "candidates": ["r1", "r2"], "want": 2, "ttl": "1h", "id": "r"}));
}

/// One writer, so that whoever waits for the erasure waits visibly.
fn large_site(redis: &Redis) -> Site {
    Site::new(&["--limit", "1", "--writers", "1", "--redis", &redis.url(), "--erase-within", "2s"])
}

/// Erases a user, and does something again and again meanwhile.
fn erase_beside(server: &Server, user: &str, mut meanwhile: impl FnMut(usize)) -> serde_json::Value {
    let url = format!("{}/users/{user}", server.url);
    let erasing = std::thread::spawn(move || {
        let within = std::time::Duration::from_secs(300);
        let answer = crate::support::client().delete(url).timeout(within).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().unwrap()
    });
    let mut number = 0;
    while !erasing.is_finished() {
        meanwhile(number);
        number += 1;
    }
    erasing.join().unwrap()
}

/// Whether nothing is left of the user but ads with odd numbers, which were seen since.
fn is_gone_but_odd(page: &serde_json::Value) -> bool {
    let logs = page["logs"].as_array().unwrap();
    let is_odd =
        |key: &str| key.strip_prefix("da:").and_then(|da| da.parse::<u64>().ok()).is_some_and(|da| da % 2 == 1);
    logs.iter().all(|log| log["key"].as_str().is_some_and(is_odd))
}

#[test]
fn who_has_many_keys_is_erased_in_steps_between_which_others_are_served() {
    let redis = Redis::start();
    let site = large_site(&redis);
    let server = site.start();
    fill_large(&server, "large", KEYS);
    let in_redis = || redis.run::<usize>("ZCARD cap:{large}");
    wait_for("every cap in Redis", || (in_redis() == KEYS / 2 + 2).then_some(()));
    let (mut is_erased, mut others, mut seen) = (false, 0u64, Vec::new());
    let answer = erase_beside(&server, "large", |number| {
        let other = json!({"user": format!("other-{number}"), "da": "1"});
        assert_eq!(server.count(&other)["result"], "counted");
        others += 1;
        // Nobody sees what is left: the user is whole or erased.
        let even = number * 7_919 % (KEYS / 4) * 2;
        let count = server.ok(&format!("/cap/large/{even}"))["count"].as_u64().unwrap();
        assert!(count == u64::from(!is_erased) || count == 0, "{even} came back");
        is_erased |= count == 0;
        // And who comes back meanwhile counts.
        let odd = (number * 104_729 % (KEYS / 4) * 2 + 1).to_string();
        assert_eq!(server.count(&json!({"user": "large", "da": odd}))["result"], "counted");
        seen.push(odd);
        if number % 16 == 0 {
            // A page of what changes faster than it can be read is 503.
            let page = wait_for("a page", || {
                let (status, page) = server.get("/users/large?limit=100");
                (status != 503).then_some(page)
            });
            assert!(!is_erased || is_gone_but_odd(&page), "{page}");
        }
    });
    // As one turn and one write it let two through.
    assert!(others >= 10, "only {others} rounds while the user was erased");
    assert!(server.metric("freqcap_erasure_steps_total") > 200.0);
    seen.sort_unstable();
    seen.dedup_by(|a, b| a == b);
    let mut back = 0;
    for odd in &seen {
        back += server.ok(&format!("/cap/large/{odd}"))["count"].as_u64().unwrap();
    }
    assert!(back > 0);
    // Each event is among what was erased or is still there.
    assert_eq!(answer["events"].as_u64().unwrap() + back, KEYS as u64 / 2 + others, "{answer}");
    for (field, value) in [("logs", KEYS + 2), ("reservations", 2), ("calls", 1), ("caps", KEYS / 2 + 2)] {
        assert_eq!(answer[field], value, "{field}: {answer}");
    }
    let caps = server.ok("/users/large/caps")["caps"].as_array().unwrap().len();
    wait_for("Redis with what was seen since alone", || (in_redis() == caps).then_some(()));
    // A second time it is those who came back.
    let (_, _, again) = server.send("DELETE", "/users/large", &[], None);
    assert_eq!((again["events"].as_u64(), again["caps"].as_u64()), (Some(back), Some(caps as u64)));
    wait_for("Redis without the user", || (in_redis() == 0).then_some(()));
}

#[test]
fn an_erasure_in_steps_goes_on_after_a_crash() {
    let redis = Redis::start();
    let site = large_site(&redis);
    let mut server = site.start();
    // In no file by itself.
    let name = "erased-7c1f9ab2e4d06538";
    const KEYS: usize = 60_000;
    fill_large(&server, name, KEYS);
    let steps = |server: &Server| server.metric("freqcap_erasure_steps_total");
    // While it is looked through, while caps are removed, while logs are.
    for after in [30.0, 70.0, 40.0] {
        let url = format!("{}/users/{name}", server.url);
        let cut_off = std::thread::spawn(move || crate::support::client().delete(url).send().is_err());
        wait_for("some steps", || (steps(&server) >= after).then_some(()));
        let is_begun = server.ok(&format!("/cap/{name}/2"))["count"] == 0;
        server.count(&json!({"user": name, "da": "1"}));
        server.kill();
        assert!(cut_off.join().unwrap());
        server = site.start();
        let page = server.ok(&format!("/users/{name}?limit=100"));
        assert!(!is_begun || is_gone_but_odd(&page), "{page}");
        // It goes on between the figure and the question.
        assert!(is_begun || after == 30.0);
    }
    let (status, _, answer) = server.send("DELETE", &format!("/users/{name}"), &[], None);
    assert_eq!(status, 200);
    // What the run before erased is among it if it was still under way, and so is who came back.
    assert!(answer["logs"].as_u64().unwrap() <= KEYS as u64 + 3, "{answer}");
    assert_eq!(server.ok(&format!("/users/{name}")), json!({"user": name, "logs": [], "calls": [], "cursor": null}));
    wait_for("Redis without the user", || (redis.run::<usize>(&format!("ZCARD cap:{{{name}}}")) == 0).then_some(()));
    is_gone(&site, &[name.to_owned()]);
}
