//! What keeps a log small and a count right, from outside: kinds, ids that come again, users that mean nobody.

use crate::support::{Server, Site, now_ms};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

fn result(server: &Server, event: &Value) -> String {
    let (status, body) = server.post_json("/events", event);
    let told = if status == 200 { &body["result"] } else { &body["code"] };
    told.as_str().unwrap_or_else(|| panic!("{status} {body}")).to_owned()
}

fn count_of(server: &Server, path: &str) -> u64 {
    server.ok(path)["count"].as_u64().unwrap()
}

#[test]
fn an_event_of_a_seventeenth_kind_is_rejected_alone() {
    let (_site, server) = Server::with(&[]);
    let of_kind = |da: &str, n: usize| json!({"user": "u", "da": da, "kind": format!("k{n}"), "keys": ["c:1"]});
    for n in 0..15 {
        assert_eq!(result(&server, &of_kind("a", n)), "counted");
    }
    let batch = json!([of_kind("a", 15), of_kind("a", 16), of_kind("a", 3), {"user": ""}, of_kind("b", 17)]);
    let (status, answer) = server.post_json("/events", &batch);
    assert_eq!((status.as_u16(), &answer["counted"], &answer["rejected"]), (200, &json!(2), &json!(3)));
    let errors = answer["errors"].as_array().unwrap().iter().map(|it| (it["index"].as_u64(), it["code"].as_str()));
    let kinds = Some("too_many_kinds");
    // The second ad has no log yet, but the key that both count in is full.
    assert_eq!(errors.collect::<Vec<_>>(), [(Some(1), kinds), (Some(3), Some("invalid_user")), (Some(4), kinds)]);
    assert_eq!(server.ok("/users/u")["logs"].as_array().unwrap().len(), 2);
    let (status, problem) = server.post_json("/events", &of_kind("a", 16));
    assert_eq!((status.as_u16(), problem["code"].as_str()), (422, kinds), "{problem}");
    assert_eq!(server.metric("freqcap_events_total{result=\"rejected\"}"), 4.0);
    // Kinds that are there count on, and another user has room.
    assert_eq!(result(&server, &of_kind("a", 0)), "counted");
    assert_eq!(result(&server, &json!({"user": "v", "da": "a", "kind": "k16", "keys": ["c:1"]})), "counted");
    for ttl in [json!("60s"), Value::Null] {
        let call = |kind: &str| json!({"user": "u", "candidates": ["x", "a"], "want": 2, "kind": kind, "ttl": ttl});
        let (status, problem) = server.post_json("/reserve", &call("k16"));
        assert_eq!((status.as_u16(), problem["code"].as_str()), (422, kinds), "{problem}");
        assert_eq!(server.call("/reserve", &call("k1"))["reserved"].as_array().unwrap().len(), 2);
    }
    assert_eq!(count_of(&server, "/cap/u/x"), 0);
}

#[test]
fn a_batch_of_ten_thousand_kinds_and_sixteen_keys_each_holds_nobody_up() {
    let (site, server) = Server::with(&["--limit", "none", "--writers", "1"]);
    let keys: Vec<String> = (0..16).map(|n| format!("c{n}:1")).collect();
    let of_kind = |n: usize| json!({"user": "u", "da": "a", "kind": format!("k{n}"), "keys": keys});
    let lines: String = (0..10_000).map(|n| format!("{}\n", of_kind(n))).collect();
    let start = Instant::now();
    let (status, answer) = server.post_lines(&lines);
    assert_eq!((status.as_u16(), &answer["counted"], &answer["rejected"]), (200, &json!(16), &json!(9_984)));
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["index"], &errors[99]["index"]), (100, &json!(16), &json!(115)));
    for _ in 0..10 {
        assert_eq!(result(&server, &of_kind(3)), "counted");
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let bytes: u64 = files(&site.data()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 16 << 20, "{bytes} bytes");
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

#[test]
fn an_answer_of_reserve_that_could_be_longer_than_a_row_is_refused() {
    let (_site, server) = Server::with(&[]);
    let ads = |text: &str| (0..1_000).map(|n| format!("{n:04}{}", text.repeat(252))).collect::<Vec<_>>();
    let call = |id: &str, text: &str| json!({"user": "u", "candidates": ads(text), "want": 1_000, "id": id});
    let long = server.call("/reserve", &call("long", "x"));
    assert_eq!(long["reserved"].as_array().unwrap().len(), 1_000);
    assert_eq!(server.call("/reserve", &call("long", "x")), long);
    let (status, problem) = server.post_json("/reserve", &call("longer", "\""));
    assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("too_many_candidates")), "{problem}");
}

#[test]
fn an_id_that_is_counted_is_counted_once_however_often_it_is_reserved() {
    let (_site, server) = Server::with(&["--limit", "5"]);
    let event = |id: &str| json!({"user": "u", "da": "a", "id": id, "keys": ["c:1"]});
    let reserve = |id: &str, ttl: Value| {
        let candidates = json!([{"da": "a", "keys": ["c:1", "d:2"]}]);
        server.call("/reserve", &json!({"user": "u", "candidates": candidates, "id": id, "ttl": ttl}))
    };
    let counts = || (count_of(&server, "/cap/u/a"), server.ok("/users/u")["logs"].as_array().unwrap().len());
    for (n, ttl) in [json!("60s"), json!("1ms"), Value::Null].into_iter().enumerate() {
        let id = format!("event-first-{n}");
        assert_eq!(result(&server, &event(&id)), "counted");
        let answer = reserve(&id, ttl);
        assert_eq!(answer["reserved"], json!([{"da": "a", "expires_at": null}]), "{answer}");
        assert_eq!(answer["refused"], json!([]));
        let released = server.call("/release", &json!({"user": "u", "id": id}));
        assert_eq!(released["released"], 0);
        assert_eq!(result(&server, &event(&id)), "duplicate");
        // Neither the ad's log nor that of a key which only the reservation names has changed.
        assert_eq!(counts(), (n as u64 + 1, 2));
    }
    // Reserved, confirmed, and asked for again by a call with another body, whose id is known.
    let call = |ttl: &str| json!({"user": "u", "candidates": ["a"], "id": "r", "ttl": ttl});
    assert!(server.call("/reserve", &call("60s"))["reserved"][0]["expires_at"].is_u64());
    assert_eq!(result(&server, &event("r")), "counted");
    assert_eq!(server.post_json("/reserve", &call("50s")).1["code"], "id_reused");
    assert_eq!(result(&server, &event("r")), "duplicate");
    // Another kind, or another ad, is another event.
    let click = json!({"user": "u", "candidates": ["a"], "id": "event-first-0", "kind": "click"});
    assert_eq!(server.post_json("/reserve", &click).1["code"], "id_reused");
    assert_eq!(result(&server, &event("last")), "counted");
    // At its cap the ad is refused, whoever asks.
    let full = reserve("last", json!("60s"));
    assert_eq!((&full["reserved"], full["refused"][0]["da"].as_str()), (&json!([]), Some("a")));
}

const NOBODY: [&str; 8] = [
    "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000000000000",
    "null",
    "UNDEFINED",
    "[IDFA]",
    "${USER}",
    "%%USER%%",
    "{{user}}",
];

#[test]
fn a_user_that_means_nobody_is_acknowledged_and_kept_nowhere() {
    let (_site, server) = Server::with(&["--limit", "1"]);
    for user in NOBODY {
        for _ in 0..2 {
            let (status, answer) = server.post_json("/events", &json!({"user": user, "da": "a", "keys": ["c:1"]}));
            assert_eq!((status.as_u16(), &answer["result"]), (200, &json!("ignored")), "{user}");
            assert_eq!((&answer["cap"]["capped"], &answer["cap"]["count"]), (&json!(false), &json!(0)));
        }
        // What is wrong besides is told first.
        let ahead = json!({"user": user, "da": "a", "ts": now_ms() + 3_600_000});
        assert_eq!(result(&server, &ahead), "ts_in_future");
        let checked = server.call("/check", &json!({"user": user, "candidates": ["a"]}));
        assert_eq!(checked["results"][0]["count"], 0);
        let call = json!({"user": user, "candidates": ["a", "b", "c"], "want": 2, "id": "r"});
        for _ in 0..2 {
            let granted = server.call("/reserve", &call);
            assert_eq!((granted["reserved"].as_array().unwrap().len(), &granted["refused"]), (2, &json!([])));
        }
        assert_eq!(server.call("/release", &json!({"user": user, "id": "r"}))["released"], 0);
        let path: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let held = server.ok(&format!("/users/{path}"));
        assert_eq!((&held["logs"], &held["calls"]), (&json!([]), &json!([])), "{user}");
        assert_eq!(server.ok(&format!("/users/{path}/caps"))["caps"], json!([]));
        assert_eq!(server.send("DELETE", &format!("/users/{path}"), &[], None).2["events"], 0);
    }
    let users = NOBODY.iter().chain(&["u", "unknown-1"]);
    let lines: String = users.map(|user| format!("{}\n", json!({"user": user, "da": "a"}))).collect();
    let (_, answer) = server.post_lines(&lines);
    assert_eq!((&answer["counted"], &answer["ignored"], &answer["rejected"]), (&json!(2), &json!(8), &json!(0)));
    assert_eq!(server.metric("freqcap_events_total{result=\"ignored\"}"), 24.0);
}

#[test]
fn patterns_of_users_are_added_or_all_taken_away() {
    let mut site = Site::new(&["--ignore-users", "test-*, Robot"]);
    let server = site.start();
    for (user, expected) in [("test-1", "ignored"), ("robot", "ignored"), ("null", "ignored"), ("tes", "counted")] {
        assert_eq!(result(&server, &json!({"user": user, "da": "a"})), expected, "{user}");
    }
    drop(server);
    site.flags = vec!["--ignore-users".to_owned(), "none".to_owned()];
    let server = site.start();
    assert_eq!(result(&server, &json!({"user": "null", "da": "a"})), "counted");
    drop(server);
    // What was counted while it meant somebody is not read while it means nobody, and can be erased.
    site.flags.clear();
    let server = site.start();
    assert_eq!(count_of(&server, "/cap/null/a"), 0);
    assert_eq!(server.send("DELETE", "/users/null", &[], None).2["events"], 1);
}

#[test]
fn a_file_is_replayed_and_tried_without_users_that_mean_nobody() {
    let (site, server) = Server::with(&[]);
    let file = site.dir.path().join("events.ndjson");
    let ts = now_ms() - 60_000;
    let users = ["null", "u", "[ID]", "v", "u"];
    let lines =
        users.iter().enumerate().map(|(n, user)| format!("{}\n", json!({"user": user, "da": 1, "ts": ts, "id": n})));
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(crate::support::binary()).args(args).arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (summary, told) = run(&["replay", "--url", &server.url]);
    let ignored = format!("{summary}{told}");
    let ignored = ignored.lines().find(|line| line.trim_start().starts_with("ignored")).expect("a line of its own");
    assert!(ignored.ends_with(" 2"), "{ignored}");
    let (answer, told) = run(&["backtest", "--limit", "1", "--window", "1d", "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["impressions"], &answer["refused"], &answer["users"]), (&json!(3), &json!(1), &json!(2)));
    assert!(told.contains("2 events"), "{told}");
}

#[test]
fn an_id_that_comes_again_after_the_duplicate_window_is_a_new_event() {
    let (_site, server) = Server::with(&["--duplicate-window", "1h"]);
    let now = now_ms();
    let at = |minutes: u64| json!({"user": "u", "da": "a", "id": "x", "ts": now - minutes * 60_000});
    for (minutes, expected) in [
        (300, "counted"),
        (240, "duplicate"),
        (239, "counted"),
        (300, "duplicate"),
        (120, "counted"),
        (90, "duplicate"),
    ] {
        assert_eq!(result(&server, &at(minutes)), expected, "{minutes} minutes ago");
    }
    assert_eq!(count_of(&server, "/cap/u/a"), 3);
    // How far duplicates lie from what they repeat: an hour, nothing, half an hour.
    let older = |le: &str| server.metric(&format!("freqcap_duplicate_age_seconds_bucket{{le=\"{le}\"}}"));
    assert_eq!((older("1"), older("600"), older("3600"), older("+Inf")), (1.0, 1.0, 3.0, 3.0));
}
