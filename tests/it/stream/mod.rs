//! The stream of cap changes: whoever follows it has the caps.

mod measure;
mod reader;

use crate::access::world::{World, row};
use crate::support::{DEADLINE, Server, Site, client, now_ms, wait_for};
use freqcap::model::ShardId;
use reader::{Caps, Follower, Stream, ask, caps_of};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const USERS: u64 = 60;

fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(|user| format!("u{user}"))
}

fn shard(user: &str) -> u8 {
    ShardId::of_user(user.as_bytes()).0
}

/// Events of some users and ads, each another one.
fn events(from: u64, count: u64) -> Value {
    let event = |n: u64| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (user, da) = (format!("u{}", mixed % USERS), mixed / USERS % 7);
        json!({"user": user, "da": da.to_string(), "keys": [format!("campaign:{}", da % 2)], "id": n.to_string()})
    };
    (from..from + count).map(event).collect()
}

/// Applies what comes until the copy is what the service says.
fn follow_until_equal(follower: &mut Follower, stream: &Stream, server: &Server) {
    let start = Instant::now();
    loop {
        if let Some(line) = stream.try_next(Duration::from_millis(50)) {
            follower.apply(&line);
            continue;
        }
        let caps = caps_of(server, users());
        if follower.caps == caps {
            return;
        }
        assert!(start.elapsed() < 2 * DEADLINE, "{:#?}\n{:#?}", follower.caps, caps);
    }
}

#[test]
fn a_copy_that_follows_equals_the_caps_whoever_is_killed_meanwhile() {
    let site = Site::new(&["--limit", "3", "--window", "1d"]);
    let mut server = site.start();
    // Short enough to end during the test.
    let rule = json!({"key": "campaign:*", "limit": 4, "window": "2s"});
    server.put_rule("short", &rule);
    let (mut follower, mut sent) = (Follower::default(), 0);
    for round in 0..12 {
        let stream = follower.connect(&server, "");
        let before = follower.changes;
        while follower.changes < before + 40 {
            server.count(&events(sent, 40));
            sent += 40;
            while let Some(line) = stream.try_next(Duration::from_millis(2)) {
                follower.apply(&line);
            }
        }
        if round % 2 == 0 {
            follower.crash();
        }
        drop(stream);
        if round % 3 == 2 {
            server.kill();
            server = site.start();
        }
    }
    let stream = follower.connect(&server, "");
    follow_until_equal(&mut follower, &stream, &server);
    assert!(follower.caps.len() > 100, "{}", follower.caps.len());
    // Whoever resumes needs no second snapshot, not even after a crash of the service.
    assert_eq!((follower.snapshots, follower.resets.len()), (1, 0));
    // A rule that changes moves caps, too, and so does an erasure.
    server.send("DELETE", "/users/u1", &[], None);
    server.put_rule("more", &json!({"key": "da:*", "limit": 1, "window": "1d"}));
    follow_until_equal(&mut follower, &stream, &server);
    assert!(follower.caps.len() > 200, "{}", follower.caps.len());
    drop(stream);
    // A snapshot has the same.
    let mut other = Follower::default();
    let stream = other.connect(&server, "");
    follow_until_equal(&mut other, &stream, &server);
    assert_eq!(follower.caps, other.caps);
}

#[test]
fn a_copy_under_load_equals_the_caps_and_several_do_not_hinder_each_other() {
    let (_site, server) = Server::with(&["--limit", "3", "--window", "1d"]);
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (url, http) = (format!("{}/events", server.url), client());
            std::thread::spawn(move || {
                for round in 0..20 {
                    let body = events((writer << 40) + round * 200, 200).to_string();
                    let answer = http.post(&url).header("content-type", "application/json").body(body).send().unwrap();
                    assert_eq!(answer.status(), 200);
                }
            })
        })
        .collect();
    let queries = ["from=snapshot", "shards=0-127", "shards=128-255", "keys=da:*"];
    let mut followers: Vec<_> = queries.map(|query| (Follower::default(), query)).into();
    let streams: Vec<_> = followers.iter_mut().map(|(follower, query)| follower.connect(&server, query)).collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let caps = caps_of(&server, users());
    for ((follower, query), stream) in followers.iter_mut().zip(&streams) {
        let mut wanted: Caps = caps.clone();
        wanted.retain(|(user, _), _| match *query {
            "shards=0-127" => shard(user) < 128,
            "shards=128-255" => shard(user) >= 128,
            _ => true,
        });
        while follower.caps != wanted {
            follower.apply(&stream.next().unwrap());
        }
        assert!(!wanted.is_empty());
    }
}

#[test]
fn a_snapshot_has_all_caps_and_then_comes_what_changes() {
    let (_site, server) = Server::with(&["--limit", "1", "--window", "1d"]);
    let now = now_ms();
    server.count(&json!([{"user": "u1", "da": "1", "ts": now}, {"user": "u\"2", "da": "2", "ts": now}]));
    let stream = Stream::open(&server, "", None);
    assert_eq!(stream.next_event(), json!({"event": "snapshot_begin", "reason": "asked"}));
    let mut told = [stream.next_event(), stream.next_event()];
    told.sort_by_key(|line| line["key"].to_string());
    for (line, (user, key)) in told.iter().zip([("u1", "da:1"), ("u\"2", "da:2")]) {
        assert_eq!((&line["event"], &line["change"], &line["at"]), (&json!("cap"), &json!("capped"), &Value::Null));
        assert_eq!((&line["user"], &line["key"]), (&json!(user), &json!(key)));
        assert_eq!(line["capped_until"], now + 86_400_000);
        assert_eq!(line["seq"], format!("{}-1", shard(user)));
    }
    assert_eq!(stream.next_event(), json!({"event": "snapshot_end", "caps": 2}));
    let from_now = Stream::open(&server, "from=now", None);
    assert_eq!(from_now.next().unwrap()["event"], "checkpoint");
    server.count(&json!({"user": "u1", "da": "1", "ts": now + 1}));
    for stream in [&stream, &from_now] {
        let line = stream.next_event();
        let at = line["at"].as_u64().unwrap();
        assert!(at.abs_diff(now) < 600_000, "{line}");
        let expected = json!({
            "event": "cap", "user": "u1", "key": "da:1", "change": "extended", "capped_until": now + 86_400_001, "at": at,
            "seq": format!("{}-2", shard("u1")),
        });
        assert_eq!(line, expected);
    }
    server.send("DELETE", "/users/u1", &[], None);
    let line = from_now.next_event();
    assert_eq!((&line["change"], &line["capped_until"]), (&json!("ended"), &Value::Null));
}

#[test]
fn a_cap_that_ends_by_time_is_told() {
    let (_site, server) = Server::with(&["--limit", "1", "--window", "1s"]);
    let stream = Stream::open(&server, "from=now", None);
    stream.next();
    server.count(&json!({"user": "u", "da": "1"}));
    let lines = [stream.next_event(), stream.next_event()];
    assert_eq!((&lines[0]["change"], &lines[1]["change"]), (&json!("capped"), &json!("ended")));
    assert!(lines[1]["at"].as_u64().unwrap() >= lines[0]["capped_until"].as_u64().unwrap());
}

#[test]
fn server_sent_events_say_the_same_and_carry_the_cursor_as_their_id() {
    let (_site, server) = Server::with(&["--limit", "1", "--window", "1d"]);
    let mut response = ask(&server, "from=now&keys=da:1", &[("accept", "text/event-stream")]);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    server.count(&json!({"user": "u", "da": "1", "ts": now_ms()}));
    let (mut text, mut piece) = (String::new(), [0; 4_096]);
    while !(text.contains("event: cap\n") && text.ends_with("\n\n") && text.matches("event: checkpoint\n").count() > 1)
    {
        let read = response.read(&mut piece).unwrap();
        assert!(read > 0, "{text}");
        text += std::str::from_utf8(&piece[..read]).unwrap();
    }
    let events: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(events[0], "retry: 1000");
    let cap = events.iter().find_map(|event| event.strip_prefix("event: cap\ndata: ")).unwrap();
    let cap: Value = serde_json::from_str(cap).unwrap();
    let fields: Vec<&String> = cap.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["at", "capped_until", "change", "key", "seq", "user"]);
    let checkpoint = events.iter().find_map(|event| event.strip_prefix("event: checkpoint\nid: ")).unwrap();
    let (id, data) = checkpoint.split_once("\ndata: ").unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), json!({"id": id}));
    drop(response);
    // The first checkpoint was before the cap.
    let stream = Stream::open(&server, &format!("keys=da:1&after={id}"), None);
    assert_eq!(stream.next_event()["user"], "u");
}

#[test]
fn a_stream_has_the_shards_and_keys_that_it_is_asked_for() {
    let (_site, server) = Server::with(&["--limit", "1", "--window", "1d"]);
    server.put_rule("campaign", &json!({"key": "campaign:*", "limit": 1, "window": "1d"}));
    let own = shard("u0");
    let query = format!("shards={own}&keys=campaign:*,da:3");
    let now = Stream::open(&server, &format!("{query}&from=now"), None);
    now.next();
    server.count(&events(0, 600));
    server.count(&json!([
        {"user": "u0", "da": "3", "keys": ["campaign:0"]}, {"user": "u0", "da": "4", "keys": ["campaign:1"]},
    ]));
    let mut told: Vec<String> = Vec::new();
    let has_all =
        |told: &[String]| ["campaign:0", "campaign:1", "da:3"].iter().all(|key| told.contains(&format!("u0 {key}")));
    while !has_all(&told) {
        let line = now.next_event();
        told.push(format!("{} {}", line["user"].as_str().unwrap(), line["key"].as_str().unwrap()));
    }
    let all = Stream::open(&server, &query, None);
    loop {
        let line = all.next_event();
        match line["event"].as_str().unwrap() {
            "cap" => told.push(format!("{} {}", line["user"].as_str().unwrap(), line["key"].as_str().unwrap())),
            "snapshot_end" => break,
            _ => {}
        }
    }
    for line in &told {
        let (user, key) = line.split_once(' ').unwrap();
        assert!(shard(user) == own && (key == "da:3" || key.starts_with("campaign:")), "{line}");
    }
    let code = |query: &str| server.get(&format!("/caps/stream?{query}"));
    for (query, expected) in [
        ("shards=256", "invalid_shards"),
        ("shards=9-3", "invalid_shards"),
        ("keys=campaign", "invalid_key"),
        ("keys=Campaign:*", "invalid_key"),
        ("from=yesterday", "invalid_from"),
        ("after=AQAA", "invalid_cursor"),
        ("shards=%zz", "invalid_percent_encoding"),
    ] {
        assert_eq!(code(query).1["code"], expected, "{query}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("da:{n}")).collect();
    assert_eq!(code(&format!("keys={}", many.join(","))).1["code"], "too_many_keys");
}

#[test]
fn a_cursor_of_another_store_or_of_another_question_is_told_so_and_all_caps_come() {
    let flags = ["--limit", "1", "--window", "1d"];
    let ((_one, server), (_other, other)) = (Server::with(&flags), Server::with(&flags));
    other.count(&json!({"user": "u", "da": "1"}));
    let id = Stream::open(&server, "from=now", None).next().unwrap()["id"].as_str().unwrap().to_owned();
    let own = Stream::open(&other, "from=now", None).next().unwrap()["id"].as_str().unwrap().to_owned();
    for (query, id, reason) in [("", &id, "other_store"), ("keys=da:1", &own, "other_filter")] {
        let stream = Stream::open(&other, query, Some(id));
        assert_eq!(stream.next_event(), json!({"event": "reset", "reason": reason}));
        assert_eq!(stream.next_event(), json!({"event": "snapshot_begin", "reason": reason}));
        assert_eq!(stream.next_event()["user"], "u");
        assert_eq!(stream.next_event(), json!({"event": "snapshot_end", "caps": 1}));
    }
    // The header says later than the query: a browser that comes back asks for the same URL.
    let stream = Stream::open(&other, &format!("after={id}"), Some(&own));
    other.count(&json!({"user": "later", "da": "1"}));
    assert_eq!(stream.next_event()["user"], "later");
    assert_eq!(other.metric("freqcap_stream_resets_total{reason=\"other_store\"}"), 1.0);
    let (status, _, body) = other.send("GET", "/caps/stream", &[("last-event-id", "nonsense")], None);
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("invalid_cursor")));
}

#[test]
fn whoever_was_away_while_changes_went_is_reset() {
    let flags = ["--limit", "1", "--window", "1d", "--stream-keep-changes", "64"];
    let (_site, server) = Server::with(&flags);
    let mut follower = Follower::default();
    let stream = follower.connect(&server, "");
    server.count(&events(0, 50));
    follow_until_equal(&mut follower, &stream, &server);
    while follower.id.is_none() {
        follower.apply(&stream.next().unwrap());
    }
    drop(stream);
    server.count(&events(50, 2_000));
    let reset = json!({"event": "reset", "reason": "changes_gone"});
    wait_for("changes to go", || {
        let stream = Stream::open(&server, "", follower.id.as_deref());
        (stream.next_event() == reset).then_some(())
    });
    let stream = follower.connect(&server, "");
    follow_until_equal(&mut follower, &stream, &server);
    assert_eq!((&follower.resets[..], follower.snapshots), (&["changes_gone".to_owned()][..], 2));
}

/// Asks for a stream, and reads nothing of it.
fn silent_reader(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = "GET /caps/stream?from=now HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/x-ndjson\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_reader_that_stops_reading_is_told_that_it_lags_and_hinders_nobody() {
    let (_site, server) = Server::with(&["--limit", "1", "--window", "1d"]);
    let mut silent = silent_reader(&server);
    let brisk = Stream::open(&server, "from=now", None);
    brisk.next();
    wait_for("both streams", || (server.metric("freqcap_streams") == 2.0).then_some(()));
    // What the sockets have room for, and 4 MiB more.
    let (user, da) = ("u".repeat(240), "d".repeat(240));
    let ended = "freqcap_streams_ended_total{reason=\"lagged\"}";
    let mut sent = 0;
    while server.metric(ended) == 0.0 {
        let batch: Value = (sent..sent + 2_000).map(|n| json!({"user": format!("{user}{n}"), "da": da})).collect();
        server.count(&batch);
        sent += 2_000;
        assert!(sent < 200_000, "it may be as far behind as it likes");
    }
    assert!(sent * 600 > 4 << 20, "{sent}");
    let mut told = 0;
    while told < sent {
        told += u64::from(brisk.next_event()["event"] == "cap");
    }
    // What it has not taken is still there for it, and then the reason.
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    let last = text.lines().rev().find(|line| line.starts_with('{')).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["event"], "lagged");
    assert!(last["behind_bytes"].as_u64().unwrap() > 4 << 20, "{last}");
    let id =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).rfind(|line| line["id"].is_string());
    // It comes back where it was.
    let stream = Stream::open(&server, "", id.unwrap()["id"].as_str());
    assert_eq!(stream.next_event()["event"], "cap");
}

#[test]
fn there_are_64_streams_and_no_more() {
    let (_site, server) = Server::with(&[]);
    let mut streams: Vec<_> = (0..64).map(|_| silent_reader(&server)).collect();
    wait_for("all streams", || (server.metric("freqcap_streams") == 64.0).then_some(()));
    let (status, body) = server.get("/caps/stream");
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("too_many_streams")));
    assert_eq!(server.metric("freqcap_streams_refused_total"), 1.0);
    assert_eq!(server.ok("/status")["streams"]["open"], 64);
    streams.pop();
    wait_for("a place", || ask(&server, "", &[]).status().is_success().then_some(()));
}

#[test]
fn a_service_that_stops_ends_its_streams_with_a_checkpoint() {
    let site = Site::new(&["--limit", "1", "--window", "1d"]);
    let server = site.start();
    let mut follower = Follower::default();
    let stream = follower.connect(&server, "");
    server.count(&events(0, 100));
    follow_until_equal(&mut follower, &stream, &server);
    server.count(&events(100, 100));
    let start = Instant::now();
    assert!(server.terminate().success());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let mut last = Value::Null;
    while let Some(line) = stream.next() {
        follower.apply(&line);
        last = line;
    }
    assert_eq!(last["event"], "checkpoint");
    let server = site.start();
    let stream = follower.connect(&server, "");
    server.count(&events(200, 100));
    follow_until_equal(&mut follower, &stream, &server);
    assert_eq!((follower.snapshots, follower.resets.len()), (1, 0));
}

#[test]
fn a_key_needs_the_scope_of_streams() {
    let keys = row("reader", "reader", &["stream"], "") + &row("other", "other", &["decide", "users:read"], "");
    let world = World::new(&keys, &[]);
    let server = world.site.start();
    let status = |secret: Option<&str>| {
        let bearer = secret.map(|secret| format!("Bearer {secret}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        ask(&server, "from=now", &headers).status().as_u16()
    };
    assert_eq!((status(None), status(Some("other")), status(Some("reader"))), (401, 403, 200));
}
