//! Keys: what each may do, and how their file changes while the service runs.

use super::world::{SCOPES, World, ask, err, freqcap, out, row, sha256};
use crate::support::{Server, wait_for};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a call needs.
#[derive(PartialEq)]
enum Needs {
    Nothing,
    AnyKey,
    Scope(String),
}

impl Needs {
    fn scope(&self) -> Option<&str> {
        match self {
            Self::Scope(scope) => Some(scope),
            _ => None,
        }
    }
}

/// Every call of the document, with its parameters filled in, and what it needs.
fn calls() -> Vec<(String, String, Needs)> {
    let document: Value = serde_json::from_str(&out(&freqcap(&["openapi"]))).unwrap();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap_or_else(|| panic!("{path} says who may call it"));
            let needs = match security.first().map(|one| one["key"][0].as_str()) {
                None => Needs::Nothing,
                Some(None) => Needs::AnyKey,
                Some(Some(scope)) => Needs::Scope(scope.to_owned()),
            };
            let path = path.replace("{user}", "u").replace("{da}", "a").replace("{id}", "r").replace("{key}", "da:a");
            // A stream that is taken never ends.
            let path = if path == "/caps/stream" { "/caps/stream?from=nowhere".to_owned() } else { path };
            calls.push((method.to_uppercase(), path, needs));
        }
    }
    assert!(calls.len() >= 18);
    calls
}

#[test]
fn every_call_is_for_keys_of_its_scope_and_for_no_others() {
    let rows: String =
        SCOPES.iter().map(|scope| row(&scope.replace(':', "-"), &format!("s-{scope}"), &[scope], "")).collect();
    let world = World::new(&(rows + &row("nothing", "s-nothing", &[], "")), &[]);
    let server = world.site.start();
    for (method, path, needed) in calls() {
        for scope in SCOPES {
            let (status, body) = ask(&server, &method, &path, Some(&format!("s-{scope}")));
            let allowed = needed.scope().is_none_or(|needed| needed == scope || scope == "admin");
            if allowed {
                assert!(!matches!(status, 401 | 403), "{method} {path} {scope}: {status} {body}");
            } else {
                assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{method} {path} {scope}");
                assert_eq!(body["scope"].as_str(), needed.scope(), "{method} {path} {scope}");
            }
        }
        for secret in [None, Some("s-unknown"), Some("")] {
            let (status, body) = ask(&server, &method, &path, secret);
            match &needed {
                Needs::Nothing => assert!(matches!(status, 200 | 204), "{method} {path}: {status} {body}"),
                _ => assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")), "{method} {path}"),
            }
        }
        if let Some(needed) = needed.scope() {
            assert_eq!(ask(&server, &method, &path, Some("s-nothing")).1["scope"], json!(needed), "{method} {path}");
        }
    }
    // Whoever is not known is not told which paths there are; who is known may read the description.
    for path in ["/nowhere", "/docs/", "/openapi.json"] {
        assert_eq!(ask(&server, "GET", path, None).0, 401, "{path}");
    }
    assert_eq!(ask(&server, "GET", "/nowhere", Some("s-nothing")).0, 404);
    assert_eq!(ask(&server, "GET", "/openapi.json", Some("s-nothing")).0, 200);
    let refused = server.http.get(format!("{}/rules", server.url)).send().unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let twice = server.http.get(format!("{}/rules", server.url));
    let twice = twice.header("authorization", "Bearer s-admin").header("authorization", "Bearer s-admin");
    assert_eq!(twice.send().unwrap().status(), 401);
    // Where keys are asked for, no name is.
    let elsewhere = server.http.get(format!("{}/rules", server.url)).header("host", "ads.example");
    assert_eq!(elsewhere.bearer_auth("s-admin").send().unwrap().status(), 200);
}

#[test]
fn a_key_that_has_expired_is_no_key() {
    let soon = freqcap::clock::Clock::system().now().0 + 1_500;
    let at = format!("expires = \"{}\"", rfc3339(soon));
    let world = World::new(&(row("a", "one", &["admin"], "") + &row("b", "two", &["admin"], &at)), &[]);
    let server = world.site.start();
    assert_eq!(ask(&server, "GET", "/cap/u/a", Some("two")).0, 200);
    wait_for("the key to expire", || (ask(&server, "GET", "/cap/u/a", Some("two")).0 == 401).then_some(()));
    assert!(ask(&server, "GET", "/cap/u/a", Some("two")).1["detail"].as_str().unwrap().contains("expired"));
    assert_eq!(ask(&server, "GET", "/cap/u/a", Some("one")).0, 200);
}

fn rfc3339(ms: u64) -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S", "-d", &format!("@{}", ms / 1_000)]).output();
    format!("{}.{:03}Z", String::from_utf8(output.unwrap().stdout).unwrap().trim(), ms % 1_000)
}

fn metric(server: &Server, secret: &str, name: &str) -> Option<String> {
    let text = server.http.get(format!("{}/metrics", server.url)).bearer_auth(secret).send().unwrap().text().unwrap();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

#[test]
fn keys_rotate_while_connections_are_open_and_a_file_that_will_not_do_changes_nothing() {
    let old = row("old", "one", &["admin"], "");
    let world = World::new(&old, &[]);
    let server = world.site.start();
    let asks = |secret: &str| ask(&server, "GET", "/cap/u/a", Some(secret)).0;
    assert_eq!((asks("one"), asks("two")), (200, 401));
    world.replace(&(old.clone() + &row("new", "two", &["admin"], "")));
    wait_for("the second key", || (asks("two") == 200).then_some(()));
    assert_eq!(asks("one"), 200);
    world.replace(&row("new", "two", &["admin"], ""));
    wait_for("the first key to end", || (asks("one") == 401).then_some(()));
    for (wrong, told) in [
        (row("new", "two", &["admin"], "") + &row("x", "y", &["everything"], ""), "line 9: "),
        (row("new", "two", &["admin"], "") + &row("new", "y", &["admin"], ""), "line 6: "),
        (row("new", "two", &["admin"], "expires = 2031-01-01"), "line 5: "),
        ("[[key]]\nid = 'x'\nsha256 = '12'\nscopes = []\n".to_owned(), "line 3: "),
        (String::new(), "line 1: "),
        ("\u{0}".to_owned(), "line 1: "),
    ] {
        world.replace(&wrong);
        let error = wait_for("the error", || {
            let status = ask(&server, "GET", "/status", Some("two")).1;
            let error = status["access"]["file_error"].as_str()?.to_owned();
            error.contains(told).then_some(error)
        });
        assert!(error.contains("keys.toml"), "{error}");
        assert_eq!((asks("two"), asks("y")), (200, 401), "{wrong}");
        assert_eq!(metric(&server, "two", "freqcap_keys_reload_failed").as_deref(), Some("1"));
        wait_for("the log", || server.log.try_iter().find(|line| line.contains(told)));
    }
    std::fs::remove_file(world.keys_file()).unwrap();
    wait_for("the missing file", || {
        let status = ask(&server, "GET", "/status", Some("two")).1;
        status["access"]["file_error"].as_str()?.contains("cannot be read").then_some(())
    });
    assert_eq!(asks("two"), 200);
    std::fs::write(world.keys_file(), row("third", "three", &["admin"], "")).unwrap();
    wait_for("the third key", || (asks("three") == 200).then_some(()));
    assert_eq!(asks("two"), 401);
    assert_eq!(metric(&server, "three", "freqcap_keys_reload_failed").as_deref(), Some("0"));
    assert_eq!(metric(&server, "three", "freqcap_keys").as_deref(), Some("1"));
    assert!(metric(&server, "three", "freqcap_auth_total{key=\"third\",result=\"ok\"}").is_some());
    // SIGHUP reads it at once; without it the look is a second away. Nothing ends.
    server.signal(1);
    assert_eq!(asks("three"), 200);
}

#[test]
fn a_keys_file_that_will_not_do_keeps_the_service_from_starting() {
    let good = row("a", "one", &["admin"], "");
    for (keys, told) in [
        (good.clone() + &good, "line 6: there is a key \"a\" already, in line 1"),
        (good.replace("admin", "root"), "line 4: key \"a\": there is no scope \"root\""),
        (good.replace("sha256 = \"", "sha256 = \"x"), "line 3: key \"a\": sha256"),
        (good.clone() + "expires = 2030", "line 6"),
        (good.clone() + "[[key]", "line 6"),
        (String::new(), "line 1: there is no [[key]]"),
    ] {
        let world = World::new(&keys, &[]);
        let output = world.site.command().output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{keys}");
        assert!(err(&output).contains(told) && err(&output).contains("keys.toml"), "{told}: {}", err(&output));
        let checked = freqcap(&["key", "check", world.keys_file().to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(2));
        assert!(err(&checked).contains(told), "{}", err(&checked));
    }
    let missing = crate::support::Site::new(&["--keys-file", "nowhere.toml"]);
    let output = missing.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("nowhere.toml: cannot be read"), "{}", err(&output));
}

#[test]
fn ten_thousand_keys_are_as_good_as_one() {
    let keys: String = (0..10_000).map(|n| row(&format!("k{n}"), &format!("s{n}"), &["decide"], "")).collect();
    let world = World::new(&(keys.clone() + &row("ops", "ops", &["admin"], "")), &[]);
    let server = world.site.start();
    for n in (0..10_000).step_by(97) {
        assert_eq!(ask(&server, "GET", "/cap/u/a", Some(&format!("s{n}"))).0, 200, "{n}");
    }
    assert_eq!(metric(&server, "ops", "freqcap_keys").as_deref(), Some("10001"));
    world.replace(&row("ops", "ops", &["admin"], ""));
    wait_for("fewer keys", || (ask(&server, "GET", "/cap/u/a", Some("s1")).0 == 401).then_some(()));
}

#[test]
fn a_new_key_is_printed_once_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, secret) = (dir.path().join("keys.toml"), dir.path().join("secret"));
    let (keys, secret) = (keys.to_str().unwrap(), secret.to_str().unwrap());
    let printed = freqcap(&["key", "new", "--id", "bidder-1", "--scopes", "events,decide", "--expires", "90d"]);
    assert!(printed.status.success(), "{}", err(&printed));
    let printed = out(&printed);
    let (first, rows) = printed.split_once('\n').unwrap();
    assert!(first.starts_with("fc_bidder-1_") && first.len() == "fc_bidder-1_".len() + 43, "{first}");
    assert!(rows.contains(&sha256(first)) && rows.contains("scopes = [\"events\", \"decide\"]"), "{rows}");
    assert!(rows.contains("expires = 2"), "{rows}");
    std::fs::write(keys, rows).unwrap();
    // Added to the file, its secret in a file of its own.
    let made =
        freqcap(&["key", "new", "--id", "ops", "--scopes", "admin", "--keys-file", keys, "--secret-file", secret]);
    assert!(made.status.success() && out(&made).is_empty(), "{made:?}");
    let ops = std::fs::read_to_string(secret).unwrap();
    assert!(ops.starts_with("fc_ops_") && !err(&made).contains(ops.trim()));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(secret).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = freqcap(&["key", "new", "--id", "ops", "--scopes", "admin", "--keys-file", keys]);
    assert_eq!(again.status.code(), Some(2), "a key of that name is there");
    let checked = out(&freqcap(&["key", "check", keys]));
    assert!(checked.contains("bidder-1  events,decide  until 2") && checked.contains("ops  admin"), "{checked}");
    assert_eq!(out(&freqcap(&["key", "check", keys, "--key-file", secret])), "ops\n");
    let mut hash = Command::new(crate::support::binary())
        .args(["key", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    hash.stdin.take().unwrap().write_all(first.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(hash.wait_with_output().unwrap().stdout).unwrap().trim(), sha256(first));
    for wrong in [
        &["key", "new", "--id", "a b", "--scopes", "events"][..],
        &["key", "new", "--id", "a", "--scopes", "everything"],
        &["key", "new", "--id", "a", "--scopes", "events", "--expires", "soon"],
        &["key", "new", "--id", "a"],
    ] {
        assert_eq!(freqcap(wrong).status.code(), Some(2), "{wrong:?}");
    }

    // And with it the commands that call a service.
    let world = World::new(&std::fs::read_to_string(keys).unwrap(), &[]);
    let server = world.site.start();
    assert_eq!(ask(&server, "GET", "/cap/u/a", Some(first)).0, 200);
    assert_eq!(ask(&server, "GET", "/rules", Some(first)).0, 403);
    let events = dir.path().join("events.ndjson");
    std::fs::write(&events, "{\"user\":\"u\",\"da\":\"a\"}\n").unwrap();
    let events = events.to_str().unwrap();
    let replay = |args: &[&str]| freqcap(&[&["replay", events, "--url", &server.url], args].concat());
    let refused = replay(&[]);
    assert!(!refused.status.success() && (err(&refused) + &out(&refused)).contains("401"), "{refused:?}");
    assert!(replay(&["--key-file", secret]).status.success());
    assert_eq!(ask(&server, "GET", "/cap/u/a", Some(ops.trim())).1["count"], 1);
    assert_eq!(replay(&["--key-file", "nowhere"]).status.code(), Some(2));
    assert!(freqcap(&["healthcheck", "--url", &server.url, "--key-file", secret]).status.success());
}

#[test]
fn no_secret_is_told_to_anybody() {
    let secret = "fc_ops_hunter2hunter2hunter2hunter2hunter2hunter2hun";
    let world = World::new(&row("ops", secret, &["admin"], ""), &["--log", "trace"]);
    let mut command = world.site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    let bearer = format!("Bearer {secret}");
    let text = |path: &str| {
        let request = server.http.get(format!("{}{path}", server.url)).header("authorization", &bearer);
        request.send().unwrap().text().unwrap()
    };
    let told: String = ["/status", "/metrics", "/cap/u/a", "/rules", "/nowhere"].into_iter().map(text).collect();
    assert!(told.contains("freqcap_keys 1"), "{told}");
    ask(&server, "GET", "/rules", Some("hunter2"));
    world.replace("[[key]]\nid = \"x\"\nsha256 = \"hunter2\"\nscopes = \"hunter2\"\n");
    let error = wait_for("the error", || {
        let status = text("/status");
        (!serde_json::from_str::<Value>(&status).unwrap()["access"]["file_error"].is_null()).then_some(status)
    });
    let log: Vec<String> = server.started.iter().cloned().chain(server.log.try_iter()).collect();
    for text in [told, error, log.join("\n")] {
        assert!(!text.contains("hunter2") && !text.contains(&sha256(secret)), "{text}");
    }
}
