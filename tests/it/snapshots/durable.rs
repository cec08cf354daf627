//! `--durability bucket`: what was acknowledged is there after the loss of the disk, whenever it is lost; and a bucket that is away is
//! told in time.

use super::proxy::{Mode, Proxy};
use super::world::{Oracle, Stop, World, counts, refused};
use crate::support::{Server, client, wait_for};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A machine that others use may take long to upload.
const PATIENT: [&str; 5] =
    ["--durability=bucket", "--bucket-wait=60s", "--takeover", "--overlay-size=192KiB", "--snapshot-every=1s"];

/// `FREQCAP_SNAPSHOT_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("FREQCAP_SNAPSHOT_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

fn lose(world: &World, rounds: usize) {
    let mut oracle = Oracle::default();
    let mut acknowledged = 0;
    for round in 0..rounds {
        let server = world.start("data", &PATIENT);
        oracle.check(&server, u64::MAX);
        let (url, stop, shared) = (server.url.clone(), AtomicBool::new(false), Mutex::new(oracle));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                let http = client();
                while !stop.load(Ordering::Relaxed) {
                    if !shared.lock().unwrap().send(&url, &http, 5) {
                        return;
                    }
                }
            });
            wait_for("answers", || (shared.lock().unwrap().acknowledged() > 20).then_some(()));
            let pause = Duration::from_millis(((round * 7_919) % 1_500) as u64);
            let begun = Instant::now();
            while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            server.kill();
        });
        oracle = shared.into_inner().unwrap();
        acknowledged += oracle.acknowledged();
        world.lose_disk("data");
    }
    oracle.check(&world.start("data", &PATIENT), u64::MAX);
    let verified = world.json(&["verify", "--json"]);
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0, "{verified}");
    println!("{rounds} rounds, {acknowledged} events acknowledged");
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_every_acknowledged_event_is_there_in_a_directory() {
    lose(&World::of_directory(), rounds() / 2);
}

#[test]
fn after_kill_9_and_the_loss_of_the_disk_every_acknowledged_event_is_there_in_s3() {
    lose(&World::of_s3(), rounds().div_ceil(2));
}

/// Killed right after each answer.
#[test]
fn rules_reservations_and_erasures_that_were_acknowledged_are_there_as_well() {
    let world = World::of_directory();
    let mut server = world.start("data", &PATIENT);
    let again = |server: Server| {
        server.kill();
        world.lose_disk("data");
        world.start("data", &PATIENT)
    };
    server.put_rule("brand-x", &json!({"key": "campaign:42", "limit": 3, "window": "24h"}));
    server = again(server);
    assert_eq!(server.ok("/rules/brand-x")["limit"], 3);
    let call = json!({"user": "u1", "candidates": ["8"], "id": "r1"});
    let reserved = server.call("/reserve", &call);
    assert_eq!(reserved["reserved"][0]["da"], "8", "{reserved}");
    server = again(server);
    let repeated = server.call("/reserve", &call);
    assert_eq!(repeated["reserved"], reserved["reserved"], "{repeated}");
    server.count(&json!({"user": "u2", "da": "7", "id": "e1"}));
    server = again(server);
    assert_eq!(server.count(&json!({"user": "u2", "da": "7", "id": "e1"}))["result"], "duplicate");
    let (status, _, body) = server.send("DELETE", "/users/u2", &[], None);
    assert!(status.is_success(), "{body}");
    server = again(server);
    let checked = server.call("/check", &json!({"user": "u2", "candidates": ["7"]}));
    assert_eq!(checked["results"][0]["count"], 0, "{checked}");
    let (status, _, body) = server.send("DELETE", "/rules/brand-x", &[], None);
    assert!(status.is_success(), "{body}");
    server = again(server);
    assert_eq!(server.get("/rules/brand-x").0.as_u16(), 404);
    let sent = |server: &Server, method: &str, path: &str, body: Option<&serde_json::Value>| {
        let (status, _, answer) = server.send(method, path, &[], body);
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer
    };
    sent(&server, "PUT", "/ads/77", Some(&json!({"keys": ["campaign:42"]})));
    server = again(server);
    assert_eq!(server.ok("/ads/77")["keys"], json!(["campaign:42"]));
    sent(&server, "PUT", "/users/u3/opt-out", None);
    server = again(server);
    assert_eq!(server.count(&json!({"user": "u3", "da": "7"}))["result"], "opted_out");
    sent(&server, "DELETE", "/users/u3/opt-out", None);
    server = again(server);
    assert_eq!(server.count(&json!({"user": "u3", "da": "7"}))["result"], "counted");
    let (status, taken) = server.post("/erasures", "application/x-ndjson", "\"u3\"\n");
    assert_eq!(status.as_u16(), 202, "{taken}");
    server = again(server);
    let receipt = format!("/erasures/{}", taken["id"].as_str().unwrap());
    assert_eq!(server.ok(&receipt)["total"], 1);
    wait_for("the erasure", || (server.ok(&receipt)["done"] == 1).then_some(()));
    assert_eq!(server.ok("/cap/u3/7")["count"], 0);
}

/// Refused in time, told, and taken again by itself; nothing that was acknowledged is lost, and what was refused counts once.
#[test]
fn while_the_bucket_is_away_writes_are_answered_503_in_time_and_reads_go_on() {
    let mut world = World::of_s3();
    let proxy = Proxy::start(world.s3_port());
    world.port = Some(proxy.port);
    let flags = ["--durability=bucket", "--bucket-wait=1s", "--takeover", "--snapshot-every=2s"];
    let server = world.start("data", &flags);
    let mut oracle = Oracle::default();
    let late = "freqcap_bucket_unavailable";
    let is_well = |server: &Server, oracle: &mut Oracle| {
        // The first may still be late: the machine is shared.
        wait_for("events to be taken", || oracle.send(&server.url, &server.http, 5).then_some(()));
        assert_eq!(server.ok("/status")["status"], "ok");
        assert_eq!(server.metric(late), 0.0);
    };
    is_well(&server, &mut oracle);
    for mode in [Mode::Hang, Mode::Close, Mode::Answer(500, "InternalError"), Mode::Answer(403, "AccessDenied")] {
        let held = counts(&server);
        proxy.set(mode);
        let begun = Instant::now();
        let (status, body) = wait_for("a refusal", || {
            let answer = server.post_json("/events", &json!({"user": "other", "da": "9", "id": format!("{mode:?}")}));
            (answer.0.as_u16() != 200).then_some(answer)
        });
        assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("bucket_unavailable")), "{mode:?}: {body}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{mode:?}: {:?}", begun.elapsed());
        // Who comes now does not wait.
        for (path, body) in [
            ("/events", json!({"user": "other", "da": "9"})),
            ("/reserve", json!({"user": "other", "candidates": ["9"], "id": "r"})),
        ] {
            let (status, body) = server.post_json(path, &body);
            assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("bucket_unavailable")), "{path}: {body}");
        }
        let rule = json!({"key": "campaign:42", "limit": 3, "window": "24h"});
        let (status, _, body) = server.send("PUT", "/rules/x", &[], Some(&rule));
        assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("bucket_unavailable")), "{body}");
        assert!(!oracle.send(&server.url, &server.http, 5));
        let told = server.ok("/status");
        assert_eq!(
            (&told["status"], &told["refused"]),
            (&json!("events_refused"), &json!("bucket_unavailable")),
            "{told}"
        );
        assert_eq!(server.metric(late), 1.0);
        assert_eq!(counts(&server), held, "{mode:?}: reads go on, and nothing was taken");
        proxy.set(Mode::Pass);
        is_well(&server, &mut oracle);
        wait_for("what was refused", || oracle.send_again(&server.url, &server.http).then_some(()));
    }
    server.kill();
    world.lose_disk("data");
    let server = world.start("data", &flags);
    oracle.is_exact(&server);
    // What was refused before it was known that the bucket is away is on the disk, and counts once.
    assert!(
        server.call("/check", &json!({"user": "other", "candidates": ["9"]}))["results"][0]["count"].as_u64()
            <= Some(4)
    );
}

/// Nothing is answered before a snapshot makes the first write a part of the history; a bucket that is away at the start delays that.
#[test]
fn a_start_without_the_bucket_refuses_writes_until_it_answers() {
    let mut world = World::of_s3();
    let proxy = Proxy::start(world.s3_port());
    world.port = Some(proxy.port);
    let flags = ["--durability=bucket", "--bucket-wait=300ms", "--takeover"];
    let server = world.start("data", &flags);
    let mut oracle = Oracle::default();
    wait_for("events to be taken", || oracle.send(&server.url, &server.http, 5).then_some(()));
    assert!(server.terminate().success());
    proxy.set(Mode::Close);
    let server = world.start("data", &flags);
    let (status, body) = server.post_json("/events", &json!({"user": "other", "da": "9", "id": "e"}));
    assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("bucket_unavailable")), "{body}");
    oracle.check(&server, u64::MAX);
    proxy.set(Mode::Pass);
    wait_for("events to be taken again", || oracle.send(&server.url, &server.http, 5).then_some(()));
    server.kill();
    world.lose_disk("data");
    let server = world.start("data", &flags);
    oracle.check(&server, u64::MAX);
    assert_eq!(server.call("/check", &json!({"user": "other", "candidates": ["9"]}))["results"][0]["count"], 1);
}

#[test]
fn without_a_bucket_it_is_refused() {
    let world = World::of_directory();
    let mut command = world.serve("data", &["--durability", "bucket"]);
    command.env_remove("FREQCAP_SNAPSHOTS");
    let (code, told) = refused(command);
    assert!(code == 2 && told.contains("--durability") && told.contains("needs --snapshots"), "{code} {told}");
}
