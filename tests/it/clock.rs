//! A wrong clock takes nothing away, and is not believed until it is right.

use crate::support::mirrored::{Caps, is_mirrored, mirrored};
use crate::support::redis_server::Server as Redis;
use crate::support::shim::Shim;
use crate::support::{Server, Site, binary, now_ms, wait_for};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn users() -> BTreeSet<String> {
    (0..200).map(|user| format!("u{user}")).collect()
}

/// Two impressions of one ad for each of 200 users.
fn cap_everybody(server: &Server) {
    let now = now_ms();
    let events =
        users().into_iter().flat_map(|user| (0..2).map(move |n| json!({"user": user, "da": "77", "ts": now - n})));
    assert_eq!(server.count(&json!(events.collect::<Vec<_>>()))["counted"], 400);
}

/// Waits until the server has looked at its clock.
fn wait_for_belief(server: &Server, believed: bool) {
    let told = f64::from(u8::from(believed));
    wait_for("what the server thinks of its clock", || (server.metric("freqcap_clock_believed") == told).then_some(()));
    assert_eq!(server.ok("/status")["clock"]["believed"], believed);
}

fn is_without_time_refused(server: &Server) {
    let (status, body) = server.post_json("/events", &json!({"user": "v", "da": "1"}));
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("clock_not_believed")), "{body}");
    let batch = json!([{"user": "v", "da": "1"}, {"user": "v", "da": "2", "ts": now_ms(), "id": "v2"}]);
    let (status, body) = server.post_json("/events", &batch);
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("clock_not_believed")), "{body}");
    let counts = [&body["unavailable"], &body["counted"], &body["duplicate"], &body["late"], &body["rejected"]];
    assert_eq!((counts[0], counts[1].as_u64().unwrap() + counts[2].as_u64().unwrap()), (&json!(1), 1), "{body}");
    let (status, body) = server.post_json("/reserve", &json!({"user": "v", "candidates": ["9"]}));
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("clock_not_believed")), "{body}");
}

fn with_redis(redis: &Redis) -> Site {
    Site::new(&["--redis", &redis.url(), "--limit", "2", "--redis-sweep", "1s", "--overlay-size", "64KiB"])
}

fn accept(site: &Site) -> Output {
    let mut command = Command::new(binary());
    command.args(["clock", "accept", "--data-dir"]).arg(site.data());
    command.output().unwrap()
}

/// Redis and the server hold what they held at first.
fn all_is_there(server: &Server, redis: &Redis, caps: &Caps) {
    assert_eq!(&is_mirrored(server, redis, true, &users()), caps);
}

#[test]
fn a_start_with_the_clock_a_month_ahead_takes_no_cap_and_no_log() {
    let (redis, shim) = (Redis::start(), Shim::new());
    let site = with_redis(&redis);
    let server = shim.start(&site);
    cap_everybody(&server);
    let caps = is_mirrored(&server, &redis, true, &users());
    assert_eq!(caps.len(), 200);
    server.terminate();

    shim.set_clock(30 * DAY);
    let server = shim.start(&site);
    wait_for_belief(&server, false);
    is_without_time_refused(&server);
    // Sweeps, and traffic of the true time, and of a sender whose clock is as wrong.
    let sweeps = || server.metric("freqcap_mirror_full_passes_total{reason=\"sweep\"}");
    let before = sweeps();
    let event = |ts: u64| json!({"user": "u0", "da": "78", "ts": ts});
    assert_eq!(server.count(&event(now_ms()))["result"], "counted");
    assert_eq!(server.count(&event(now_ms() + 30 * DAY as u64))["result"], "counted");
    wait_for("two sweeps", || (sweeps() >= before + 2.0).then_some(()));
    let held = |now: &Caps| caps.iter().all(|(pair, until)| now.get(pair) == Some(until));
    assert!(held(&mirrored(&redis, true)));
    server.kill();

    shim.set_clock(0);
    let server = shim.start(&site);
    wait_for_belief(&server, true);
    let now = is_mirrored(&server, &redis, true, &users());
    assert!(held(&now));
    assert_eq!(server.ok("/cap/u1/77")["count"], 2);
    server.terminate();
    // And nothing of it is reclaimed when everything is rewritten.
    let mut compact = Command::new(binary());
    assert!(compact.args(["compact", "--data-dir"]).arg(site.data()).status().unwrap().success());
    let server = shim.start(&site);
    assert_eq!(server.ok("/cap/u1/77")["count"], 2);
}

#[test]
fn a_step_while_running_ends_no_cap_and_is_healed_by_the_step_back() {
    let (redis, shim) = (Redis::start(), Shim::new());
    let server = shim.start(&with_redis(&redis));
    cap_everybody(&server);
    let caps = is_mirrored(&server, &redis, true, &users());
    for step in [30 * DAY, 61 * MINUTE, -61_000] {
        shim.set_clock(step);
        wait_for_belief(&server, false);
        is_without_time_refused(&server);
        // The service goes on by the monotonic clock.
        assert_eq!(server.ok("/cap/u1/77")["capped"], true);
        shim.set_clock(0);
        wait_for_belief(&server, true);
        all_is_there(&server, &redis, &caps);
    }
    assert_eq!(server.metric("freqcap_clock_steps_total"), 3.0);
    assert_eq!(server.post_json("/events", &json!({"user": "v", "da": "1"})).0, 200);
}

#[test]
fn what_a_wrong_clock_took_from_redis_comes_back_with_the_right_one() {
    let (redis, shim) = (Redis::start(), Shim::new());
    let site = with_redis(&redis);
    let server = shim.start(&site);
    cap_everybody(&server);
    let caps = is_mirrored(&server, &redis, true, &users());
    server.terminate();
    // Near enough to be believed, and far enough for every cap to end.
    shim.set_clock(6 * DAY);
    let server = shim.start(&site);
    wait_for_belief(&server, true);
    wait_for("every cap to end", || mirrored(&redis, true).is_empty().then_some(()));
    server.terminate();
    shim.set_clock(0);
    // Before the last believed time. Nobody knows which of the two was wrong, until somebody says so.
    let server = shim.start(&site);
    assert!(accept(&site).status.success());
    wait_for_belief(&server, true);
    all_is_there(&server, &redis, &caps);
}

#[test]
fn a_service_that_was_off_for_weeks_believes_its_clock_once_redis_says_the_same() {
    let (redis, shim) = (Redis::start(), Shim::new());
    let site = with_redis(&redis);
    shim.set_clock(-30 * DAY);
    let alone = Site::new(&[]);
    assert!(shim.start(&alone).terminate().success());
    shim.set_clock(0);
    // Without another clock at hand it stays unbelieved.
    let server = shim.start(&alone);
    wait_for_belief(&server, false);
    server.terminate();
    let flags = site.flags.clone();
    let server = shim.start(&Site { dir: alone.dir, flags });
    wait_for_belief(&server, true);
    assert_eq!(server.post_json("/events", &json!({"user": "v", "da": "1"})).0, 200);
}

#[test]
fn an_operator_says_that_the_clock_is_right() {
    let shim = Shim::new();
    shim.set_clock(-30 * DAY);
    let site = Site::new(&[]);
    assert!(shim.start(&site).terminate().success());
    shim.set_clock(0);
    let server = shim.start(&site);
    wait_for_belief(&server, false);
    let said = accept(&site);
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).contains("believes its clock"), "{said:?}");
    wait_for_belief(&server, true);
    assert_eq!(server.post_json("/events", &json!({"user": "v", "da": "1"})).0, 200);
    server.terminate();

    // By a flag; and the next start needs none.
    shim.set_clock(40 * DAY);
    let mut command = site.command();
    command.arg("--accept-clock");
    assert!(wait_and_end(Server::start(shim.on(command)), true));
    assert!(wait_and_end(shim.start(&site), true));
    // Before the service is there.
    shim.set_clock(80 * DAY);
    assert!(wait_and_end(shim.start(&site), false));
    assert!(accept(&site).status.success());
    assert!(wait_and_end(shim.start(&site), true));
    let no_dir = Command::new(binary()).args(["clock", "accept", "--data-dir", "/nowhere/at/all"]).output().unwrap();
    assert_eq!(no_dir.status.code(), Some(2));
}

fn wait_and_end(server: Server, believed: bool) -> bool {
    wait_for_belief(&server, believed);
    server.terminate().success()
}

#[test]
fn a_disk_that_does_not_answer_a_sync_turns_healthz_red_and_green_again() {
    let shim = Shim::new();
    let server = shim.start(&Site::new(&[]));
    assert_eq!(server.count(&json!({"user": "u", "da": "1"}))["result"], "counted");
    assert_eq!(server.get("/healthz").0, 200);
    shim.hang_syncs(true);
    let (http, url) = (server.http.clone(), format!("{}/events", server.url));
    let waiting = std::thread::spawn(move || {
        let body = r#"{"user":"u","da":"2","id":"2"}"#;
        http.post(url).header("content-type", "application/json").body(body).send().unwrap().status().as_u16()
    });
    let (_, body) = wait_for("a red healthz", || Some(server.get("/healthz")).filter(|(status, _)| *status == 503));
    assert_eq!(body["code"], "sync_hangs");
    assert_eq!((server.get("/readyz").0.as_u16(), server.get("/cap/u/1").0.as_u16()), (200, 200));
    shim.hang_syncs(false);
    assert_eq!(waiting.join().unwrap(), 200);
    assert_eq!(server.ok("/cap/u/2")["count"], 1);
    assert_eq!(server.get("/healthz").0, 200);
}
