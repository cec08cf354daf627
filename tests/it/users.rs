//! What is held about a user, and that it can be forgotten for good.

use crate::support::mirrored::mirrored;
use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};

const DAY: u64 = 86_400_000;

#[test]
fn everything_held_about_a_user_is_told_and_explains_a_cap() {
    let (_site, server) = Server::with(&["--limit", "2", "--window", "5d"]);
    server.put_rule("c", &json!({"key": "campaign:*", "limit": 9, "window": "1d"}));
    let now = now_ms();
    let [old, new] = [now - 2 * DAY, now - 60_000];
    let event = |ts: u64, id: Option<&str>| json!({"user": "u", "da": "a", "ts": ts, "id": id, "keys": ["campaign:1"]});
    server.count(&json!([event(old, Some("x")), event(new, None), {"user": "u", "da": "a", "kind": "click"}]));
    let answer = server.call("/reserve", &json!({"user": "u", "candidates": ["b"], "id": "r"}));
    let expires_at = answer["reserved"][0]["expires_at"].as_u64().unwrap();
    let held = server.ok("/users/u");
    assert_eq!((&held["user"], &held["cursor"]), (&json!("u"), &Value::Null));
    let logs = held["logs"].as_array().unwrap();
    let keys: Vec<_> = logs.iter().map(|log| log["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["da:a", "da:b", "campaign:1"]);
    let kinds = logs[0]["kinds"].as_array().unwrap();
    assert_eq!((&kinds[0]["kind"], &kinds[1]["kind"]), (&json!("impression"), &json!("click")));
    let events = kinds[0]["events"].as_array().unwrap();
    assert_eq!((events[0]["ts"].as_u64(), events[1]["ts"].as_u64()), (Some(old), Some(new)));
    assert_eq!((events[0]["hash"].as_str().unwrap().len(), &events[1]["hash"]), (16, &Value::Null));
    // The cap ends when the event that it names leaves.
    let until = server.ok("/cap/u/a")["capped_until"].as_u64().unwrap();
    assert_eq!(events[0]["leaves"], json!([{"rule": "default", "at": until}]));
    // The older event has left the campaign's window already.
    let campaign = logs[2]["kinds"][0]["events"].as_array().unwrap();
    assert_eq!((&campaign[0]["leaves"], &campaign[1]["leaves"][0]["at"]), (&json!([]), &json!(new + DAY)));
    let reserved = &logs[1]["kinds"][0]["events"][0];
    assert_eq!((&reserved["expires_at"], &reserved["leaves"][0]["at"]), (&json!(expires_at), &json!(expires_at)));
    assert_eq!((&held["calls"][0]["id"], &held["calls"][0]["das"]), (&json!("r"), &json!(["b"])));
    assert_eq!(server.ok("/users/nobody"), json!({"user": "nobody", "logs": [], "calls": [], "cursor": null}));
}

#[test]
fn what_is_held_is_told_page_by_page() {
    let (_site, server) = Server::with(&[]);
    let event = |n: usize| json!({"user": "a/b", "da": format!("{n}%&é"), "keys": [format!("c:{n}")]});
    server.count(&json!((0..25).map(event).collect::<Vec<_>>()));
    for n in 0..6 {
        server.call("/reserve", &json!({"user": "a/b", "candidates": ["0%&é"], "id": format!("{n}/é")}));
    }
    let (mut keys, mut path, mut pages) = (Vec::new(), "/users/a%2Fb?limit=7".to_owned(), 0);
    loop {
        let page = server.ok(&path);
        pages += 1;
        let list = |name: &str| page[name].as_array().unwrap().clone();
        keys.extend(list("logs").iter().map(|log| log["key"].as_str().unwrap().to_owned()));
        keys.extend(list("calls").iter().map(|call| call["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        assert_eq!(list("logs").len() + list("calls").len(), 7);
        let cursor: String = cursor.bytes().map(|byte| format!("%{byte:02X}")).collect();
        path = format!("/users/a%2Fb?limit=7&cursor={cursor}");
    }
    assert_eq!((pages, keys.len()), (8, 56));
    let all: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(all.len(), 56);
    for bad in ["limit=0", "limit=1001", "limit=x", "cursor=nonsense"] {
        assert_eq!(server.get(&format!("/users/u?{bad}")).0, 422, "{bad}");
    }
}

#[test]
fn an_erased_user_is_gone_from_everywhere_and_no_replay_brings_them_back() {
    let redis = Redis::start();
    let site = Site::new(&["--redis", &redis.url(), "--limit", "2"]);
    let server = site.start();
    let now = now_ms();
    // Enough to be removed as a range, and a few beside: users whose names begin alike.
    let events = |user: &str, count: usize| -> Value {
        let event = |n: usize| json!({"user": user, "da": (n / 3).to_string(), "ts": now - 1_000, "id": n.to_string()});
        json!((0..count).map(event).collect::<Vec<_>>())
    };
    for (user, count) in [("u1", 600), ("u10", 30), ("u", 30)] {
        server.count(&events(user, count));
    }
    server.call("/reserve", &json!({"user": "u1", "candidates": ["new"], "id": "r"}));
    let caps = |user: &str| mirrored(&redis, true).keys().filter(|(of, _)| of == user).count();
    wait_for("Redis", || ((caps("u1"), caps("u10"), caps("u")) == (200, 10, 10)).then_some(()));
    let (status, _, receipt) = server.send("DELETE", "/users/u1", &[], None);
    assert_eq!(status, 200);
    for (field, value) in [("user", json!("u1")), ("logs", json!(201)), ("events", json!(600)), ("caps", json!(200))] {
        assert_eq!(receipt[field], value, "{field}");
    }
    assert_eq!((&receipt["reservations"], &receipt["calls"]), (&json!(1), &json!(1)));
    let until = receipt["erased_until"].as_u64().unwrap();
    assert!((now..=now_ms()).contains(&until));
    let is_gone = |server: &Server| {
        assert_eq!(server.ok("/users/u1")["logs"], json!([]));
        assert_eq!(server.ok("/users/u1/caps")["caps"], json!([]));
        assert_eq!(server.ok("/cap/u1/0")["count"], 0);
        let replayed = server.count(&events("u1", 600));
        assert_eq!(
            (&replayed["erased"], &replayed["counted"], &replayed["duplicate"]),
            (&json!(600), &json!(0), &json!(0))
        );
        let confirm = json!({"user": "u1", "da": "new", "id": "r", "ts": until});
        assert_eq!(server.count(&confirm)["result"], "erased");
        assert_eq!(server.call("/release", &json!({"user": "u1", "id": "r"}))["released"], 0);
        wait_for("Redis to forget", || ((caps("u1"), caps("u10"), caps("u")) == (0, 10, 10)).then_some(()));
    };
    is_gone(&server);
    assert_eq!(server.ok("/cap/u10/0")["count"], 3);
    server.kill();
    let server = site.start();
    is_gone(&server);
    // Whoever comes back counts from then on.
    let back = server.count(&json!({"user": "u1", "da": "0", "ts": until + 1}));
    assert_eq!((&back["result"], &back["cap"]["count"]), (&json!("counted"), &json!(1)));
    assert_eq!(server.count(&json!({"user": "u1", "da": "0"}))["cap"]["count"], 2);
    wait_for("the new cap", || (caps("u1") == 1).then_some(()));
    assert_eq!(server.metric("freqcap_rocksdb_rows_estimate{table=\"erased\"}"), 1.0);
    let (status, _, nobody) = server.send("DELETE", "/users/nobody", &[], None);
    assert_eq!((status.as_u16(), &nobody["logs"]), (200, &json!(0)));
}

#[test]
fn whoever_comes_back_after_the_answer_counts() {
    let (_site, server) = Server::with(&["--limit", "none", "--storage", "memory"]);
    for n in 0..200 {
        let (status, _, _) = server.send("DELETE", "/users/u", &[], None);
        assert_eq!(status, 200);
        let back = server.count(&json!({"user": "u", "da": "a"}));
        assert_eq!((&back["result"], &back["cap"]["count"]), (&json!("counted"), &json!(1)), "round {n}");
    }
}

/// The data directory does not say who was erased.
#[test]
fn a_tombstone_does_not_name_whom_it_is_for() {
    let site = Site::new(&["--durability", "wal"]);
    let server = site.start();
    let name = "a-name-nobody-else-has";
    server.send("DELETE", &format!("/users/{name}"), &[], None);
    assert_eq!(server.count(&json!({"user": name, "da": "a", "ts": now_ms() - 60_000}))["result"], "erased");
    server.terminate();
    for file in std::fs::read_dir(site.data()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()));
    }
}

#[test]
fn erasing_while_events_of_the_user_pour_in_leaves_only_what_came_after() {
    let (_site, server) = Server::with(&["--limit", "none", "--durability", "wal"]);
    let url = server.url.clone();
    let posts = 200;
    let erased_until = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let http = crate::support::client();
            for n in 0..posts {
                let event = json!({"user": "u", "da": "a", "id": n.to_string(), "ts": now_ms()});
                let request = http.post(format!("{url}/events")).header("content-type", "application/json");
                assert_eq!(request.body(event.to_string()).send().unwrap().status(), 200);
            }
        });
        let mut last = 0;
        while !sender.is_finished() {
            let (status, _, receipt) = server.send("DELETE", "/users/u", &[], None);
            assert_eq!(status, 200);
            last = receipt["erased_until"].as_u64().unwrap();
        }
        sender.join().unwrap();
        last
    });
    let held = server.ok("/users/u");
    for event in held["logs"][0]["kinds"][0]["events"].as_array().into_iter().flatten() {
        assert!(event["ts"].as_u64().unwrap() > erased_until, "{event}");
    }
}

/// Counts `ads` events of one user, each of an ad and a campaign of its own.
fn count_ads(server: &Server, ads: usize) {
    for first in (0..ads).step_by(10_000) {
        let line = |n: usize| format!("{{\"user\":\"u\",\"da\":\"{n:06}\",\"keys\":[\"c:{}\"]}}\n", n % 10);
        let (status, body) = server.post_lines(&(first..(first + 10_000).min(ads)).map(line).collect::<String>());
        assert_eq!(status, 200, "{body}");
    }
}

#[test]
fn the_caps_and_pages_of_a_user_with_very_many_ads_are_whole_and_in_order() {
    const ADS: usize = 30_000;
    let (_site, server) = Server::with(&["--limit", "1"]);
    server.put_rule("c", &json!({"key": "c:*", "limit": 9, "window": "1d"}));
    server.put_rule("z", &json!({"key": "z:*", "limit": 1, "window": "1d"}));
    server.count(&json!([{"user": "u", "da": "000000", "keys": ["z:1"]}]));
    count_ads(&server, ADS);
    let caps = server.ok("/users/u/caps")["caps"].as_array().unwrap().clone();
    let keys: Vec<_> = caps.iter().map(|cap| cap["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!((keys.len(), keys[0].as_str(), keys[ADS + 10].as_str()), (ADS + 11, "c:0", "z:1"));
    assert!(keys.is_sorted());
    let (mut path, mut logs) = ("/users/u?limit=1000".to_owned(), 0);
    loop {
        let page = server.ok(&path);
        logs += page["logs"].as_array().unwrap().len();
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/users/u?limit=1000&cursor={cursor}");
    }
    assert_eq!(logs, ADS + 11);
}

#[test]
fn reads_are_let_in_by_the_memory_that_they_take() {
    let (_site, server) = Server::with(&["--limit", "1", "--read-memory", "1MiB"]);
    count_ads(&server, 10_000);
    let (status, body) = server.get("/users/u/caps");
    assert_eq!(status, 200, "{body}");
    count_ads(&server, 30_000);
    // However long anybody waits, there will not be room for it.
    let (status, problem) = server.get("/users/u/caps");
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("answer_too_large")), "{problem}");
    assert_eq!(server.ok("/users/u?limit=500")["logs"].as_array().unwrap().len(), 500);
    // What was taken is given back, also where it was not enough.
    for _ in 0..20 {
        server.get("/users/u/caps");
        server.ok("/users/u?limit=1000");
    }
}

/// Clients that ask for much and read nothing hold what there is: others are told so at once, and small reads go on.
#[test]
fn answers_that_nobody_reads_hold_no_more_than_the_memory_for_reads() {
    use std::io::{Read, Write};
    let (_site, server) = Server::with(&["--limit", "1", "--read-memory", "32MiB"]);
    // Answers of 14 MB: far more than the system takes off the server's hands.
    let line = |n: usize| format!("{{\"user\":\"u\",\"da\":\"{n:06}{}\"}}\n", "x".repeat(200));
    for first in (0..50_000).step_by(10_000) {
        assert_eq!(server.post_lines(&(first..first + 10_000).map(line).collect::<String>()).0, 200);
    }
    let slow = || {
        let mut stream = std::net::TcpStream::connect(server.addr()).unwrap();
        stream.write_all(b"GET /users/u/caps HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8_lossy(&status[9..]).into_owned())
    };
    let held: Vec<_> = (0..12).map(|_| slow()).collect();
    let with = |status: &str| held.iter().filter(|(_, told)| told == status).count();
    assert!(with("200") >= 1 && with("503") >= 1 && with("200") + with("503") == 12, "{} {}", with("200"), with("503"));
    assert_eq!(server.ok(&format!("/cap/u/000001{}", "x".repeat(200)))["capped"], true);
    let response = server.http.get(format!("{}/users/u/caps", server.url)).send().unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    drop(held);
    wait_for("the memory of who has gone", || (server.get("/users/u/caps").0 == 200).then_some(()));
}
