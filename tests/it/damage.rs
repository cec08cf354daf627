//! What is damaged on disk is told, and costs nobody but those whom it is of.

use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const USERS: usize = 2_000;

fn lines(users: std::ops::Range<usize>, id: &str) -> String {
    let ts = now_ms();
    let line = |user| format!("{{\"user\":\"user-{user}\",\"da\":\"77\",\"ts\":{ts},\"id\":\"{id}-{user}\"}}\n");
    users.map(line).collect()
}

fn post(server: &Server, body: String) -> (u16, Value) {
    let (status, body) = server.post_lines(&body);
    (status.as_u16(), body)
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

fn flip(path: &Path, at: impl Iterator<Item = usize>) {
    let mut bytes = std::fs::read(path).unwrap();
    at.for_each(|at| bytes[at] ^= 0x55);
    std::fs::write(path, bytes).unwrap();
}

/// A site whose largest file has blocks that cannot be read, and no server on it.
fn spoilt(flags: &[&str]) -> Site {
    let (site, server) = Server::with(flags);
    assert_eq!(post(&server, lines(0..USERS, "a")).1["counted"], USERS);
    assert!(server.terminate().success());
    let file = files(&site.data(), ".sst").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let len = std::fs::metadata(&file).unwrap().len() as usize;
    flip(&file, [len / 3, len / 3 + 9_000].into_iter());
    site
}

#[test]
fn rows_that_cannot_be_read_cost_their_own_users_alone() {
    let site = spoilt(&[]);
    let server = site.start();
    let (status, body) = post(&server, lines(0..USERS, "b"));
    assert_eq!((status, body["code"].as_str()), (503, Some("row_unreadable")), "{body}");
    let refused = body["unavailable"].as_u64().unwrap() as usize;
    assert!(refused > 0 && refused < USERS / 3, "{body}");
    assert_eq!(body["counted"].as_u64().unwrap() as usize, USERS - refused, "{body}");
    assert_eq!(server.get("/healthz").0, 200);
    assert!(server.metric("freqcap_unreadable_rows_total{table=\"logs\"}") >= refused as f64);
    assert!(server.ok("/status")["unreadable_rows"].as_u64().unwrap() >= refused as u64);
    let is_spoilt = |user: &usize| {
        let (status, body) = server.get(&format!("/cap/user-{user}/77"));
        let expected = if status == 200 { json!(null) } else { json!("row_unreadable") };
        assert_eq!(body["code"], expected, "{body}");
        assert!(status == 503 || body["count"] == 2, "{status} {body}");
        status == 503
    };
    let spoilt: Vec<usize> = (0..USERS).filter(is_spoilt).collect();
    assert_eq!(spoilt.len(), refused);
    let user = spoilt[refused / 2];
    for (path, body) in [
        ("/check", json!({"user": format!("user-{user}"), "candidates": ["77"]})),
        ("/reserve", json!({"user": format!("user-{user}"), "candidates": ["77"], "want": 1})),
        ("/events", json!({"user": format!("user-{user}"), "da": "77"})),
    ] {
        let response = server.http.post(format!("{}{path}", server.url)).json(&body).send().unwrap();
        let (status, body) = (response.status(), response.json::<Value>().unwrap());
        assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("row_unreadable")), "{path}: {body}");
    }
    for path in ["", "/caps"] {
        let (status, body) = server.get(&format!("/users/user-{user}{path}"));
        assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("row_unreadable")), "{path}: {body}");
    }
    // Erased, whatever it is.
    let response = server.http.delete(format!("{}/users/user-{user}", server.url)).send().unwrap();
    assert_eq!(response.status(), 200);
    let receipt = response.json::<Value>().unwrap();
    assert!(receipt["unreadable"].as_u64().unwrap() > 0, "{receipt}");
    assert_eq!(server.ok(&format!("/cap/user-{user}/77"))["count"], 0);
    let event = json!({"user": format!("user-{user}"), "da": "77", "id": "new"});
    let response = server.http.post(format!("{}/events", server.url)).json(&event).send().unwrap();
    let body = response.json::<Value>().unwrap();
    assert_eq!(body["result"], "counted", "{body}");
    assert_eq!(server.get("/readyz").0, 200);
    assert!(server.terminate().success());
}

/// Everything is judged anew, and a compaction reads every block.
#[test]
fn upkeep_steps_over_what_cannot_be_read() {
    let site = spoilt(&[]);
    let server = site.start();
    let rule = json!({"key": "da:*", "limit": 1, "window": "1h"});
    let response = server.http.put(format!("{}/rules/strict", server.url)).json(&rule).send().unwrap();
    assert_eq!(response.status(), 201);
    wait_for("every shard to be judged", || {
        let mirror = &server.ok("/rules/strict")["mirror"];
        (mirror["done"] == mirror["total"]).then_some(())
    });
    assert_eq!(server.get("/healthz").0, 200);
    let (_, body) = post(&server, lines(0..USERS, "c"));
    assert!(body["counted"].as_u64().unwrap() as usize > 2 * USERS / 3, "{body}");
    assert!(server.terminate().success());
}

#[test]
fn a_compaction_that_fails_is_told() {
    let site = spoilt(&[]);
    let mut compact = std::process::Command::new(crate::support::binary());
    let output = compact.args(["compact", "--data-dir"]).arg(site.data()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("compactions failed") && said.contains("freqcap verify"), "{said}");
    // Erasures are brought to rest by compactions.
    let site = spoilt(&["--erase-within", "1s"]);
    let server = site.start();
    assert_eq!(server.ok("/status")["background_errors"], 0);
    let response = server.http.delete(format!("{}/users/user-1", server.url)).send().unwrap();
    assert_eq!(response.status(), 200);
    wait_for("a compaction to fail", || (server.ok("/status")["background_errors"].as_u64() > Some(0)).then_some(()));
    assert!(server.metric("freqcap_rocksdb_background_errors") > 0.0);
    assert_eq!(server.get("/healthz").0, 200);
    assert!(server.terminate().success());
}

#[test]
fn a_damaged_log_is_refused_with_exit_code_2() {
    let (site, server) = Server::with(&[]);
    assert_eq!(post(&server, lines(0..400, "a")).1["counted"], 400);
    drop(server);
    let log = files(&site.data(), ".log").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let len = std::fs::metadata(&log).unwrap().len() as usize;
    flip(&log, [len / 2].into_iter());
    let output = site.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in [log.file_name().unwrap().to_str().unwrap(), "byte", "sequence", "freqcap verify", "freqcap repair"] {
        assert!(said.contains(part), "{said}");
    }
}

/// Runs a command on a site's directory: its exit code and what it says, as JSON.
fn run(site: &Site, command: &[&str]) -> (i32, Value) {
    let mut run = std::process::Command::new(crate::support::binary());
    let output = run.args(command).arg("--json").arg("--data-dir").arg(site.data()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{command:?}: {said}"));
    (output.status.code().unwrap(), report)
}

/// All files of a directory that hold data.
fn contents(site: &Site) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        ["CURRENT", ".sst", ".log", ".synced"].iter().flat_map(|end| files(&site.data(), end)).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Has a damaged directory told, repaired and served again; how many of the users are still known.
fn repaired(site: &Site) -> usize {
    let before = contents(site);
    for command in [&["verify"][..], &["repair"]] {
        let (code, report) = run(site, command);
        assert_eq!((code, &report["whole"]), (1, &json!(false)), "{command:?}: {report}");
        assert!(contents(site) == before, "{command:?} changed something");
    }
    let (code, report) = run(site, &["repair", "--yes"]);
    assert_eq!((code, &report["repaired"]), (0, &json!(true)), "{report}");
    assert_eq!(run(site, &["verify"]).0, 0);
    let server = site.start();
    let known = |user: &usize| server.ok(&format!("/cap/user-{user}/77"))["count"] == 1;
    let known = (0..USERS).filter(known).count();
    assert_eq!(post(&server, lines(0..USERS, "again")).0, 200);
    assert!(server.terminate().success());
    assert_eq!(run(site, &["verify"]).0, 0);
    known
}

#[test]
fn a_whole_directory_is_verified_as_such() {
    let (site, server) = Server::with(&[]);
    assert_eq!(post(&server, lines(0..100, "a")).1["counted"], 100);
    server.kill();
    assert_eq!(run(&site, &["verify"]).0, 0);
    assert_eq!(run(&site, &["repair", "--yes"]).0, 0);
    assert!(site.start().terminate().success());
    let (code, report) = run(&site, &["verify"]);
    assert_eq!((code, &report["whole"]), (0, &json!(true)), "{report}");
    assert_eq!(report["tables"][0], json!({"table": "logs", "rows": 100, "undecodable": 0, "unreadable": 0}));
}

#[test]
fn blocks_that_cannot_be_read_are_given_up_with_their_rows_alone() {
    let site = spoilt(&[]);
    let known = repaired(&site);
    assert!(known > 2 * USERS / 3 && known < USERS, "{known}");
    assert!(site.data().join("damaged/1").is_dir());
}

#[test]
fn what_follows_damage_in_the_log_is_given_up() {
    let (site, server) = Server::with(&[]);
    for start in (0..USERS).step_by(100) {
        assert_eq!(post(&server, lines(start..start + 100, "a")).1["counted"], 100);
    }
    server.kill();
    let log = files(&site.data(), ".log").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let len = std::fs::metadata(&log).unwrap().len() as usize;
    flip(&log, [len / 2].into_iter());
    let known = repaired(&site);
    assert!(known > USERS / 4 && known < 3 * USERS / 4, "{known}");
}

#[test]
fn a_log_that_is_missing_is_given_up() {
    let (site, server) = Server::with(&[]);
    assert_eq!(post(&server, lines(0..USERS, "a")).1["counted"], USERS);
    server.kill();
    files(&site.data(), ".log").into_iter().for_each(|log| std::fs::remove_file(log).unwrap());
    assert_eq!(site.command().output().unwrap().status.code(), Some(2));
    assert_eq!(repaired(&site), 0);
}

/// The list of files that is in use.
fn list(site: &Site) -> PathBuf {
    files(&site.data(), "").into_iter().filter(|path| path.to_string_lossy().contains("MANIFEST-")).max().unwrap()
}

fn current(site: &Site) -> PathBuf {
    site.data().join("CURRENT")
}

#[test]
fn a_list_of_files_that_is_not_named_is_named_again_and_nothing_is_lost() {
    type Spoil = fn(&Site);
    let spoils: [Spoil; 3] = [
        |site| std::fs::remove_file(current(site)).unwrap(),
        |site| std::fs::write(current(site), b"\xff\0").unwrap(),
        |site| std::fs::write(current(site), "MANIFEST-000001\n").unwrap(),
    ];
    for (ends, spoil) in [true, false].into_iter().flat_map(|ends| spoils.map(|spoil| (ends, spoil))) {
        let (site, server) = Server::with(&[]);
        assert_eq!(post(&server, lines(0..USERS, "a")).1["counted"], USERS);
        if ends {
            assert!(server.terminate().success());
        } else {
            server.kill();
        }
        spoil(&site);
        assert_eq!(site.command().output().unwrap().status.code(), Some(2));
        assert_eq!(repaired(&site), USERS);
    }
}

#[test]
fn a_list_of_files_that_is_damaged_is_followed_up_to_there() {
    let (site, server) = Server::with(&[]);
    assert_eq!(post(&server, lines(0..USERS / 2, "a")).1["counted"], USERS / 2);
    assert!(server.terminate().success());
    let server = site.start();
    assert_eq!(post(&server, lines(USERS / 2..USERS, "a")).1["counted"], USERS / 2);
    let before = std::fs::metadata(list(&site)).unwrap().len() as usize;
    assert!(server.terminate().success());
    assert!(std::fs::metadata(list(&site)).unwrap().len() as usize > before, "nothing was added");
    flip(&list(&site), [before + 10].into_iter());
    let (code, report) = run(&site, &["verify"]);
    assert_eq!(code, 1, "{report}");
    let known = repaired(&site);
    assert!(known >= USERS / 2, "{known}");
    // What the list does not name any more is there still.
    assert!(std::fs::read_dir(site.data().join("damaged/1")).unwrap().count() > 1);
}

#[test]
fn without_any_list_of_files_nothing_is_changed() {
    let (site, server) = Server::with(&[]);
    assert_eq!(post(&server, lines(0..USERS, "a")).1["counted"], USERS);
    assert!(server.terminate().success());
    std::fs::remove_file(list(&site)).unwrap();
    let before = contents(&site);
    let (code, report) = run(&site, &["repair", "--yes"]);
    assert_eq!((code, &report["repaired"]), (1, &json!(false)), "{report}");
    assert!(contents(&site) == before && !site.data().join("damaged").join("1").exists());
}
