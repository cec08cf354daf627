//! `freqcap snapshot`.

use super::world::{Oracle, World, counts, take};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn snapshots_are_created_listed_verified_and_restored_from_the_command_line() {
    World::each(|world| {
        let data = world.data("data").display().to_string();
        let copy = world.data("copy").display().to_string();
        let output = world.run(&["create", "--data-dir", &data]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("no data directory"), "{}", text(&output.stderr));
        let output = world.run(&["list"]);
        assert!(output.status.success() && text(&output.stdout).contains("no snapshots"), "{}", text(&output.stdout));

        let server = world.start("data", &["--snapshot-every", "1h"]);
        let mut oracle = Oracle::default();
        assert!(oracle.send(&server.url, &server.http, 200));
        let held = counts(&server);
        // Of a service that runs, by the service alone.
        let output = world.run(&["create", "--data-dir", &data]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        let mut command = world.freqcap();
        command.env_remove("FREQCAP_SNAPSHOTS").args(["snapshot", "create", "--json", "--url", &server.url]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(first["id"], "1");
        assert!(oracle.send(&server.url, &server.http, 200));
        assert!(server.terminate().success());

        let created = world.json(&["create", "--data-dir", &data, "--json"]);
        assert_eq!((created["sequence"].as_u64(), created["state"].as_str()), (Some(3), Some("whole")), "{created}");
        let listed = world.snapshots();
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[0]["id"], "3");
        let printed = text(&world.run(&["list"]).stdout);
        assert_eq!(printed.lines().count(), 4, "{printed}");
        let verified = world.json(&["verify", "--json"]);
        assert_eq!(verified["whole"], serde_json::json!(["1", "2", "3"]), "{verified}");

        // As it was then, by time.
        let time = (first["time"].as_u64().unwrap() + 1).to_string();
        let restored = world.json(&["restore", "--data-dir", &copy, "--at", &time, "--json", "--as-new"]);
        assert_eq!(restored["id"], "1");
        let output = world.run(&["restore", "--data-dir", &copy]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("is not empty"), "{}", text(&output.stderr));
        let output = world.run(&["restore", "--data-dir", &copy, "--at", "1000000000000"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));

        // The copy lives beside the original.
        let original = world.start("data", &[]);
        let other = format!("{}/other", world.data("bucket-of-copy").display());
        let mut command = world.serve("copy", &[]);
        command.env("FREQCAP_SNAPSHOTS", format!("file://{other}"));
        let copied = crate::support::Server::start(command);
        assert_eq!(counts(&copied), held);
        oracle.is_exact(&original);
        let (ours, theirs) = (original.ok("/status")["store_id"].clone(), copied.ok("/status")["store_id"].clone());
        assert_ne!(ours, theirs);
        assert_eq!(take(&copied)["store_id"], theirs);
        assert!(copied.terminate().success());
        // And cannot go on where the original is.
        let (code, said) = super::world::refused(world.serve("copy", &["--takeover"]));
        assert!(code == 2 && said.contains("has snapshots of the store"), "{code}: {said}");
        assert!(original.terminate().success());
    });
}
