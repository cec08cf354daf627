//! Rules by the API, from outside: what may be said, when it is in force, and how Redis follows.

use crate::support::mirrored::mirrored;
use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const DAY: u64 = 86_400_000;

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[test]
fn a_rule_is_made_changed_told_and_removed() {
    let (_site, server) = Server::with(&[]);
    let rule = json!({"key": "campaign:42", "limit": 3, "window": "24h"});
    let (status, etag, made) = server.send("PUT", "/rules/brand-x", &[], Some(&rule));
    assert_eq!(status, 201);
    for (field, value) in [("id", json!("brand-x")), ("kind", json!("impression")), ("mode", json!("enforce"))] {
        assert_eq!(made[field], value);
    }
    for field in ["key", "limit", "window"] {
        assert_eq!(made[field], rule[field]);
    }
    let (status, told, got) = server.send("GET", "/rules/brand-x", &[], None);
    assert_eq!((status.as_u16(), &told, &got["limit"]), (200, &etag, &json!(3)));
    let window = json!({"calendar": "day", "tz": "Asia/Seoul"});
    let other = json!({"key": "campaign:*", "limit": null, "window": window, "kind": "click"});
    let (status, changed_etag, changed) = server.send("PUT", "/rules/brand-x", &[], Some(&other));
    assert_eq!((status.as_u16(), &changed["window"], &changed["limit"]), (200, &window, &Value::Null));
    assert_ne!(changed_etag, etag);
    // The same once more changes nothing.
    let (status, same_etag, _) = server.send("PUT", "/rules/brand-x", &[], Some(&other));
    assert_eq!((status.as_u16(), same_etag), (200, changed_etag));
    let rules = server.ok("/rules");
    let ids: Vec<_> = rules["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["brand-x", "default"]);
    wait_for("the mirror to follow", || {
        let rules = server.ok("/rules");
        let done = |rule: &Value| rule["mirror"]["done"] == rule["mirror"]["total"];
        rules["rules"].as_array().unwrap().iter().all(done).then_some(())
    });
    let (status, _, body) = server.send("DELETE", "/rules/brand-x", &[], None);
    assert_eq!((status.as_u16(), body), (204, Value::Null));
    for method in ["GET", "DELETE"] {
        let (status, _, body) = server.send(method, "/rules/brand-x", &[], None);
        assert_eq!((status.as_u16(), code(&body)), (404, "unknown_rule"));
    }
}

#[test]
fn what_is_no_rule_is_refused_with_a_code() {
    let (_site, server) = Server::with(&["--history-limit", "100"]);
    let with = |more: Value| {
        let mut rule = json!({"key": "da:1", "limit": 1, "window": "1d"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    for (id, body, expected) in [
        ("r", with(json!({"limit": 0})), "limit_out_of_range"),
        ("r", with(json!({"limit": 101})), "limit_out_of_range"),
        ("r", with(json!({"limit": -1})), "limit_out_of_range"),
        ("r", with(json!({"limit": "3"})), "invalid_limit"),
        ("r", with(json!({"limit": null, "mode": "shadow"})), "shadow_exemption"),
        ("r", json!({"key": "da:1", "window": "1d"}), "missing_limit"),
        ("r", with(json!({"colour": "red"})), "unknown_field"),
        ("r", with(json!({"window": "1y"})), "invalid_window"),
        ("r", with(json!({"window": "99999d"})), "window_too_long"),
        ("r", with(json!({"window": {"calendar": "day", "tz": "Mars/Olympus"}})), "unknown_zone"),
        ("r", with(json!({"key": "Campaign:1"})), "invalid_key"),
        ("r", with(json!({"kind": "View"})), "invalid_kind"),
        ("r", with(json!({"mode": "off"})), "invalid_mode"),
        ("a%20b", with(json!({})), "invalid_rule_id"),
        (&"x".repeat(65), with(json!({})), "invalid_rule_id"),
    ] {
        let (status, _, problem) = server.send("PUT", &format!("/rules/{id}"), &[], Some(&body));
        assert_eq!((status.as_u16(), code(&problem)), (422, expected), "{id} {body}");
    }
    // A lifetime has no such bound.
    server.put_rule("life", &with(json!({"limit": 1_000_000, "window": "lifetime"})));
    assert_eq!(server.ok("/rules")["rules"].as_array().unwrap().len(), 2);
}

#[test]
fn an_update_that_would_be_lost_is_refused() {
    let (_site, server) = Server::with(&[]);
    let rule = |limit: u64| json!({"key": "da:1", "limit": limit, "window": "1d"});
    let put = |headers: &[(&str, &str)], limit| server.send("PUT", "/rules/r", headers, Some(&rule(limit)));
    assert_eq!(code(&put(&[("if-match", "*")], 1).2), "precondition_failed");
    let (status, etag, _) = put(&[("if-none-match", "*")], 1);
    assert_eq!(status, 201);
    let etag = etag.unwrap();
    assert_eq!(put(&[("if-none-match", "*")], 2).0, 412);
    let (status, second, _) = put(&[("if-match", &etag)], 2);
    assert_eq!(status, 200);
    assert_eq!(put(&[("if-match", &etag)], 3).0, 412);
    assert_eq!(server.ok("/rules/r")["limit"], 2);
    let either = format!("\"x\", {}", second.unwrap());
    assert_eq!(put(&[("if-match", &either)], 3).0, 200);
    assert_eq!(put(&[("if-none-match", "\"x\"")], 3).0, 400);
    assert_eq!(server.send("DELETE", "/rules/r", &[("if-match", &etag)], None).0, 412);
    assert_eq!(server.send("DELETE", "/rules/r", &[("if-match", "*")], None).0, 204);
}

#[test]
fn what_the_flags_and_the_file_keep_is_not_changed_here() {
    let mut site = Site::new(&[]);
    let file = site.dir.path().join("freqcap.toml");
    std::fs::write(&file, "[[rules]]\nid = \"of-file\"\nkey = \"campaign:*\"\nlimit = 9\nwindow = \"1d\"\n").unwrap();
    site.flags = vec!["--config".to_owned(), file.display().to_string()];
    let server = site.start();
    let rule = json!({"key": "campaign:*", "limit": 1, "window": "1d"});
    for (id, source, expected) in [("default", "flags", "rule_is_from_flags"), ("of-file", "file", "rule_is_from_file")]
    {
        assert_eq!(server.ok(&format!("/rules/{id}"))["source"], source);
        for (method, body) in [("PUT", Some(&rule)), ("DELETE", None)] {
            let (status, _, problem) = server.send(method, &format!("/rules/{id}"), &[], body);
            assert_eq!((status.as_u16(), code(&problem)), (409, expected), "{method} {id}");
        }
    }
    // A rule of the API that the flags come to keep is theirs until they let it go.
    drop(server);
    site.flags = vec!["--limit".to_owned(), "none".to_owned()];
    let server = site.start();
    assert_eq!(server.ok("/rules")["rules"], json!([]));
    server.put_rule("default", &json!({"key": "da:*", "limit": 7, "window": "1d"}));
    drop(server);
    site.flags.clear();
    let server = site.start();
    assert_eq!(server.ok("/rules/default")["limit"], 5);
    drop(server);
    site.flags = vec!["--limit".to_owned(), "none".to_owned()];
    assert_eq!(site.start().ok("/rules/default")["limit"], 7);
}

#[test]
fn a_rule_survives_kill_9_and_too_low_a_history_limit_is_told_at_the_start() {
    let mut site = Site::new(&[]);
    let server = site.start();
    let rule = json!({"key": "campaign:*", "limit": 200, "window": "1d", "kind": "click", "mode": "shadow"});
    server.put_rule("r", &rule);
    let before = server.send("GET", "/rules/r", &[], None);
    server.kill();
    let server = site.start();
    let after = server.send("GET", "/rules/r", &[], None);
    assert_eq!(before.1, after.1);
    for field in ["key", "limit", "window", "kind", "mode"] {
        assert_eq!(after.2[field], rule[field]);
    }
    drop(server);
    site.flags = vec!["--history-limit".to_owned(), "100".to_owned()];
    let output = site.command().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("\"r\"") && told.contains("--history-limit"), "{told}");
}

#[test]
fn a_rule_applies_at_once_to_what_is_held() {
    let (_site, server) = Server::with(&["--limit", "none"]);
    let now = now_ms();
    let event = |hours: u64| json!({"user": "u", "da": "a", "ts": now - hours * 3_600_000, "keys": ["campaign:1"]});
    server.count(&json!((0..10).map(|n| event(n * 5)).collect::<Vec<_>>()));
    let cap = || server.ok("/cap/u/a?key=campaign:1");
    assert_eq!((cap()["capped"].as_bool(), cap()["rule"].clone()), (Some(false), Value::Null));
    server.put_rule("c", &json!({"key": "campaign:1", "limit": 4, "window": "24h"}));
    assert_eq!((cap()["capped"].as_bool(), cap()["count"].as_u64()), (Some(true), Some(5)));
    assert_eq!(cap()["capped_until"], now - 3 * 5 * 3_600_000 + DAY);
    assert_eq!(server.ok("/users/u/caps")["caps"][0]["rule"], "c");
    server.put_rule("c", &json!({"key": "campaign:1", "limit": 6, "window": "24h"}));
    assert_eq!((cap()["capped"].as_bool(), cap()["remaining"].as_u64()), (Some(false), Some(1)));
    server.put_rule("free", &json!({"key": "campaign:1", "limit": null, "window": "24h"}));
    assert_eq!(cap()["rule"], Value::Null);
    assert_eq!(server.send("DELETE", "/rules/free", &[], None).0, 204);
    assert_eq!(cap()["rule"], "c");
}

#[test]
fn a_rule_that_reaches_further_back_lengthens_retention_and_says_from_when_it_is_whole() {
    let (_site, server) = Server::with(&["--retention", "7d"]);
    let old = json!({"user": "u", "da": "a", "ts": now_ms() - 10 * DAY});
    assert_eq!(server.count(&old)["result"], "late");
    let before = now_ms();
    let rule = server.put_rule("month", &json!({"key": "da:*", "limit": 100, "window": "30d"}));
    let complete_from = rule["complete_from"].as_u64().unwrap();
    assert!((before + 23 * DAY..=now_ms() + 23 * DAY).contains(&complete_from), "{rule}");
    assert_eq!(server.ok("/rules/month")["complete_from"], complete_from);
    assert_eq!(server.count(&old)["result"], "counted");
    // It stays so whatever else of the rule changes, and for every other rule that reaches as far.
    for (id, limit) in [("month", 50), ("other", 100)] {
        let rule = server.put_rule(id, &json!({"key": "da:*", "limit": limit, "window": "30d"}));
        assert_eq!(rule["complete_from"], complete_from, "{id}");
    }
    server.send("DELETE", "/rules/other", &[], None);
    let shorter = server.put_rule("week", &json!({"key": "da:*", "limit": 100, "window": "7d"}));
    assert!(shorter.get("complete_from").is_none(), "{shorter}");
    server.send("DELETE", "/rules/month", &[], None);
    assert_eq!(server.count(&json!({"user": "v", "da": "a", "ts": now_ms() - 10 * DAY}))["result"], "late");
}

/// How many logs the rule change is tried over: the contract speaks of a million.
fn logs() -> usize {
    std::env::var("FREQCAP_RULE_LOGS").map_or(100_000, |logs| logs.parse().unwrap())
}

const CAMPAIGNS: usize = 10;

/// Makes so many logs: number n is that of user n / 10 and campaign n % 10, and holds one to three impressions.
fn fill(server: &Server, logs: usize) {
    let lines = |numbers: &[usize]| {
        let line = |n: &usize| {
            let (user, campaign) = (n / CAMPAIGNS, n % CAMPAIGNS);
            let line = json!({"user": format!("u{user}"), "da": "a", "keys": [format!("campaign:{campaign}")]});
            format!("{line}\n").repeat(1 + campaign % 3)
        };
        numbers.iter().map(line).collect::<String>()
    };
    let all: Vec<usize> = (0..logs).collect();
    for numbers in all.chunks(2_000) {
        let (status, answer) = server.post_lines(&lines(numbers));
        assert_eq!((status.as_u16(), answer["rejected"].as_u64()), (200, Some(0)), "{answer}");
    }
}

/// How many members each user must have in Redis under a limit on every campaign.
fn expected(logs: usize, limit: usize) -> BTreeMap<String, usize> {
    let mut caps = BTreeMap::new();
    for n in 0..logs {
        if 1 + (n % CAMPAIGNS) % 3 >= limit {
            *caps.entry(format!("u{}", n / CAMPAIGNS)).or_default() += 1;
        }
    }
    caps
}

/// How many members each user has in Redis; users whose impressions go on (`live-..`) left out.
fn held(redis: &Redis) -> BTreeMap<String, usize> {
    let mut connection = redis.connection();
    let names: Vec<String> = redis::cmd("KEYS").arg("cap:{u*").query(&mut connection).unwrap();
    let mut held = BTreeMap::new();
    for names in names.chunks(10_000) {
        let mut pipeline = redis::pipe();
        for name in names {
            pipeline.cmd("ZCARD").arg(name);
        }
        let counts: Vec<usize> = pipeline.query(&mut connection).unwrap();
        let users = names.iter().map(|name| name.trim_start_matches("cap:{").trim_end_matches('}').to_owned());
        held.extend(users.zip(counts).filter(|(_, count)| *count > 0));
    }
    held
}

/// Impressions of other users and reads of all, until told to stop; says how many calls there were.
fn traffic(url: &str, stop: &AtomicBool) -> usize {
    let http = crate::support::client();
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let event = |n: usize| json!({"user": format!("live-{}", n % 50), "da": "b", "keys": ["campaign:1"]});
        let events = json!((0..50).map(event).collect::<Vec<_>>());
        let post = http.post(format!("{url}/events")).header("content-type", "application/json");
        let read = http.get(format!("{url}/cap/u{}/a?key=campaign:1", calls % 1_000));
        for request in [post.body(events.to_string()), read] {
            let response = request.send().unwrap();
            assert_eq!(response.status(), 200, "{}", response.text().unwrap_or_default());
            calls += 1;
        }
    }
    calls
}

#[test]
fn redis_follows_a_change_of_rules_while_events_go_on_and_after_a_crash_half_way() {
    let redis = Redis::start();
    let site = Site::new(&["--redis", &redis.url(), "--limit", "none"]);
    let server = site.start();
    let logs = logs();
    fill(&server, logs);
    let follow = |server: &Server, limit: usize, since: Instant| {
        wait_for("the shards to be judged", || {
            let rule = server.ok("/rules/c");
            (rule["mirror"]["done"] == rule["mirror"]["total"]).then_some(())
        });
        let expected = expected(logs, limit);
        wait_for("Redis to hold exactly what the rule caps", || (held(&redis) == expected).then_some(()));
        println!("limit {limit}: {} caps of {logs} logs in {:?}", expected.values().sum::<usize>(), since.elapsed());
    };
    let (stop, url) = (AtomicBool::new(false), server.url.clone());
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&url, &stop));
        let rule = |limit: usize| json!({"key": "campaign:*", "limit": limit, "window": "1d"});
        for limit in [3, 2] {
            let start = Instant::now();
            server.put_rule("c", &rule(limit));
            follow(&server, limit, start);
        }
        // Back and forth before anything can have followed.
        let start = Instant::now();
        for limit in [1, 2, 3, 1, 3, 2, 3] {
            server.put_rule("c", &rule(limit));
        }
        follow(&server, 3, start);
        stop.store(true, Ordering::Relaxed);
        assert!(traffic.join().unwrap() > 0);
    });
    // Killed half way, and again.
    server.put_rule("c", &json!({"key": "campaign:*", "limit": 1, "window": "1d"}));
    wait_for("a part of the shards", || (server.ok("/rules/c")["mirror"]["done"].as_u64() > Some(20)).then_some(()));
    server.kill();
    let server = site.start();
    let start = Instant::now();
    follow(&server, 1, start);
    let (status, _, _) = server.send("DELETE", "/rules/c", &[], None);
    assert_eq!(status, 204);
    wait_for("nothing to be capped", || mirrored(&redis, true).is_empty().then_some(()));
    wait_for("the timers of what was capped to be gone", || {
        (server.metric("freqcap_rocksdb_rows_estimate{table=\"caps\"}") < 1_000.0).then_some(())
    });
}

#[test]
fn a_rule_changed_between_starts_reaches_shards_that_an_earlier_run_left_alone() {
    let redis = Redis::start();
    let url = redis.url();
    let mut site = Site::new(&["--redis", &url, "--limit", "2", "--window", "1d"]);
    let server = site.start();
    let seen = |times: usize| json!((0..times).map(|_| json!({"user": "u1", "da": "a"})).collect::<Vec<_>>());
    server.count(&seen(3));
    wait_for("the cap", || (mirrored(&redis, true).len() == 1).then_some(()));
    server.kill();
    // A run under another limit that may not have come round to judging everything, but has judged this log.
    site.flags[3] = "9".to_owned();
    let server = site.start();
    server.count(&seen(1));
    wait_for("the end of the cap", || mirrored(&redis, true).is_empty().then_some(()));
    server.kill();
    site.flags[3] = "2".to_owned();
    let server = site.start();
    wait_for("the cap again", || (mirrored(&redis, true).len() == 1).then_some(()));
    drop(server);
}

#[test]
fn a_frequency_cap_of_adcp_makes_two_rules_at_once() {
    let (_site, server) = Server::with(&["--limit", "none"]);
    let week = json!({"interval": 7, "unit": "days"});
    let body = json!({
        "key": "campaign:42",
        "frequency_cap": {"max_impressions": 3, "per": "individuals", "window": week, "suppress": {"interval": 60, "unit": "minutes"}}
    });
    let (status, etag, made) = server.send("PUT", "/rules/c", &[], Some(&body));
    assert_eq!((status.as_u16(), made["rules"].as_array().unwrap().len()), (201, 2), "{made}");
    let of = |rule: &Value| (rule["id"].clone(), rule["limit"].clone(), rule["window"].clone(), rule["key"].clone());
    assert_eq!(of(&server.ok("/rules/c")), (json!("c"), json!(3), json!("7d"), json!("campaign:42")));
    assert_eq!(
        of(&server.ok("/rules/c.suppress")),
        (json!("c.suppress"), json!(1), json!("60m"), json!("campaign:42"))
    );
    assert_eq!(server.send("PUT", "/rules/c", &[], Some(&body)).0, 200);
    // Both must allow an impression.
    let capped = || server.ok("/cap/u/1?key=campaign:42");
    assert_eq!(capped()["capped"], false);
    server.count(&json!({"user": "u", "da": "1", "keys": ["campaign:42"]}));
    assert_eq!((&capped()["capped"], &capped()["rule"]), (&json!(true), &json!("c.suppress")));
    // Without the pause its rule goes, in the same step.
    let without = json!({"key": "campaign:42", "frequency_cap": {"max_impressions": 3, "window": week}});
    assert_eq!(server.send("PUT", "/rules/c", &[("if-match", "\"0\"")], Some(&without)).0, 412);
    assert_eq!(server.ok("/rules/c.suppress")["limit"], 1);
    let matches = [("if-match", etag.as_deref().unwrap())];
    let (status, _, body) = server.send("PUT", "/rules/c", &matches, Some(&without));
    assert_eq!((status.as_u16(), body["rules"].as_array().unwrap().len()), (200, 1), "{body}");
    assert_eq!((server.get("/rules/c.suppress").0.as_u16(), &capped()["capped"]), (404, &json!(false)));
    // By POST, with an id or one made up.
    let ever = json!({"id": "ever", "key": "campaign:*", "frequency_cap": {"max_impressions": 9, "window": {"interval": 1, "unit": "campaign"}}});
    let (status, made) = server.post_json("/rules", &ever);
    assert_eq!(
        (status.as_u16(), &made["rules"][0]["id"], &made["rules"][0]["window"]),
        (201, &json!("ever"), &json!("lifetime"))
    );
    let (status, made) =
        server.post_json("/rules", &json!({"key": "campaign:1", "frequency_cap": {"suppress_minutes": 5}}));
    assert_eq!((status.as_u16(), &made["rules"][0]["window"]), (201, &json!("5m")));
    assert!(made["rules"][0]["id"].as_str().unwrap().ends_with(".suppress"));
    // What cannot be enforced is refused whole.
    let ids = || -> Vec<Value> {
        server.ok("/rules")["rules"].as_array().unwrap().iter().map(|rule| rule["id"].clone()).collect()
    };
    let before = ids();
    for cap in [
        json!({"max_impressions": 3, "per": "households", "window": week}),
        json!({"max_impressions": 3, "window": {"interval": 1, "unit": "weeks"}}),
        json!({"max_impressions": 3, "window": week, "pacing": "even"}),
    ] {
        let body = json!({"key": "campaign:9", "frequency_cap": cap});
        for (status, problem) in [server.post_json("/rules", &body), {
            let (status, _, problem) = server.send("PUT", "/rules/x", &[], Some(&body));
            (status, problem)
        }] {
            assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("not_enforceable")), "{cap}");
        }
    }
    let too_many = json!({"key": "campaign:9", "frequency_cap": {"max_impressions": 100_000, "window": week, "suppress_minutes": 1}});
    let (status, problem) = server.post_json("/rules", &too_many);
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("limit_out_of_range")));
    let (status, _, problem) =
        server.send("PUT", "/rules/default", &[], Some(&json!({"key": "campaign:9", "frequency_cap": {}})));
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_frequency_cap")));
    assert_eq!(ids(), before, "nothing of it was made");
    let calls: Vec<_> =
        server.ok("/audit")["entries"].as_array().unwrap().iter().map(|line| line["call"].clone()).collect();
    assert_eq!(calls.iter().filter(|call| **call == json!("PUT /rules/c")).count(), 3, "a line a rule: {calls:?}");
}
