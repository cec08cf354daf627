//! A process with several units: seen from outside it is the same service.

use crate::support::mirrored::is_mirrored;
use crate::support::redis_server::Server as Redis;
use crate::support::shim::Shim;
use crate::support::{Server, Site, binary, now_ms, wait_for};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const UNITS: usize = 32;
const USERS: usize = 400;

fn site(flags: &[&str]) -> Site {
    Site::new(&[&["--units", "32"], flags].concat())
}

fn event(user: usize, n: usize, ts: u64) -> Value {
    json!({"user": format!("user-{user}"), "da": (n % 3).to_string(), "ts": ts, "id": format!("{user}-{n}"), "keys": ["campaign:1"]})
}

/// An event of each user.
fn round(n: usize, ts: u64) -> Value {
    (0..USERS).map(|user| event(user, n, ts)).collect()
}

fn count_of(server: &Server, user: usize, da: usize) -> u64 {
    server.ok(&format!("/cap/user-{user}/{da}"))["count"].as_u64().unwrap()
}

/// Runs a command that is to fail before it serves; its exit code and what it says.
fn refused(site: &Site) -> (Option<i32>, String) {
    let out = site.command().output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn cli(data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(binary()).args(args).arg("--data-dir").arg(data).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code(), said)
}

#[test]
fn what_32_units_acknowledged_is_counted_once_after_kill_9_again_and_again() {
    let site = site(&["--limit", "none", "--overlay-size", "16MiB"]);
    let ts = now_ms();
    for n in 0..6 {
        let server = site.start();
        let answer = server.count(&round(n, ts));
        assert_eq!((&answer["counted"], &answer["unavailable"]), (&json!(USERS), &Value::Null));
        server.kill();
    }
    let dirs =
        std::fs::read_dir(site.data().join("units")).unwrap().filter(|dir| dir.as_ref().unwrap().path().is_dir());
    let names: BTreeSet<_> = dirs.map(|dir| dir.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, (0..UNITS).map(|unit| format!("p-{unit:03}")).collect());
    let server = site.start();
    for user in 0..USERS {
        assert_eq!([0, 1, 2].map(|da| count_of(&server, user, da)), [2, 2, 2], "user-{user}");
    }
    assert_eq!(server.count(&round(5, ts))["duplicate"], json!(USERS), "each is known");
    // Ended in order, every store is closed and opened as it was.
    assert!(server.terminate().success());
    let server = site.start();
    assert!((0..USERS).all(|user| count_of(&server, user, 1) == 2));
}

#[test]
fn a_batch_is_split_over_the_units_and_its_answer_is_that_of_one() {
    let flags = ["--limit", "2", "--window", "5d"];
    let (_several, several) = Server::with(&[&["--units", "32"], &flags[..]].concat());
    let (_one, one) = Server::with(&[&["--units", "1"], &flags[..]].concat());
    let ts = now_ms();
    for n in [0, 3, 6] {
        let mut events = round(n, ts).as_array().unwrap().clone();
        events[7] = json!({"user": "user-7"});
        events[301] = json!({"user": "", "da": "1"});
        events[20]["user"] = json!("null");
        events[21] = events[22].clone();
        events[23]["ts"] = json!(ts - 30 * 86_400_000);
        let (answer, expected) = (several.count(&json!(events)), one.count(&json!(events)));
        assert_eq!(answer, expected, "{n}");
        assert_eq!(
            answer["errors"].as_array().unwrap().iter().map(|error| &error["index"]).collect::<Vec<_>>(),
            [7, 301]
        );
        assert_eq!(answer["capped"].as_array().unwrap().len() > USERS / 2, n == 3);
    }
    for user in ["user-0", "user-22", "user-399", "unknown"] {
        for path in [format!("/cap/{user}/0"), format!("/users/{user}/caps")] {
            assert_eq!(several.ok(&path), one.ok(&path), "{path}");
        }
        let call = json!({"user": user, "candidates": ["0", "1", "new"], "want": 2, "id": "r", "ttl": "1h"});
        let das = |server: &Server| -> Vec<Value> {
            let answer = server.call("/reserve", &call);
            answer["reserved"].as_array().unwrap().iter().map(|one| one["da"].clone()).collect()
        };
        assert_eq!(das(&several), das(&one), "{user}");
        let body = json!({"user": user, "id": "r"});
        assert_eq!(several.call("/release", &body), one.call("/release", &body));
    }
    let (status, body) = several.get("/healthz");
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("ok")));
    assert_eq!(several.ok("/status")["units"], json!(32));
}

#[test]
fn a_rule_is_in_force_for_every_user_once_it_is_answered_and_stays_so() {
    let site = site(&["--limit", "none"]);
    let server = site.start();
    let ts = now_ms();
    (0..3).for_each(|n| drop(server.count(&round(3 * n, ts))));
    let capped =
        |server: &Server| (0..USERS).filter(|user| server.ok(&format!("/cap/user-{user}/0"))["capped"] == true).count();
    assert_eq!(capped(&server), 0);
    let rule = json!({"key": "da:*", "kind": "impression", "limit": 3, "window": "5d"});
    let made = server.put_rule("r", &rule);
    assert_eq!((capped(&server), &made["mirror"]["total"]), (USERS, &json!(256)));
    server.kill();
    let server = site.start();
    assert_eq!(capped(&server), USERS);
    let (_, etag, _) = server.send("GET", "/rules/r", &[], None);
    wait_for("every shard to be judged", || {
        let mirror = &server.ok("/rules/r")["mirror"];
        (mirror["done"] == mirror["total"]).then_some(())
    });
    // A change in every unit is one change of the rules, and one line of the audit.
    let weaker = json!({"key": "da:*", "kind": "impression", "limit": 4, "window": "5d"});
    let old = [("if-match", "\"0\"")];
    assert_eq!(server.send("PUT", "/rules/r", &old, Some(&weaker)).0, 412);
    assert_eq!(server.send("PUT", "/rules/r", &[("if-match", etag.as_deref().unwrap())], Some(&weaker)).0, 200);
    assert_eq!(capped(&server), 0);
    assert_eq!(server.send("DELETE", "/rules/r", &[], None).0, 204);
    let lines = server.ok("/audit")["entries"].as_array().unwrap().clone();
    let calls: Vec<_> = lines.iter().map(|line| line["call"].as_str().unwrap()).collect();
    assert_eq!(calls, ["DELETE /rules/r", "PUT /rules/r", "PUT /rules/r"]);
    assert!(server.terminate().success());
    assert_eq!(site.start().get("/rules/r").0, 404);
}

#[test]
fn the_audit_of_all_units_is_one_list_by_time() {
    let (_site, server) = Server::with(&["--units", "32"]);
    server.count(&round(0, now_ms()));
    let rule = json!({"key": "da:*", "kind": "impression", "limit": 3, "window": "5d"});
    for user in 0..40 {
        assert_eq!(server.send("DELETE", &format!("/users/user-{user}"), &[], None).0, 200);
        if user % 10 == 0 {
            server.put_rule(&format!("r{user}"), &rule);
        }
    }
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.ok(&format!("/audit?limit=7{cursor}"));
        read.extend(page["entries"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(read.len(), 44);
    assert!(read.is_sorted_by_key(|line| std::cmp::Reverse(line["at"].as_u64().unwrap())));
    let units: BTreeSet<_> = read.iter().map(|line| line["unit"].as_str().unwrap().to_owned()).collect();
    assert!(units.len() > 10 && units.contains("p-000"), "{units:?}");
    for wrong in ["1", "1.2", "x"] {
        let (status, problem) = server.get(&format!("/audit?cursor={wrong}"));
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_cursor")), "{wrong}");
    }
    // An erased user is gone, and its neighbours are not.
    assert_eq!((count_of(&server, 3, 0), count_of(&server, 40, 0)), (0, 1));
}

#[test]
fn redis_holds_exactly_the_caps_of_all_units_with_a_marker_and_an_owner_each() {
    for layout in ["zset", "string"] {
        let redis = Redis::start();
        let url = redis.url();
        let flags = ["--limit", "2", "--window", "5d", "--redis", &url, "--redis-layout", layout];
        let site = site(&flags);
        let server = site.start();
        let users: BTreeSet<String> = (0..USERS).map(|user| format!("user-{user}")).collect();
        let ts = now_ms();
        server.count(&round(0, ts));
        server.count(&round(3, ts));
        let caps = is_mirrored(&server, &redis, layout == "zset", &users);
        assert_eq!(caps.len(), USERS);
        for unit in [0, 17, 31] {
            assert!(redis.run::<bool>(&format!("EXISTS freqcap:cap::seq:{unit}")));
            assert!(redis.run::<bool>(&format!("EXISTS freqcap:cap::owner:{unit}")));
        }
        assert!(!redis.run::<bool>("EXISTS freqcap:cap::seq"));
        let live = |server: &Server| {
            wait_for("the mirror to be live", || (server.ok("/status")["mirror"]["state"] == "live").then_some(()));
        };
        live(&server);
        // Another store must not think that nobody has the prefix.
        let alone = Site::new(&["--units", "1", "--redis", &url, "--redis-layout", layout]);
        let other = alone.start();
        wait_for("the other to find it taken", || (other.ok("/status")["mirror"]["state"] == "foreign").then_some(()));
        other.kill();
        server.kill();
        // What Redis lost is sent again, and what nobody wrote is removed; all names are read for all units together.
        let stray =
            if layout == "zset" { "ZADD cap:{stray} 9999999999999 da:1" } else { "SET cap:{stray}:da:1 9999999999999" };
        redis.run::<String>("FLUSHDB");
        redis.run::<redis::Value>(stray);
        redis.run::<String>("CONFIG RESETSTAT");
        let server = site.start();
        is_mirrored(&server, &redis, layout == "zset", &users);
        live(&server);
        assert!(redis.run::<Vec<String>>("KEYS cap:{stray}*").is_empty());
        let scans = scans(&redis);
        assert!((1..=3 * 8).contains(&scans), "{scans} calls of SCAN, not 32 passes over the names");
        assert_eq!(server.ok("/status")["mirror"]["full_passes"]["missing"], json!(32));
        assert!(server.terminate().success());
    }
}

fn scans(redis: &Redis) -> u64 {
    let stats = redis.run::<String>("INFO commandstats");
    let calls =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_scan:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[test]
fn the_number_of_units_of_a_directory_never_changes() {
    let mut site = site(&[]);
    site.start().kill();
    for units in ["1", "8", "64"] {
        site.flags[1] = units.to_owned();
        let (code, said) = refused(&site);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("was made with --units 32, which never changes"), "{said}");
    }
    site.flags[1] = "32".to_owned();
    std::fs::rename(site.data().join("units/p-009"), site.dir.path().join("away")).unwrap();
    let (code, said) = refused(&site);
    assert!(code == Some(2) && said.contains("p-009 is not there"), "{said}");
    std::fs::rename(site.dir.path().join("away"), site.data().join("units/p-009")).unwrap();
    site.start().kill();

    let mut one = Site::new(&["--units", "1"]);
    one.start().kill();
    assert!(!one.data().join("units").exists());
    one.flags[1] = "2".to_owned();
    let (code, said) = refused(&one);
    assert!(code == Some(2) && said.contains("was made with --units 1, which never changes"), "{said}");
}

#[test]
fn a_number_of_units_that_cannot_be_is_refused() {
    for units in ["0", "3", "512", "x"] {
        let (code, said) = refused(&Site::new(&["--units", units]));
        assert!(code == Some(2) && said.contains("is not a power of two from 1 to 256"), "{said}");
    }
    let (code, said) = refused(&Site::new(&["--units", "2", "--snapshots", "file:///tmp/none"]));
    assert!(code == Some(2) && said.contains("--snapshots: ") && said.contains("several units"), "{said}");
    let (code, said) = refused(&Site::new(&["--units", "256", "--memory", "128MiB"]));
    assert!(code == Some(2) && said.contains("--units 256"), "{said}");
}

#[test]
fn the_commands_on_a_directory_work_over_all_its_units() {
    let site = site(&["--limit", "none"]);
    let server = site.start();
    server.count(&round(0, now_ms()));
    let (code, said) = cli(&site.data(), &["verify"]);
    assert!(code == Some(2) && said.contains("is in use by"), "{said}");
    assert!(cli(&site.data(), &["clock", "accept"]).1.contains("believes its clock"));
    assert!(server.terminate().success());
    let (code, said) = cli(&site.data(), &["verify", "--json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    let rows = |name: &str| {
        found["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap()["rows"].clone()
    };
    assert_eq!((code, &found["whole"], rows("logs")), (Some(0), &json!(true), json!(2 * USERS)));
    let (code, said) = cli(&site.data(), &["compact", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(0) && report["after"].as_u64() > Some(0), "{said}");
    // A damaged unit is named, and nothing of the others is served without it.
    let (file, away) = (newest_table(&site.data().join("units/p-005")), site.dir.path().join("away"));
    std::fs::rename(&file, &away).unwrap();
    for command in ["verify", "repair"] {
        let (code, said) = cli(&site.data(), &[command]);
        assert!(code == Some(1) && said.contains("p-005: "), "{said}");
    }
    let (code, said) = refused(&site);
    assert!(code == Some(2) && said.contains("units/p-005 is damaged"), "{said}");
    std::fs::rename(&away, &file).unwrap();
    let (code, said) = cli(&site.data(), &["repair", "--yes"]);
    assert!(code == Some(0), "{said}");
    let server = site.start();
    assert!((0..USERS).all(|user| count_of(&server, user, 0) == 1));
}

fn newest_table(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "sst")).max().unwrap()
}

#[test]
fn one_unit_that_fails_makes_the_process_unhealthy() {
    let (shim, site) = (Shim::new(), site(&[]));
    let server = shim.start(&site);
    server.count(&round(0, now_ms()));
    assert_eq!(server.get("/healthz").0, 200);
    shim.hang_syncs(true);
    // One event: one unit waits for its sync.
    let (http, url) = (crate::support::client(), format!("{}/events", server.url));
    let waits = std::thread::spawn(move || {
        let body = r#"{"user":"user-1","da":"1"}"#;
        let _ = http.post(url).header("content-type", "application/json").body(body).send();
    });
    wait_for("an unhealthy process", || (server.get("/healthz").1["code"] == "sync_hangs").then_some(()));
    // The others are read all the same.
    assert_eq!(count_of(&server, 2, 0), 1);
    shim.hang_syncs(false);
    wait_for("a healthy process", || (server.get("/healthz").0 == 200).then_some(()));
    waits.join().unwrap();
}

#[cfg(feature = "kafka")]
#[test]
fn what_comes_from_kafka_is_counted_once_by_32_units_whatever_is_killed() {
    use crate::kafka::world::{TOPIC, caught_up, make_topic, produce, record};
    use crate::support::kafka_broker::Broker;
    const ROUND: usize = 6_000;
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 3);
    let kafka = ["--kafka-brokers", &broker.bootstrap(), "--kafka-topic", TOPIC, "--kafka-from", "earliest"];
    let site = site(&[&kafka[..], &["--limit", "none", "--history-limit", "60000"]].concat());
    let (ts, mut expected) = (now_ms(), BTreeMap::<usize, u64>::new());
    for round in 0..3 {
        let mut records = Vec::new();
        for n in round * ROUND..(round + 1) * ROUND {
            let user = (n.wrapping_mul(0x9E37_79B9) >> 7) % USERS;
            *expected.entry(user).or_default() += 1;
            // Without an id: nothing else would tell a second time.
            let user = format!("user-{user}");
            records.push(record(user.clone(), json!({"user": user, "da": "0", "ts": ts}).to_string()));
        }
        produce(&broker, TOPIC, records);
        let (server, enough) = (site.start(), (200 + 900 * round) as f64);
        wait_for("events", || (server.metric("freqcap_events_total{result=\"counted\"}") >= enough).then_some(()));
        server.kill();
    }
    let server = site.start();
    caught_up(&server);
    for (user, count) in expected {
        assert_eq!(count_of(&server, user, 0), count, "user-{user}");
    }
    assert_eq!(server.metric("freqcap_events_total{result=\"duplicate\"}"), 0.0, "an event was taken a second time");
}
