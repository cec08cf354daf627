//! A bucket that fails: no event is lost by it, and it is told.

use super::proxy::{Mode, Proxy};
use super::world::{Oracle, World, is_waiting, take};
use crate::support::{Server, wait_for};
use std::time::Instant;

fn world() -> (World, Proxy) {
    let mut world = World::of_s3();
    let proxy = Proxy::start(world.s3_port());
    world.port = Some(proxy.port);
    (world, proxy)
}

#[test]
fn a_bucket_that_refuses_costs_no_event_and_is_told_with_its_cause() {
    let (world, proxy) = world();
    let server = world.start("data", &["--snapshot-every", "1s"]);
    let mut oracle = Oracle::default();
    take(&server);
    for (mode, code) in [
        (Mode::Answer(403, "AccessDenied"), "bucket_forbidden"),
        (Mode::Answer(507, "InsufficientStorage"), "bucket_full"),
        (Mode::Answer(500, "InternalError"), "bucket_away"),
        (Mode::Close, "bucket_away"),
    ] {
        proxy.set(mode);
        let metric = format!("freqcap_snapshot_errors_total{{during=\"take\",code=\"{code}\"}}");
        let before = server.metric(&metric);
        let told = wait_for("the failure to be told", || {
            assert!(oracle.send(&server.url, &server.http, 20), "{mode:?}");
            let status = server.ok("/status");
            let told = &status["snapshots"];
            (told["error"]["code"] == code && server.metric(&metric) > before).then(|| told.clone())
        });
        assert_eq!(told["state"], "failing", "{mode:?}: {told}");
        assert!(!told["error"]["detail"].as_str().unwrap().contains("freqcap-secret"), "{told}");
        assert_eq!((server.get("/readyz").0.as_u16(), server.get("/healthz").0.as_u16()), (200, 200));
        proxy.set(Mode::Pass);
        wait_for("a snapshot again", || (server.ok("/status")["snapshots"]["state"] == "ok").then_some(()));
    }
    assert!(server.terminate().success());
    world.lose_disk("data");
    let server = world.start("data", &[]);
    oracle.is_exact(&server);
}

/// Nothing is answered: the end is in time all the same.
#[test]
fn a_bucket_that_hangs_costs_no_event_and_delays_no_end() {
    let (world, proxy) = world();
    let server = world.start("data", &["--snapshot-every", "1s"]);
    let mut oracle = Oracle::default();
    take(&server);
    proxy.set(Mode::Hang);
    let since = Instant::now();
    wait_for("snapshots to wait", || {
        assert!(oracle.send(&server.url, &server.http, 20));
        let told = &server.ok("/status")["snapshots"];
        (told["taking"] == true && server.metric("freqcap_snapshot_age_seconds") > 2.0).then_some(())
    });
    assert!(since.elapsed().as_secs() < 20);
    let begun = Instant::now();
    assert!(server.terminate().success());
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    proxy.set(Mode::Pass);
    // All of it is on the disk.
    let server = world.start("data", &[]);
    oracle.is_exact(&server);
}

/// A start with a store goes on without the bucket, and becomes the writer once it answers; one without waits, and says so.
#[test]
fn a_start_without_the_bucket_serves_what_it_has() {
    let (world, proxy) = world();
    let server = world.start("data", &["--snapshot-every", "1s"]);
    let mut oracle = Oracle::default();
    assert!(oracle.send(&server.url, &server.http, 100));
    assert!(server.terminate().success());
    proxy.set(Mode::Close);

    let empty = Server::start_waiting(world.serve("empty", &[]));
    is_waiting(&empty, "waiting_for_bucket");
    empty.kill();

    let server = world.start("data", &["--snapshot-every", "1s"]);
    assert!(oracle.send(&server.url, &server.http, 100));
    oracle.is_exact(&server);
    assert_eq!(server.ok("/status")["snapshots"]["state"], "waiting");
    let (status, body) = server.post("/snapshots", "application/json", "");
    assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("snapshots_waiting")), "{body}");
    proxy.set(Mode::Pass);
    wait_for("snapshots", || (server.ok("/status")["snapshots"]["state"] == "ok").then_some(()));
    take(&server);
    assert!(server.terminate().success());
}
