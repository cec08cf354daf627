//! The whole way, with the loss of the disk.

use super::world::{Oracle, World, counts, refused, take};
use crate::support::wait_for;
use serde_json::json;

/// Taken beside writers, the disk lost, restored by a start on an empty directory.
#[test]
fn after_the_loss_of_the_disk_everything_acknowledged_before_the_snapshot_is_there() {
    World::each(|world| {
        let server = world.start("data", &["--snapshot-every", "1h", "--overlay-size", "192KiB"]);
        let mut oracle = Oracle::default();
        for _ in 0..20 {
            assert!(oracle.send(&server.url, &server.http, 200));
        }
        server.put_rule("brand-x", &json!({"key": "campaign:42", "limit": 3, "window": "24h"}));
        let first = take(&server);
        assert_eq!((&first["id"], &first["sequence"], &first["epoch"]), (&json!("1"), &json!(1), &json!(1)), "{first}");
        assert!(first["bytes"].as_u64().unwrap() > 0 && first["files"].as_u64().unwrap() > 3, "{first}");
        for _ in 0..20 {
            assert!(oracle.send(&server.url, &server.http, 200));
        }
        let second = take(&server);
        let listed = server.ok("/snapshots");
        let ids: Vec<_> = listed["snapshots"].as_array().unwrap().iter().map(|snapshot| &snapshot["id"]).collect();
        assert_eq!(ids, ["2", "1"]);
        let status = &server.ok("/status")["snapshots"];
        assert_eq!(
            (&status["state"], &status["sequence"], &status["taken"]),
            (&json!("ok"), &json!(2), &json!(2)),
            "{status}"
        );
        assert!(server.metric("freqcap_snapshot_uploaded_bytes_total") > 0.0);
        assert!(server.metric("freqcap_snapshot_spared_bytes_total") > 0.0, "the second named nothing of the first");
        assert_eq!(server.metric("freqcap_snapshots_total"), 2.0);
        // Not in any snapshot.
        assert!(oracle.send(&server.url, &server.http, 200));
        server.kill();
        world.lose_disk("data");

        let server = world.start("data", &["--takeover"]);
        oracle.check(&server, second["time"].as_u64().unwrap());
        assert_eq!(server.ok("/rules/brand-x")["limit"], 3);
        assert!(oracle.send(&server.url, &server.http, 200));
        let third = take(&server);
        assert_eq!(
            (&third["sequence"], &third["epoch"], &third["store_id"]),
            (&json!(3), &json!(2), &second["store_id"])
        );
        assert!(server.terminate().success());
    });
}

/// Nobody asks for them: they are taken at the interval, and one at the end has what came since.
#[test]
fn snapshots_are_taken_by_themselves_and_a_last_one_at_the_end() {
    World::each(|world| {
        let server = world.start("data", &["--snapshot-every", "1s"]);
        let mut oracle = Oracle::default();
        assert!(oracle.send(&server.url, &server.http, 100));
        wait_for("two snapshots", || (server.metric("freqcap_snapshots_total") >= 2.0).then_some(()));
        assert!(server.metric("freqcap_snapshot_age_seconds") < 30.0);
        assert!(oracle.send(&server.url, &server.http, 100));
        assert!(server.terminate().success());
        world.lose_disk("data");
        // The lease was released: nothing is waited for.
        let server = world.start("data", &[]);
        oracle.is_exact(&server);
        assert!(server.terminate().success());
    });
}

/// A directory that has a store goes on with that, also after a kill, and waits for no lease of its own.
#[test]
fn a_restart_in_place_restores_nothing_and_waits_for_nobody() {
    let world = World::of_directory();
    let server = world.start("data", &["--snapshot-every", "1h"]);
    let mut oracle = Oracle::default();
    assert!(oracle.send(&server.url, &server.http, 100));
    take(&server);
    assert!(oracle.send(&server.url, &server.http, 100));
    server.kill();
    let begun = std::time::Instant::now();
    let server = world.start("data", &[]);
    assert!(begun.elapsed().as_secs() < 15, "it waited for the lease of the process that it takes the place of");
    oracle.is_exact(&server);
    assert!(!server.started.iter().any(|line| line.contains("restoring")), "{:?}", server.started);
}

/// What `--restore` says.
#[test]
fn never_restores_nothing_and_an_id_restores_that_one() {
    let world = World::of_directory();
    let server = world.start("data", &["--snapshot-every", "1h"]);
    let mut oracle = Oracle::default();
    assert!(oracle.send(&server.url, &server.http, 100));
    take(&server);
    let first = counts(&server);
    assert!(oracle.send(&server.url, &server.http, 100));
    take(&server);
    assert!(server.terminate().success());
    world.lose_disk("data");

    let (code, said) = refused(world.serve("data", &["--restore", "never"]));
    assert!(code == 2 && said.contains("--restore never") && said.contains("is empty"), "{code}: {said}");
    let (code, said) = refused(world.serve("data", &["--restore", "77"]));
    assert!(code == 2 && said.contains("no snapshot 77"), "{code}: {said}");

    let server = world.start("data", &["--restore", "1"]);
    assert_eq!(counts(&server), first);
    // From then on the history goes on from there.
    let taken = take(&server);
    assert!(taken["sequence"].as_u64().unwrap() > 3, "{taken}");
    assert!(server.terminate().success());
    world.lose_disk("data");
    let server = world.start("data", &[]);
    assert_eq!(counts(&server), first);
}

/// Two stores must not share a prefix.
#[test]
fn the_prefix_of_another_store_is_refused() {
    let world = World::of_directory();
    let server = world.start("one", &[]);
    take(&server);
    assert!(server.terminate().success());
    let other = World::of_directory();
    assert!(other.start("two", &[]).terminate().success());
    let mut command = world.freqcap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(other.data("two"));
    command.args(&world.flags);
    let (code, said) = refused(command);
    assert!(code == 2 && said.contains("has snapshots of the store"), "{code}: {said}");
}

/// Settings that cannot work are told before anything is touched.
#[test]
fn settings_that_cannot_work_are_refused() {
    let world = World::of_directory();
    for (flags, said) in [
        (&["--storage", "memory"][..], "--storage memory"),
        (&["--snapshot-every", "10ms"][..], "is less than 1s"),
        (&["--snapshots-keep", "10s"][..], "is less than --snapshot-every"),
        (&["--restore", "newest"][..], "auto"),
        (&["--snapshots", "ftp://x/y"][..], "s3://"),
        (&["--snapshots", "s3://key:secret@bucket/x"][..], "credentials"),
    ] {
        let (code, told) = refused(world.serve("data", flags));
        assert!(code == 2 && told.contains(said) && !told.contains("secret@"), "{flags:?}: {code} {told}");
    }
    for flags in [&["--takeover"][..], &["--restore", "3"][..]] {
        let mut command = world.serve("data", flags);
        command.env_remove("FREQCAP_SNAPSHOTS");
        let (code, told) = refused(command);
        assert!(code == 2 && told.contains("without --snapshots"), "{flags:?}: {code} {told}");
    }
    assert!(!world.data("data").exists());
}

/// The calls of a service that takes none.
#[test]
fn without_a_bucket_the_calls_say_so() {
    let (_site, server) = crate::support::Server::with(&[]);
    let (status, body) = server.get("/snapshots");
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("snapshots_off")), "{body}");
    let (status, body) = server.post("/snapshots", "application/json", "");
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("snapshots_off")), "{body}");
    assert!(server.ok("/status")["snapshots"].is_null());
}
