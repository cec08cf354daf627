//! One writer at a time: hand-over, races, takeover.

use super::world::{Oracle, Stop, World, counts, is_ready, is_waiting, refused, take};
use crate::support::redis_server::Server as Redis;
use crate::support::{Server, client, wait_for};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A rolling update: the new process waits until the old one has taken its last snapshot, so nothing is lost.
#[test]
fn a_rolling_update_loses_nothing() {
    World::each(|world| {
        let old = world.start("old", &["--snapshot-every", "1h"]);
        let new = Server::start_waiting(world.serve("new", &[]));
        let waits = is_waiting(&new, "waiting_for_lease");
        assert!(waits["detail"].as_str().unwrap().contains("epoch 1"), "{waits}");
        assert_eq!(new.get("/healthz").0, 200);
        let (status, body) = new.post_lines("{\"user\":\"u1\",\"da\":\"1\"}\n");
        assert_eq!((status.as_u16(), &body["code"]), (503, &json!("starting")), "{body}");
        let (status, body) = new.get("/cap/u1/1");
        assert_eq!((status.as_u16(), &body["code"]), (503, &json!("starting")), "{body}");

        let (url, stop, shared) = (old.url.clone(), AtomicBool::new(false), Mutex::new(Oracle::default()));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                let http = client();
                while !stop.load(Ordering::Relaxed) {
                    shared.lock().unwrap().send(&url, &http, 20);
                }
            });
            wait_for("answers", || (shared.lock().unwrap().acknowledged() > 1_000).then_some(()));
            let begun = std::time::Instant::now();
            assert!(old.terminate().success());
            assert!(begun.elapsed().as_secs() < 10);
        });
        let mut oracle = shared.into_inner().unwrap();
        is_ready(&new);
        // What was not answered may be sent again to the new one, which knows what it has already.
        assert!(oracle.send_again(&new.url, &new.http));
        oracle.is_exact(&new);
        assert!(new.terminate().success());
    });
}

/// Whoever is second waits; when it is told to stop meanwhile, it ends at once and in order.
#[test]
fn of_two_that_start_at_once_one_serves_and_the_other_waits() {
    World::each(|world| {
        let servers = [Server::start_waiting(world.serve("a", &[])), Server::start_waiting(world.serve("b", &[]))];
        let is_ready = |server: &Server| server.get("/readyz").0 == 200;
        wait_for("one of them to serve", || servers.iter().any(is_ready).then_some(()));
        let [a, b] = servers;
        let (first, second) = if is_ready(&a) { (a, b) } else { (b, a) };
        is_waiting(&second, "waiting_for_lease");
        let mut oracle = Oracle::default();
        assert!(oracle.send(&first.url, &first.http, 50));
        assert_eq!(first.get("/readyz").0, 200);
        assert!(second.terminate().success());
        assert!(first.terminate().success());
    });
}

/// An instance that somebody forgot: it finds the newer epoch, and writes nothing more to anybody.
#[test]
fn one_that_was_superseded_refuses_writes_and_stops_its_mirror() {
    World::each(|world| {
        let redis = Redis::start();
        let redis_url = redis.url();
        let flags = ["--snapshot-every", "1s", "--redis", redis_url.as_str()];
        let old = world.start("old", &flags);
        let mut oracle = Oracle::default();
        assert!(oracle.send(&old.url, &old.http, 100));
        let taken = take(&old);
        let held = counts(&old);
        let new = world.start("new", &["--takeover", "--snapshot-every", "1h"]);
        assert_eq!(counts(&new), held);
        wait_for("the old one to notice", || (old.get("/readyz").1["code"] == "superseded").then_some(()));

        let event = json!({"user": "u1", "da": "1"});
        for (method, path, body) in [
            ("POST", "/events", Some(event)),
            ("POST", "/reserve", Some(json!({"user": "u1", "candidates": ["1"]}))),
            ("POST", "/release", Some(json!({"user": "u1", "id": "x"}))),
            ("DELETE", "/users/u1", None),
            ("PUT", "/rules/x", Some(json!({"key": "campaign:1", "limit": 1, "window": "1h"}))),
            ("DELETE", "/rules/x", None),
            ("POST", "/snapshots", None),
        ] {
            let (status, _, answer) = old.send(method, path, &[], body.as_ref());
            assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("superseded")), "{method} {path}: {answer}");
        }
        let (status, answer) = old.post_lines("{\"user\":\"u1\",\"da\":\"1\"}\n");
        assert_eq!((status.as_u16(), &answer["unavailable"]), (503, &json!(1)), "{answer}");
        // Reads go on, from what it has.
        assert_eq!(counts(&old), held);
        let status = old.ok("/status");
        assert_eq!(
            (&status["refused"], &status["snapshots"]["state"], &status["mirror"]["state"]),
            (&json!("superseded"), &json!("superseded"), &json!("off")),
            "{status}"
        );
        assert_eq!(old.metric("freqcap_snapshot_superseded"), 1.0);
        let newest = take(&new);
        assert!(newest["epoch"].as_u64() > taken["epoch"].as_u64());
        assert!(old.terminate().success());

        // Its directory lacks what the new one counts.
        let (code, said) = refused(world.serve("old", &[]));
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("was left at epoch 1") && said.contains("--restore"), "{said}");
        assert!(oracle.send(&new.url, &new.http, 100));
        let newest = take(&new);
        assert!(new.terminate().success());
        let id = newest["id"].as_str().unwrap();
        let old = world.start("old", &["--restore", id]);
        oracle.is_exact(&old);
        assert!(old.terminate().success());
    });
}
