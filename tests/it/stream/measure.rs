//! Many changes, and how soon they are told: run by hand, with `FREQCAP_STREAM_CHANGES` (such as 1000000).

use super::reader::{Follower, Stream, caps_of};
use crate::support::{Server, Site, client, now_ms};
use serde_json::json;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const USERS: u64 = 2_000;

fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(|user| format!("m{user}"))
}

fn lines(from: u64, count: u64) -> String {
    let line = |n: u64| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (user, da) = (format!("m{}", mixed % USERS), mixed / USERS % 50);
        json!({"user": user, "da": da.to_string(), "id": n.to_string()}).to_string() + "\n"
    };
    (from..from + count).map(line).collect()
}

/// Posts events, on a thread of its own.
fn post(url: String, from: u64, until: u64) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let http = client();
        for first in (from..until).step_by(1_000) {
            let request = http.post(format!("{url}/events")).header("content-type", "application/x-ndjson");
            let answer = request.body(lines(first, 1_000)).send().unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().unwrap());
        }
    })
}

/// As many changes as are asked for; the service and its reader are killed on the way, several times.
#[test]
fn a_million_changes_arrive_whoever_is_killed() {
    let Ok(wanted) = std::env::var("FREQCAP_STREAM_CHANGES") else { return };
    let wanted: u64 = wanted.parse().unwrap();
    let site = Site::new(&["--limit", "1", "--window", "1d"]);
    let mut server = Some(site.start());
    let (mut follower, mut sent) = (Follower::default(), 0);
    let mut rounds = 0;
    while sent < wanted {
        let running = server.take().unwrap();
        let stream = follower.connect(&running, "");
        let until = wanted.min(sent + wanted / 10);
        let posting = post(running.url.clone(), sent, until);
        while !posting.is_finished() {
            while let Some(line) = stream.try_next(Duration::from_millis(1)) {
                follower.apply(&line);
            }
        }
        posting.join().unwrap();
        sent = until;
        rounds += 1;
        if rounds % 2 == 0 {
            follower.crash();
        }
        drop(stream);
        if rounds % 3 == 0 {
            running.kill();
            server = Some(site.start());
        } else {
            server = Some(running);
        }
    }
    let server = server.unwrap();
    let start = Instant::now();
    let caps = caps_of(&server, users());
    let stream = follower.connect(&server, "");
    while follower.caps != caps {
        follower.apply(&stream.next().unwrap());
        assert!(start.elapsed() < Duration::from_secs(300));
    }
    println!("{} changes told, resets: {:?}, {} caps equal", follower.changes, follower.resets, caps.len());
    drop(stream);
    tell_delays(&server);
}

/// From the answer to an event until the line of its cap is read.
fn tell_delays(server: &Server) {
    let stream = Stream::open(server, "from=now", None);
    stream.next();
    let mut delays: Vec<Duration> = (0..2_000)
        .map(|n| {
            let user = format!("delay{n}");
            server.count(&json!({"user": user, "da": "1", "ts": now_ms()}));
            let answered = Instant::now();
            while stream.next_event()["user"] != user.as_str() {}
            answered.elapsed()
        })
        .collect();
    delays.sort();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    println!("answer to line: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
}
