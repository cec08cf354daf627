//! The audit: every change of rules and keys and every erasure, durable, by whom.

use super::world::{World, ask, row};
use crate::support::{Server, Site, units_flags, wait_for};
use serde_json::{Value, json};

fn keys() -> String {
    row("ops", "ops", &["admin"], "") + &row("rules", "rules", &["rules:write"], "")
}

fn send(server: &Server, secret: &str, method: &str, path: &str, body: Option<&Value>) -> u16 {
    let bearer = format!("Bearer {secret}");
    server.send(method, path, &[("authorization", &bearer)], body).0.as_u16()
}

fn audit(server: &Server, query: &str) -> Value {
    let (status, body) = ask(server, "GET", &format!("/audit{query}"), Some("ops"));
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn every_change_is_a_line_that_survives_a_crash() {
    let world = World::new(&keys(), &[]);
    let mut command = world.site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    assert_eq!(audit(&server, ""), json!({"entries": [], "cursor": null}));
    let (first, second) = (
        json!({"key": "campaign:1", "limit": 3, "window": "1d"}),
        json!({"key": "campaign:1", "limit": 4, "window": "1d"}),
    );
    assert_eq!(send(&server, "rules", "PUT", "/rules/r", Some(&first)), 201);
    assert_eq!(send(&server, "ops", "PUT", "/rules/r", Some(&second)), 200);
    assert_eq!(send(&server, "rules", "DELETE", "/rules/r", None), 204);
    // What changed nothing is no line.
    assert_eq!(send(&server, "rules", "DELETE", "/rules/r", None), 404);
    assert_eq!(send(&server, "rules", "PUT", "/rules/default", Some(&first)), 409);
    assert_eq!(send(&server, "rules", "DELETE", "/users/somebody", None), 403);
    let user = "somebody-to-forget";
    let event = json!({"user": user, "da": "1", "keys": ["campaign:1"]});
    assert_eq!(send(&server, "ops", "POST", "/events", Some(&event)), 200);
    assert_eq!(send(&server, "ops", "DELETE", &format!("/users/{user}"), None), 200);
    world.replace(&(keys() + &row("new", "new", &["decide"], "")));
    wait_for("the keys", || (audit(&server, "")["entries"].as_array().unwrap().len() == 5).then_some(()));
    let entries = audit(&server, "")["entries"].clone();
    let of = |index: usize, member: &str| entries[index][member].clone();
    let calls: Vec<_> = (0..5).map(|index| (of(index, "key"), of(index, "call"))).collect();
    assert_eq!(
        calls,
        [
            (json!(null), json!("keys file read again")),
            (json!("ops"), json!("DELETE /users/{user}")),
            (json!("rules"), json!("DELETE /rules/r")),
            (json!("ops"), json!("PUT /rules/r")),
            (json!("rules"), json!("PUT /rules/r")),
        ]
    );
    assert_eq!(of(0, "after")["added"], json!(["new"]));
    assert_eq!((of(1, "before")["events"].clone(), of(1, "before")["logs"].clone()), (json!(1), json!(2)));
    assert_eq!(of(1, "after")["user_hash"].as_str().unwrap().len(), 32);
    assert!(!entries.to_string().contains(user), "{entries}");
    assert_eq!((of(2, "before")["limit"].clone(), of(2, "after")), (json!(4), json!(null)));
    assert_eq!((of(3, "before")["limit"].clone(), of(3, "after")["limit"].clone()), (json!(3), json!(4)));
    assert_eq!((of(4, "before"), of(4, "after")["key"].clone()), (json!(null), json!("campaign:1")));
    // Paged, newest first.
    let page = audit(&server, "?limit=2");
    assert_eq!(page["entries"].as_array().unwrap().as_slice(), &entries.as_array().unwrap()[..2]);
    let next = audit(&server, &format!("?limit=3&cursor={}", page["cursor"].as_str().unwrap()));
    assert_eq!(next, json!({"entries": &entries.as_array().unwrap()[2..], "cursor": null}));
    let since = audit(&server, &format!("?since={}", of(2, "at")))["entries"].as_array().unwrap().len();
    assert!((3..=5).contains(&since), "{since}");
    assert_eq!(audit(&server, "?since=2100-01-01T00:00:00Z")["entries"], json!([]));
    for (query, code) in
        [("?limit=0", "invalid_limit"), ("?cursor=x", "invalid_cursor"), ("?since=soon", "invalid_since")]
    {
        let (status, body) = ask(&server, "GET", &format!("/audit{query}"), Some("ops"));
        assert_eq!((status, body["code"].as_str()), (422, Some(code)));
    }
    assert_eq!(ask(&server, "GET", "/audit", Some("rules")).0, 403);
    let log: Vec<String> = server.log.try_iter().filter(|line| line.contains(" audit: ")).collect();
    assert_eq!(log.len(), 5, "{log:#?}");
    assert!(log[0].contains("key=\"rules\"") && log[0].contains("PUT /rules/r"), "{log:#?}");
    assert!(!log.join("").contains(user));
    server.kill();
    let again = world.site.start();
    assert_eq!(audit(&again, "")["entries"], entries);
    assert_eq!(send(&again, "ops", "PUT", "/rules/r", Some(&first)), 201);
    assert_eq!(audit(&again, "?limit=1")["entries"][0]["seq"], json!(entries[0]["seq"].as_u64().unwrap() + 1));
}

#[test]
fn without_keys_a_change_is_nobody_s() {
    let (_site, server) = Server::with(&[]);
    server.put_rule("r", &json!({"key": "campaign:1", "limit": 3, "window": "1d"}));
    let entry = &server.ok("/audit")["entries"][0];
    assert_eq!((&entry["key"], &entry["call"]), (&json!(null), &json!("PUT /rules/r")));
}

#[test]
fn a_snapshot_that_somebody_asked_for_is_a_line() {
    let bucket = tempfile::tempdir().unwrap();
    let world = World::new(&keys(), &["--snapshots", &format!("file://{}/s", bucket.path().display())]);
    let server = world.site.start();
    let status = send(&server, "ops", "POST", "/snapshots", Some(&json!({})));
    assert!(matches!(status, 201 | 202), "{status}");
    let entry = audit(&server, "?limit=1")["entries"][0].clone();
    assert_eq!((&entry["key"], &entry["call"]), (&json!("ops"), &json!("POST /snapshots")));
    assert!(entry["after"].is_object(), "{entry}");
    assert_eq!(send(&server, "rules", "POST", "/snapshots", None), 403);
}

#[test]
fn a_snapshot_that_nobody_asked_for_is_a_line() {
    let bucket = tempfile::tempdir().unwrap();
    let url = format!("file://{}/s", bucket.path().display());
    let world = World::new(&keys(), &["--snapshots", &url, "--snapshot-every", "1s"]);
    let server = world.site.start();
    let entry = wait_for("a snapshot", || audit(&server, "?limit=1")["entries"].get(0).cloned());
    assert_eq!((&entry["key"], &entry["call"]), (&json!(null), &json!("snapshot by --snapshot-every")));
    assert!(entry["after"]["sequence"].is_u64(), "{entry}");
    // The last one, at the end, is one, too.
    assert_eq!(server.terminate().code(), Some(0));
    let again = world.site.start();
    let newest = audit(&again, "?limit=1")["entries"][0]["after"]["sequence"].clone();
    assert!(newest.as_u64() > entry["after"]["sequence"].as_u64(), "{newest}");
}

/// The newest lines: call, before, after.
fn newest(server: &Server, secret: Option<&str>, count: usize) -> Vec<(String, Value, Value)> {
    let (status, body) = ask(server, "GET", &format!("/audit?limit={count}"), secret);
    assert_eq!(status, 200, "{body}");
    let of = |line: &Value| (line["call"].as_str().unwrap().to_owned(), line["before"].clone(), line["after"].clone());
    body["entries"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn what_a_start_changes_by_its_settings_is_a_line() {
    let site = Site::new(&[]);
    let start = |flags: &[&str], file: Option<&str>| {
        let mut command = site.command();
        command.args(flags);
        if let Some(text) = file {
            let path = site.dir.path().join("freqcap.toml");
            std::fs::write(&path, text).unwrap();
            command.arg("--config").arg(path);
        }
        Server::start(command)
    };
    let server = start(&[], None);
    assert_eq!(newest(&server, None, 9), []);
    server.put_rule("own", &json!({"key": "campaign:1", "limit": 3, "window": "1d"}));
    server.kill();
    // The same again changes nothing.
    let server = start(&[], None);
    assert_eq!(newest(&server, None, 9).len(), 1);
    server.kill();
    let server = start(&["--limit", "7"], None);
    let lines = newest(&server, None, 9);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let (call, before, after) = &lines[0];
    assert_eq!(call, "start with other settings");
    assert_eq!((&before["id"], &before["limit"], &after["limit"]), (&json!("default"), &json!(5), &json!(7)));
    assert_eq!(after["source"], json!("flags"));
    server.kill();
    let rules = "[[rules]]\nid = \"own\"\nkey = \"campaign:1\"\nlimit = 9\nwindow = \"1d\"\n";
    let server = start(&["--limit", "none"], Some(rules));
    let lines = newest(&server, None, 2);
    assert_eq!((&lines[0].1["source"], &lines[0].1["limit"]), (&json!("api"), &json!(3)), "{lines:?}");
    assert_eq!((&lines[0].2["source"], &lines[0].2["limit"]), (&json!("file"), &json!(9)), "{lines:?}");
    assert_eq!((&lines[1].1["id"], &lines[1].2), (&json!("default"), &Value::Null), "{lines:?}");
    server.kill();
    let server = start(&[], None);
    let lines = newest(&server, None, 9);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!((&lines[0].1["limit"], &lines[0].2["limit"]), (&json!(9), &json!(3)), "{lines:?}");
}

#[test]
fn keys_that_changed_while_the_service_was_down_are_a_line() {
    let world = World::new(&keys(), &[]);
    world.site.start().kill();
    world.replace(&(row("ops", "other", &["admin"], "") + &row("new", "new", &["decide"], "")));
    let server = world.site.start();
    let line = wait_for("the line", || newest(&server, Some("other"), 9).into_iter().next());
    let (call, before, after) = line;
    assert_eq!((call.as_str(), before), ("start with other keys", json!({"keys": 2})));
    assert_eq!(after, json!({"keys": 2, "added": ["new"], "changed": ["ops"], "removed": ["rules"]}));
    server.kill();
    // The same again is no change; without a file everybody may do everything, which is one.
    world.site.start().kill();
    let mut command = std::process::Command::new(crate::support::binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(world.site.data()).args(units_flags(&[]));
    let open = Server::start(command);
    let lines = wait_for("the line", || Some(newest(&open, None, 9)).filter(|lines| lines.len() == 2));
    assert_eq!((&lines[0].1, &lines[0].2["keys"]), (&json!({"keys": 2}), &Value::Null), "{lines:?}");
    open.kill();
    let server = world.site.start();
    let lines = wait_for("the line", || Some(newest(&server, Some("other"), 9)).filter(|lines| lines.len() == 3));
    assert_eq!(lines[0].1, json!({"keys": null}), "{lines:?}");
}
