//! Who is erased with many others, and who is never counted.

use crate::support::{Server, Site, wait_for};
use serde_json::{Value, json};

fn erase(server: &Server, lines: &str) -> (u16, Value) {
    let (status, body) = server.post("/erasures", "application/x-ndjson", lines);
    (status.as_u16(), body)
}

fn finished(server: &Server, id: &str) -> Value {
    wait_for("the erasure", || {
        let progress = server.ok(&format!("/erasures/{id}"));
        progress["finished_at"].is_u64().then_some(progress)
    })
}

fn count(server: &Server, user: &str) -> Value {
    server.ok(&format!("/cap/{user}/1"))["count"].clone()
}

#[test]
fn many_users_are_erased_by_one_call_and_the_receipt_names_nobody() {
    let (_site, server) = Server::with(&["--limit", "2"]);
    let events: Vec<Value> =
        (0..300).map(|n| json!({"user": format!("user-{}", n % 100), "da": "1", "keys": ["c:1"]})).collect();
    server.count(&json!(events));
    let lines: String = (0..60)
        .map(|n| if n % 2 == 0 { format!("\"user-{n}\"\n") } else { format!("{{\"user\":\"user-{n}\"}}\n") })
        .collect();
    let (status, taken) = erase(&server, &format!("{lines}\n{{}}\nx\n\"never-seen\"\n"));
    assert_eq!((status, &taken["total"], &taken["rejected"]), (202, &json!(61), &json!(2)), "{taken}");
    let codes: Vec<_> = taken["errors"].as_array().unwrap().iter().map(|error| error["code"].clone()).collect();
    assert_eq!(codes, ["missing_user", "invalid_json"]);
    let done = finished(&server, taken["id"].as_str().unwrap());
    for (member, value) in [("done", 61), ("total", 61), ("logs", 120), ("events", 180), ("caps", 60)] {
        assert_eq!(done[member], value, "{member} of {done}");
    }
    assert!(!done.to_string().contains("user-"));
    assert_eq!((count(&server, "user-5"), count(&server, "user-60")), (json!(0), json!(3)));
    let replayed = json!({"user": "user-5", "da": "1", "ts": done["created_at"].as_u64().unwrap() - 1_000});
    assert_eq!(server.count(&replayed)["result"], "erased");
    let (status, body) = server.get("/erasures/0123456789abcdef0123456789abcdef");
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("unknown_erasure")));
    let (status, body) = erase(&server, &"1\n".repeat(10_001));
    assert_eq!((status, &body["code"]), (413, &json!("too_many_lines")));
    assert_eq!(server.post_json("/erasures", &json!({"user": "u"})).0, 415);
    let (status, empty) = erase(&server, "");
    assert_eq!((status, &finished(&server, empty["id"].as_str().unwrap())["total"]), (202, &json!(0)));
}

#[test]
fn an_erasure_goes_on_after_a_crash_and_leaves_no_bytes() {
    let site = Site::new(&["--erase-within", "1s"]);
    let server = site.start();
    let events: Vec<Value> =
        (0..2_000).map(|n| json!({"user": format!("somebody-{n}"), "da": "1", "id": n.to_string()})).collect();
    server.count(&json!(events));
    let lines: String = (0..2_000).map(|n| format!("\"somebody-{n}\"\n")).collect();
    let id = erase(&server, &lines).1["id"].as_str().unwrap().to_owned();
    server.kill();
    let server = site.start();
    let done = finished(&server, &id);
    assert_eq!((&done["done"], &done["total"]), (&json!(2_000), &json!(2_000)), "{done}");
    assert_eq!((count(&server, "somebody-0"), count(&server, "somebody-1999")), (json!(0), json!(0)));
    wait_for("the end of all their bytes", || (!holds(&site.data(), b"somebody-")).then_some(()));
}

/// Whether a file of a directory has these bytes.
fn holds(dir: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
        if entry.path().is_dir() {
            return holds(&entry.path(), bytes);
        }
        // A file may go while it is looked at.
        let text = std::fs::read(entry.path()).unwrap_or_default();
        text.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn who_opted_out_is_erased_and_never_counted() {
    let site = Site::new(&["--pixel-keys", "k:secret"]);
    let server = site.start();
    let events = json!([{"user": "u", "da": "1"}, {"user": "u", "da": "1"}, {"user": "v", "da": "1"}]);
    server.count(&events);
    let signed = server.call("/sign", &json!({"events": [{"user": "u", "da": "1", "id": "i"}]}));
    let (status, _, receipt) = server.send("PUT", "/users/u/opt-out", &[], None);
    assert_eq!((status.as_u16(), &receipt["events"]), (200, &json!(2)), "{receipt}");
    let check = |server: &Server| {
        assert_eq!(server.count(&json!({"user": "u", "da": "1"}))["result"], "opted_out");
        let batch = server.count(&events);
        assert_eq!((&batch["opted_out"], &batch["counted"]), (&json!(2), &json!(1)), "{batch}");
        let pixel = server.http.get(format!("{}{}", server.url, signed["urls"][0].as_str().unwrap())).send().unwrap();
        assert_eq!(pixel.headers()["freqcap-result"], "opted_out");
        assert_eq!(server.ok("/cap/u/1")["count"], 0);
        assert_eq!(server.ok("/users/u")["logs"], json!([]));
        let reserved = server.call("/reserve", &json!({"user": "u", "candidates": ["1", "2"], "ttl": null}));
        assert_eq!((&reserved["reserved"][0]["da"], &server.ok("/cap/u/1")["count"]), (&json!("1"), &json!(0)));
    };
    check(&server);
    assert_eq!(server.send("PUT", "/users/u/opt-out", &[], None).0, 200, "the same again");
    server.kill();
    let server = site.start();
    check(&server);
    assert!(server.metric("freqcap_events_total{result=\"opted_out\"}") >= 4.0);
    let audit = server.ok("/audit").to_string();
    assert!(audit.contains("PUT /users/{user}/opt-out") && !audit.contains("\"u\""), "{audit}");
    assert_eq!(server.send("DELETE", "/users/u/opt-out", &[], None).0, 204);
    let (status, _, body) = server.send("DELETE", "/users/u/opt-out", &[], None);
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("not_opted_out")));
    assert_eq!(server.count(&json!({"user": "u", "da": "1"}))["result"], "counted");
}

#[test]
fn the_verdict_on_who_opted_out_is_what_the_operator_says() {
    let (_site, server) = Server::with(&["--opted-out", "deny"]);
    assert_eq!(server.ok("/cap/u/1")["capped"], false);
    server.send("PUT", "/users/u/opt-out", &[], None);
    let verdict = server.ok("/cap/u/1");
    assert_eq!(
        (&verdict["capped"], &verdict["rule"], verdict["capped_until"].is_u64()),
        (&json!(true), &json!("opted-out"), true)
    );
    let checked = server.call("/check", &json!({"user": "u", "candidates": ["1", "2"]}));
    assert!(checked["results"].as_array().unwrap().iter().all(|it| it["capped"] == true), "{checked}");
    let reserved = server.call("/reserve", &json!({"user": "u", "candidates": ["1", "2"]}));
    assert_eq!((reserved["refused"].as_array().unwrap().len(), &reserved["reserved"]), (2, &json!([])));
    assert_eq!(server.ok("/cap/v/1")["capped"], false);
    server.send("DELETE", "/users/u/opt-out", &[], None);
    assert_eq!(server.ok("/cap/u/1")["capped"], false);
}
