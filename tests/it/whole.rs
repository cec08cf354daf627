//! The whole product: the binary, a real Redis, a file of real impressions, crashes.

use crate::support::mirrored::{capped, is_mirrored, mirrored};
use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::Command;
use std::time::Duration;

fn users(count: usize) -> BTreeSet<String> {
    (0..count).map(|user| format!("u{user}")).collect()
}

/// Impressions of few users and ads, from number `first` on.
fn impressions(first: usize, count: usize) -> Value {
    let event = |n: usize| {
        let (user, ad) = (n * 7_919 % 40, n * 104_729 % 7);
        json!({"user": format!("u{user}"), "da": ad.to_string(), "id": n.to_string(), "keys": [format!("campaign:{}", ad % 2)]})
    };
    json!((first..first + count).map(event).collect::<Vec<_>>())
}

fn follows_caps_and_their_ends(layout: &str) {
    let redis = Redis::start();
    let flags = ["--redis", &redis.url(), "--redis-layout", layout, "--limit", "3", "--window", "4s"];
    let (_site, server) = Server::with(&flags);
    let (users, zset) = (users(40), layout == "zset");
    for batch in 0..10 {
        server.count(&impressions(batch * 100, 100));
    }
    let caps = is_mirrored(&server, &redis, zset, &users);
    assert!(caps.len() > 50, "{} caps are too few to tell", caps.len());
    wait_for("every cap to end and leave Redis", || redis.run::<Vec<String>>("KEYS cap:*").is_empty().then_some(()));
    assert!(capped(&server, &users).is_empty());
    wait_for("the timers", || {
        let of = |name| server.metric(name);
        (of("freqcap_caps_ended_total") == of("freqcap_caps_started_total")).then_some(())
    });
}

#[test]
fn redis_follows_caps_and_their_ends_as_sorted_sets() {
    follows_caps_and_their_ends("zset");
}

#[test]
fn redis_follows_caps_and_their_ends_as_strings() {
    follows_caps_and_their_ends("string");
}

#[test]
fn after_a_crash_with_redis_down_redis_is_right_again() {
    let mut redis = Redis::start();
    let site = Site::new(&["--redis", &redis.url(), "--limit", "2", "--redis-layout", "zset"]);
    let users = users(40);
    let server = site.start();
    server.count(&impressions(0, 120));
    let before = is_mirrored(&server, &redis, true, &users);
    redis.kill();
    for batch in 0..5 {
        // Redis away slows and fails nothing.
        assert_eq!(server.count(&impressions(120 + batch * 40, 40))["counted"], 40);
    }
    server.kill();
    let server = site.start();
    server.count(&impressions(400, 100));
    server.kill();
    redis.start_again();
    let server = site.start();
    let after = is_mirrored(&server, &redis, true, &users);
    assert!(after.len() > before.len());
    drop(server);
    // And killed in the middle of telling, again and again, with Redis emptied in between.
    for round in 0..5 {
        let server = site.start();
        server.count(&impressions(500 + round * 50, 50));
        if round % 2 == 0 {
            redis.run::<()>("FLUSHALL");
        }
        std::thread::park_timeout(Duration::from_millis(3 * round as u64));
        server.kill();
    }
    let server = site.start();
    is_mirrored(&server, &redis, true, &users);
}

#[test]
fn after_a_start_with_other_rules_redis_holds_what_they_cap() {
    let redis = Redis::start();
    let url = redis.url();
    let mut site = Site::new(&["--redis", &url, "--limit", "2", "--window", "5d"]);
    let users = users(40);
    let server = site.start();
    server.count(&impressions(0, 600));
    let seen_once: Vec<_> = (0..10).map(|user| json!({"user": format!("u{user}"), "da": "once"})).collect();
    server.count(&json!(seen_once));
    let mut sizes = vec![is_mirrored(&server, &redis, true, &users).len()];
    drop(server);
    for (limit, window) in [("4", "5d"), ("1", "5d"), ("1", "1d"), ("none", "5d"), ("2", "5d")] {
        (site.flags[3], site.flags[5]) = (limit.to_owned(), window.to_owned());
        let server = site.start();
        let caps = is_mirrored(&server, &redis, true, &users);
        wait_for("the rest of the shards", || {
            (server.metric("freqcap_recheck_shards{writer=\"0\"}") == 0.0).then_some(())
        });
        sizes.push(caps.len());
        // Killed: what was judged anew must be as durable as everything else.
        server.kill();
    }
    assert!(sizes[1] < sizes[0] && sizes[2] > sizes[0] && sizes[3] == sizes[2], "{sizes:?}");
    assert!(sizes[4] == 0 && sizes[5] == sizes[0], "{sizes:?}");
}

#[test]
fn after_a_start_with_the_other_layout_redis_has_that_one_alone() {
    let redis = Redis::start();
    let mut site = Site::new(&["--redis", &redis.url(), "--limit", "2", "--redis-layout", "zset"]);
    let users = users(40);
    let server = site.start();
    server.count(&impressions(0, 400));
    let caps = is_mirrored(&server, &redis, true, &users);
    drop(server);
    for layout in ["string", "zset"] {
        layout.clone_into(&mut site.flags[5]);
        let server = site.start();
        assert_eq!(is_mirrored(&server, &redis, layout == "zset", &users), caps);
        let zset = |name: &String| !name.contains("}:");
        wait_for("what is left of the other layout to go", || {
            redis.run::<Vec<String>>("KEYS cap:{*").iter().all(|name| zset(name) == (layout == "zset")).then_some(())
        });
    }
}

#[test]
fn a_second_freqcap_on_the_same_redis_stays_off_until_told_to_take_over() {
    let redis = Redis::start();
    let flags = ["--redis", &redis.url(), "--limit", "1"];
    let (_one, first) = Server::with(&flags);
    first.count(&json!({"user": "u1", "da": "first"}));
    is_mirrored(&first, &redis, true, &users(2));
    let mut site = Site::new(&flags);
    let second = site.start();
    second.count(&json!({"user": "u1", "da": "second"}));
    wait_for("the second to notice", || (second.mirror_state() == 1.0).then_some(()));
    assert_eq!(mirrored(&redis, true), capped(&first, &users(2)));
    drop((first, second));
    site.flags.push("--redis-takeover".to_owned());
    let second = site.start();
    is_mirrored(&second, &redis, true, &users(2));
}

/// The default window.
const WINDOW_MS: u64 = 5 * 86_400_000;

/// An impression of the file: user, ad, log time.
fn read_impressions() -> Vec<(String, String, u64)> {
    let path = crate::support::root().join("tests/data/obd_zozotown_7d.csv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let row = |line: &str| {
        let cells: Vec<_> = line.split(',').collect();
        (cells[5] == "imp").then(|| (cells[1].to_owned(), cells[2].to_owned(), cells[0].parse().unwrap()))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// The verdicts on every (user, ad) of the file, against a count by hand.
#[test]
fn a_replayed_file_gives_the_verdicts_of_a_recount() {
    let redis = Redis::start();
    let (_site, server) = Server::with(&["--redis", &redis.url()]);
    let file = crate::support::root().join("tests/data/obd_zozotown_7d.csv.gz");
    let mut replay = Command::new(crate::support::binary());
    replay.arg("replay").arg(&file).args(["--url", &server.url, "--shift-to-now"]);
    let output = replay.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let impressions = read_impressions();
    let mut pairs: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for (user, da, ts) in &impressions {
        pairs.entry((user, da)).or_default().push(*ts);
    }
    assert_eq!(pairs.len(), 13_055);
    pairs.values_mut().for_each(|times| times.sort_unstable());
    let shift = shift_of(&server, &pairs);
    for ((user, da), times) in &pairs {
        let now = now_ms();
        let verdict = server.ok(&format!("/cap/{user}/{da}?at={now}"));
        let window: Vec<_> =
            times.iter().map(|ts| ts + shift).filter(|ts| now - WINDOW_MS < *ts && *ts <= now).collect();
        assert_eq!(verdict["count"], window.len(), "{user} {da} at {now}");
        let until = (window.len() >= 5).then(|| window[window.len() - 5] + WINDOW_MS);
        assert_eq!(verdict["capped_until"], json!(until), "{user} {da} at {now}");
    }
    let users = impressions.iter().map(|row| row.0.clone()).collect();
    assert!(is_mirrored(&server, &redis, true, &users).len() > 1_000);
}

/// By how much replay moved the times: told by any cap, which ends 5 days after the fifth newest impression.
fn shift_of(server: &Server, pairs: &BTreeMap<(&str, &str), Vec<u64>>) -> u64 {
    let shift = pairs.iter().find_map(|((user, da), times)| {
        let until = server.ok(&format!("/cap/{user}/{da}"))["capped_until"].as_u64()?;
        Some(until - WINDOW_MS - times[times.len() - 5])
    });
    shift.unwrap()
}
