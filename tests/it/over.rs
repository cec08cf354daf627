//! Over-delivery: events of keys that were capped when they happened, each with its cause.

use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CAUSES: [&str; 7] = ["in_flight", "mirror", "ignored", "lapsed", "rule_change", "backfill", "unknown"];

fn start(flags: &[&str]) -> (Site, Server) {
    Server::with(&[&["--limit", "2", "--window", "1d"], flags].concat())
}

/// Counts an event; why it was over, if it was.
fn cause(server: &Server, event: &Value) -> Option<String> {
    let answer = server.count(event);
    assert_eq!(answer["result"], "counted", "{answer}");
    answer["over"][0]["cause"].as_str().map(str::to_owned)
}

fn is(cause: &str) -> Option<String> {
    Some(cause.to_owned())
}

/// What is over, by cause, as the summary, the list and the metrics tell it: all three alike, and all of it.
fn by_cause(server: &Server) -> BTreeMap<String, u64> {
    let summary = server.ok("/over/summary?by=cause");
    let groups = summary["by"].as_array().unwrap();
    let told: BTreeMap<String, u64> = groups
        .iter()
        .map(|group| (group["cause"].as_str().unwrap().to_owned(), group["over"].as_u64().unwrap()))
        .collect();
    assert_eq!(told.values().sum::<u64>(), summary["over"].as_u64().unwrap(), "{summary}");
    for by in ["rule", "key", "hour"] {
        let other = server.ok(&format!("/over/summary?by={by}"));
        assert_eq!(other["over"], summary["over"], "{by}");
        let sum: u64 = other["by"].as_array().unwrap().iter().map(|group| group["over"].as_u64().unwrap()).sum();
        assert_eq!(json!(sum), summary["over"], "{by}");
    }
    let mut listed = BTreeMap::new();
    let mut path = "/over?limit=7".to_owned();
    loop {
        let page = server.ok(&path);
        for event in page["events"].as_array().unwrap() {
            *listed.entry(event["cause"].as_str().unwrap().to_owned()).or_default() +=
                event["events"].as_u64().unwrap();
        }
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("/over?limit=7&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, told);
    told
}

fn metric(server: &Server, cause: &str) -> f64 {
    let text = server.http.get(format!("{}/metrics", server.url)).send().unwrap().text().unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("freqcap_over_delivered_total{"));
    let line = lines.find(|line| line.contains("rule=\"default\"") && line.contains(&format!("cause=\"{cause}\"")));
    line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[test]
fn an_event_of_a_capped_key_is_told_with_its_cause() {
    let (_site, server) = start(&[]);
    let t = now_ms() - 60_000;
    let event = |ts: u64, id: &str| json!({"user": "u", "da": "1", "ts": ts, "id": id});
    assert_eq!(cause(&server, &event(t, "a")), None);
    assert_eq!(cause(&server, &event(t + 1, "b")), None);
    // It happened before the cap could be known, though it comes after it.
    let answer = server.count(&event(t + 2, "c"));
    let delay = answer["over"][0]["delay_ms"].as_u64().unwrap();
    assert!((50_000..600_000).contains(&delay), "{answer}");
    assert_eq!(
        answer["over"],
        json!([{"key": "da:1", "rule": "default", "cause": "in_flight", "count": 2, "limit": 2, "delay_ms": delay}])
    );
    // Now, anybody could have asked.
    let capped_at = now_ms() + 1;
    wait_for("the next millisecond", || (now_ms() > capped_at).then_some(()));
    assert_eq!(cause(&server, &json!({"user": "u", "da": "1"})), is("ignored"));
    // A duplicate, an event from before the cap, and one of another kind are not over.
    assert_eq!(server.count(&event(t + 2, "c")), json!({"result": "duplicate", "cap": server.ok("/cap/u/1")}));
    assert_eq!(cause(&server, &event(t - 1, "early")), None);
    assert_eq!(cause(&server, &json!({"user": "u", "da": "1", "kind": "click"})), None);
    assert_eq!(by_cause(&server), BTreeMap::from([("ignored".to_owned(), 1), ("in_flight".to_owned(), 1)]));
    assert_eq!((metric(&server, "ignored"), metric(&server, "in_flight"), metric(&server, "unknown")), (1.0, 1.0, 0.0));
    let summary = server.ok("/over/summary");
    assert_eq!((&summary["impressions"], &summary["over"]), (&json!(6), &json!(2)));
    assert!((summary["share"].as_f64().unwrap() - 2.0 / 6.0).abs() < 1e-9);
    assert_eq!(summary["by"], json!([{"rule": "default", "over": 2}]));
    assert_eq!(summary.get("other"), None);
    let listed = &server.ok("/over?cause=in_flight&rule=default&key=da:1")["events"][0];
    for (field, expected) in
        [("user", json!("u")), ("ts", json!(t + 2)), ("kind", json!("impression")), ("count", json!(2))]
    {
        assert_eq!(listed[field], expected, "{field}");
    }
    for nothing in ["cause=mirror", "rule=other", "key=da:2", &format!("since={}", now_ms() + 60_000)] {
        assert_eq!(server.ok(&format!("/over?{nothing}"))["events"], json!([]), "{nothing}");
    }
    for (query, code) in [
        ("/over?cause=bad", "invalid_cause"),
        ("/over?since=x", "invalid_since"),
        ("/over?limit=0", "invalid_limit"),
        ("/over?cursor=x", "invalid_cursor"),
        ("/over/summary?by=user", "invalid_by"),
    ] {
        assert_eq!(server.get(query).1["code"], code, "{query}");
    }
}

#[test]
fn a_batch_tells_which_of_its_events_were_over() {
    let (_site, server) = start(&[]);
    let events: Vec<Value> = (0..5).map(|_| json!({"user": "u", "da": "1"})).collect();
    let answer = server.count(&json!(events));
    let told: Vec<_> = answer["over"].as_array().unwrap().iter().map(|it| (&it["index"], &it["cause"])).collect();
    let expected = [2, 3, 4].map(|index| (json!(index), json!("in_flight")));
    assert_eq!(told, expected.iter().map(|(index, cause)| (index, cause)).collect::<Vec<_>>());
    assert_eq!(answer.get("over_omitted"), None);
    let answer = server.count(&json!((0..250).map(|_| json!({"user": "v", "da": "1"})).collect::<Vec<_>>()));
    assert_eq!((answer["over"].as_array().unwrap().len(), &answer["over_omitted"]), (100, &json!(148)));
    // Many at once share rows, and none is lost.
    assert_eq!(by_cause(&server), BTreeMap::from([("in_flight".to_owned(), 251)]));
    assert!(server.ok("/over?limit=1000")["events"].as_array().unwrap().len() < 40);
    assert_eq!(server.count(&json!([{"user": "w", "da": "1"}])).get("over"), None);
}

#[test]
fn what_is_over_outlives_restarts_and_goes_with_its_user() {
    let site = Site::new(&["--limit", "1", "--window", "1d"]);
    let server = site.start();
    for user in ["a", "b"] {
        server.count(&json!([{"user": user, "da": "1"}, {"user": user, "da": "1"}]));
    }
    server.kill();
    let server = site.start();
    server.count(&json!([{"user": "b", "da": "2"}, {"user": "b", "da": "2"}]));
    assert_eq!(by_cause(&server), BTreeMap::from([("in_flight".to_owned(), 3)]));
    assert_eq!(server.ok("/over/summary")["impressions"], 6);
    server.send("DELETE", "/users/b", &[], None);
    let left = server.ok("/over");
    let users: Vec<&Value> = left["events"].as_array().unwrap().iter().map(|event| &event["user"]).collect();
    assert_eq!(users, ["a"]);
}

#[test]
fn an_event_whose_reservation_lapsed_is_told_apart() {
    let (_site, server) = start(&[]);
    for (user, id, ttl) in [("u", "gone", "50ms"), ("v", "back", "1h"), ("w", "kept", "1h")] {
        let body = json!({"user": user, "id": id, "ttl": ttl, "candidates": ["1"]});
        assert_eq!(server.call("/reserve", &body)["reserved"][0]["da"], "1");
    }
    server.call("/release", &json!({"user": "v", "id": "back"}));
    wait_for("the reservation to lapse", || (server.ok("/cap/u/1")["count"] == 0).then_some(()));
    for user in ["u", "v"] {
        server.count(&json!([{"user": user, "da": "1"}, {"user": user, "da": "1"}]));
    }
    server.count(&json!({"user": "w", "da": "1"}));
    let capped_at = now_ms() + 1;
    wait_for("the next millisecond", || (now_ms() > capped_at).then_some(()));
    let event = |user: &str, id: &str| json!({"user": user, "da": "1", "id": id});
    assert_eq!(cause(&server, &event("u", "gone")), is("lapsed"));
    assert_eq!(cause(&server, &event("v", "back")), is("lapsed"));
    assert_eq!(cause(&server, &event("u", "another")), is("ignored"));
    // Its place was kept for it.
    assert_eq!(cause(&server, &event("w", "kept")), None);
    assert_eq!(cause(&server, &event("w", "late")), is("ignored"));
}

#[test]
fn an_event_from_before_a_rule_is_of_that_rule() {
    let (_site, server) = Server::with(&["--limit", "none"]);
    let t = now_ms() - 10_000;
    let event = |n: u64| json!({"user": "u", "da": "1", "ts": t + n});
    server.count(&json!([event(0), event(1), event(2)]));
    server.put_rule("late", &json!({"key": "da:*", "limit": 2, "window": "1d"}));
    wait_for("the cap", || (server.ok("/users/u/caps")["caps"] != json!([])).then_some(()));
    assert_eq!(cause(&server, &event(3)), is("rule_change"));
    wait_for("all shards", || {
        let rule = server.ok("/rules/late");
        (rule["mirror"]["done"] == rule["mirror"]["total"]).then_some(())
    });
    assert_eq!(cause(&server, &event(4)), is("rule_change"));
    let put_at = now_ms() + 1;
    wait_for("the next millisecond", || (now_ms() > put_at).then_some(()));
    assert_eq!(cause(&server, &json!({"user": "u", "da": "1"})), is("ignored"));
}

/// A Redis that lags, and ad servers that ignore caps: every event over the limit has a cause, and they add up.
#[test]
fn the_causes_add_up_to_what_is_over() {
    let redis = Redis::start();
    let (_site, server) = start(&["--redis", &redis.url()]);
    let mut over = 0;
    let caps = |user: &str| server.count(&json!([{"user": user, "da": "1"}, {"user": user, "da": "1"}]));
    caps("early");
    wait_for("Redis to have the cap", || {
        let mirror = server.ok("/status")["mirror"].clone();
        (mirror["sets"].as_u64() >= Some(1) && mirror["pending"] == 0).then_some(())
    });
    let told_at = now_ms() + 5;
    wait_for("a later time", || (now_ms() > told_at).then_some(()));
    assert_eq!(cause(&server, &json!({"user": "early", "da": "1"})), is("ignored"));
    over += 1;
    redis.signal("STOP");
    for n in 0..20 {
        let user = format!("u{n}");
        caps(&user);
        let capped_at = now_ms() + 1;
        wait_for("the next millisecond", || (now_ms() > capped_at).then_some(()));
        assert_eq!(cause(&server, &json!({"user": user, "da": "1"})), is("mirror"));
        assert_eq!(cause(&server, &json!({"user": user, "da": "1", "ts": now_ms() - 30_000})), None);
        over += 1;
    }
    let lagged_at = now_ms();
    redis.signal("CONT");
    wait_for("Redis to have all caps", || (server.ok("/status")["mirror"]["pending"] == 0).then_some(()));
    let told_at = now_ms() + 5;
    wait_for("a later time", || (now_ms() > told_at).then_some(()));
    for n in 0..20 {
        let user = format!("u{n}");
        assert_eq!(cause(&server, &json!({"user": user, "da": "1"})), is("ignored"));
        // It happened while Redis lagged, and comes only now.
        assert_eq!(cause(&server, &json!({"user": user, "da": "1", "ts": lagged_at})), is("mirror"));
        over += 2;
    }
    let told = by_cause(&server);
    assert_eq!(told.values().sum::<u64>(), over);
    assert_eq!(told, BTreeMap::from([("ignored".to_owned(), 21), ("mirror".to_owned(), 40)]));
    let measured: f64 = CAUSES.iter().map(|cause| metric(&server, cause)).sum();
    assert_eq!(measured, over as f64);
    assert_eq!(metric(&server, "unknown"), 0.0);
}
