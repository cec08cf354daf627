//! Signed pixels: what counts, what does not, and what is told of it.

use crate::support::{Server, Site, now_ms, wait_for};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

const KEYS: &str = "new:a new secret,old:an old secret";
const HOUR: u64 = 3_600_000;

/// Signs as an ad server would.
fn signed(secret: &str, token: &Value) -> String {
    let e = URL_SAFE_NO_PAD.encode(token.to_string());
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), e.as_bytes());
    format!("/i.gif?e={e}&s={}", URL_SAFE_NO_PAD.encode(&mac.as_ref()[..16]))
}

fn token(user: &str, id: &str) -> Value {
    let now = now_ms();
    json!({"u": user, "d": "77", "i": id, "k": ["campaign:42"], "iat": now - 1_000, "exp": now + HOUR, "kid": "new"})
}

fn by_new(token: &Value) -> String {
    signed("a new secret", token)
}

struct Answer {
    status: u16,
    result: String,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

fn call(server: &Server, method: &str, base: &str, url: &str) -> Answer {
    let response = server.http.request(method.parse().unwrap(), format!("{base}{url}")).send().unwrap();
    let headers = response.headers().clone();
    let result = headers.get("freqcap-result").map(|result| result.to_str().unwrap().to_owned()).unwrap_or_default();
    Answer { status: response.status().as_u16(), result, headers, body: response.bytes().unwrap().to_vec() }
}

fn get(server: &Server, url: &str) -> Answer {
    call(server, "GET", &server.url, url)
}

/// An image, whatever the result is.
fn result(server: &Server, url: &str) -> String {
    let answer = get(server, url);
    assert_eq!((answer.status, answer.body.len(), &answer.body[..6]), (200, 43, &b"GIF89a"[..]), "{url}");
    answer.result
}

/// For a billing notice: the status, and the code of the problem.
fn notice(server: &Server, url: &str) -> (u16, String, String) {
    let answer = get(server, &format!("{url}&f=b"));
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, answer.result, body["code"].as_str().unwrap_or_default().to_owned())
}

fn count(server: &Server, user: &str) -> Value {
    server.ok(&format!("/cap/{user}/77"))["count"].clone()
}

#[test]
fn a_signed_pixel_counts_once_and_its_answer_is_kept_by_nobody() {
    let (_site, server) = Server::with(&["--pixel-keys", KEYS]);
    server.put_rule("c", &json!({"key": "campaign:42", "limit": 2, "window": "1d"}));
    let url = by_new(&token("u", "i1"));
    let first = get(&server, &url);
    assert_eq!((first.status, first.result.as_str(), first.body.len()), (200, "counted", 43));
    for (name, value) in [
        ("content-type", "image/gif"),
        ("cache-control", "no-store, no-cache, must-revalidate, max-age=0"),
        ("pragma", "no-cache"),
        ("expires", "0"),
        ("access-control-allow-origin", "*"),
        ("cross-origin-resource-policy", "cross-origin"),
    ] {
        assert_eq!(first.headers[name], value, "{name}");
    }
    assert!(!first.headers.contains_key("set-cookie"));
    // Harvested and called again, by anybody, it counts no more.
    assert_eq!(
        (result(&server, &url), notice(&server, &url)),
        ("duplicate".into(), (204, "duplicate".into(), String::new()))
    );
    assert_eq!(count(&server, "u"), 1);
    // A beacon with a body, and a key that signs no more.
    let mut of_old = token("u", "i2");
    of_old["kid"] = json!("old");
    let url = format!("{}{}", server.url, signed("an old secret", &of_old));
    let beacon =
        server.http.post(url).header("content-type", "text/plain;charset=UTF-8").body("x".repeat(900)).send().unwrap();
    assert_eq!((beacon.status().as_u16(), &beacon.headers()["freqcap-result"]), (200, &"counted".parse().unwrap()));
    assert_eq!(server.ok("/cap/u/77?key=campaign:42")["key"], "campaign:42");
    let options = call(&server, "OPTIONS", &server.url, "/i.gif");
    assert_eq!((options.status, &options.headers["access-control-allow-origin"]), (204, &"*".parse().unwrap()));
    // Other kinds, and integers as ids.
    let mut click = token("u", "i3");
    (click["n"], click["d"], click["u"]) = (json!("click"), json!(77), json!(9));
    assert_eq!(notice(&server, &by_new(&click)).0, 204);
    assert_eq!(server.ok("/cap/9/77?kind=click")["count"], 1);
    assert_eq!(server.metric("freqcap_pixel_total{result=\"counted\"}"), 3.0);
    assert_eq!(server.metric("freqcap_pixel_total{result=\"duplicate\"}"), 2.0);
}

#[test]
fn nothing_that_was_not_signed_counts() {
    let (_site, server) = Server::with(&["--pixel-keys", KEYS]);
    let whole = token("u", "i1");
    let url = by_new(&whole);
    let (e, s) = url.strip_prefix("/i.gif?e=").unwrap().split_once("&s=").unwrap();
    let other = by_new(&token("v", "i1"));
    let other_e = other.strip_prefix("/i.gif?e=").unwrap().split_once('&').unwrap().0;
    let mut forged: Vec<String> = vec![
        "/i.gif".into(),
        "/i.gif?e=&s=".into(),
        format!("/i.gif?e={e}"),
        format!("/i.gif?s={s}"),
        format!("/i.gif?e={other_e}&s={s}"),
        format!("/i.gif?e={e}&s={}", &s[..s.len() - 2]),
        format!("/i.gif?e={}&s={s}", &e[..e.len() - 4]),
        format!("/i.gif?e={}&s={s}", "A".repeat(1_501)),
        format!("/i.gif?e={e}&s={}", "A".repeat(22)),
        format!("/i.gif?e=%ff&s={s}"),
        signed("another secret", &whole),
        signed("an old secret", &whole),
    ];
    let change = |member: &str, value: Value| {
        let mut changed = whole.clone();
        changed[member] = value;
        by_new(&changed)
    };
    let mut without_id = whole.clone();
    without_id.as_object_mut().unwrap().remove("i");
    forged.push(by_new(&without_id));
    for (member, value) in [
        ("kid", json!("unknown")),
        ("kid", Value::Null),
        ("k", json!((0..17).map(|n| format!("c:{n}")).collect::<Vec<_>>())),
        ("k", json!(["da:1"])),
        ("u", json!("*")),
        ("exp", json!(now_ms() + 8 * 24 * HOUR)),
        ("iat", json!("now")),
    ] {
        forged.push(change(member, value));
    }
    for url in &forged {
        assert_eq!(result(&server, url), "bad_signature", "{url}");
        let separator = if url.contains('?') { "" } else { "?" };
        assert_eq!(
            notice(&server, &format!("{url}{separator}")),
            (401, "bad_signature".into(), "bad_signature".into()),
            "{url}"
        );
    }
    for (iat, exp) in [(now_ms() - HOUR, now_ms() - 1), (now_ms() - 6 * 24 * HOUR, now_ms() - 5)] {
        let mut expired = whole.clone();
        (expired["iat"], expired["exp"]) = (json!(iat), json!(exp));
        let url = by_new(&expired);
        assert_eq!(
            (result(&server, &url), notice(&server, &url)),
            ("expired".into(), (410, "expired".into(), "expired".into()))
        );
    }
    assert_eq!((count(&server, "u"), count(&server, "v")), (json!(0), json!(0)));
    assert_eq!(server.metric("freqcap_pixel_total{result=\"bad_signature\"}"), 2.0 * forged.len() as f64);
    assert_eq!(server.metric("freqcap_pixel_total{result=\"expired\"}"), 4.0);
    // What was refused says nothing of the keys.
    let answer = get(&server, &format!("{}&f=b", forged[10]));
    let told = String::from_utf8(answer.body).unwrap();
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn only_the_time_is_taken_from_outside_and_only_between_the_signing_and_now() {
    let (_site, server) = Server::with(&["--pixel-keys", KEYS]);
    let now = now_ms();
    let shown_at = |t: &str, number: usize| {
        let mut token = token("u", &format!("i{number}"));
        (token["iat"], token["d"]) = (json!(now - HOUR), json!(format!("ad-{number}")));
        assert_eq!(result(&server, &format!("{}&t={t}", by_new(&token))), "counted", "{t}");
        let held = server.ok("/users/u?limit=1000");
        let log = held["logs"].as_array().unwrap().iter().find(|log| log["key"] == format!("da:ad-{number}"));
        log.unwrap()["kinds"][0]["events"][0]["ts"].as_u64().unwrap()
    };
    let told = now - HOUR / 2;
    assert_eq!(shown_at(&told.to_string(), 1), told);
    assert_eq!(shown_at(&(now - 2 * HOUR).to_string(), 2), now - HOUR, "not before it was signed");
    let late = shown_at(&(now + 2 * HOUR).to_string(), 3);
    assert!((now..now + 60_000).contains(&late), "not after now");
    let macros = ["${AUCTION_IMP_TS}", "%24%7BAUCTION_IMP_TS%7D", "[TIMESTAMP]", "{ts}", "%%TS%%", "AUDIT"];
    for (number, t) in macros.into_iter().chain(["soon", "", "12"]).enumerate() {
        let at = shown_at(t, 10 + number);
        assert!((now..now + 60_000).contains(&at), "{t}: {at}");
    }
    assert_eq!(server.metric("freqcap_pixel_macros_total"), macros.len() as f64);
    let others = format!("{}&gdpr=${{GDPR}}&cb=%%CB%%&user=x&da=y", by_new(&token("v", "i")));
    assert_eq!((result(&server, &others), count(&server, "v")), ("counted".into(), json!(1)));
    assert_eq!(server.metric("freqcap_pixel_macros_total"), 2.0 + macros.len() as f64);
}

#[test]
fn a_pixel_is_durable_before_it_is_answered() {
    let site = Site::new(&["--pixel-keys", KEYS]);
    let server = site.start();
    let urls: Vec<String> = (0..50).map(|n| by_new(&token("u", &format!("i{n}")))).collect();
    for url in &urls {
        assert_eq!(result(&server, url), "counted");
    }
    server.kill();
    let server = site.start();
    assert_eq!(count(&server, "u"), 50);
    for url in &urls {
        assert_eq!(result(&server, url), "duplicate");
    }
}

#[test]
fn urls_are_signed_for_events_and_candidates() {
    let (_site, server) = Server::with(&["--pixel-keys", KEYS, "--limit", "2"]);
    let events = json!([{"user": "u", "da": "77", "id": "a", "keys": ["campaign:42"]}, {"user": "u", "da": 78, "id": 5, "kind": "click"}]);
    let answer = server.call("/sign", &json!({"events": events, "ttl": "2h"}));
    let urls: Vec<&str> = answer["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert_eq!(urls.len(), 2);
    let e = urls[0].strip_prefix("/i.gif?e=").unwrap().split_once('&').unwrap().0;
    let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(e).unwrap()).unwrap();
    assert_eq!(
        (&token["u"], &token["kid"], token["exp"].as_u64().unwrap() - token["iat"].as_u64().unwrap()),
        (&json!("u"), &json!("new"), 2 * HOUR)
    );
    assert!(urls.iter().all(|url| result(&server, url) == "counted"));
    // A candidate that may be shown has a pixel, which counts once; one that is capped has none.
    let body = json!({"user": "u", "candidates": ["77", {"da": "77", "keys": ["campaign:42"]}], "pixel": true});
    let checked = server.call("/check", &body);
    let pixels: Vec<&str> =
        checked["results"].as_array().unwrap().iter().map(|it| it["pixel"].as_str().unwrap()).collect();
    assert_eq!((result(&server, pixels[0]), result(&server, pixels[0])), ("counted".into(), "duplicate".into()));
    assert_eq!(result(&server, pixels[1]), "counted");
    let checked = server.call("/check", &body);
    assert!(
        checked["results"].as_array().unwrap().iter().all(|it| it["capped"] == true && it.get("pixel").is_none()),
        "{checked}"
    );
    // The pixel of a reservation confirms it.
    let body = json!({"user": "w", "candidates": ["1", "2", "3"], "want": 2, "id": "r", "pixel": true, "ttl": "1h"});
    let reserved = server.call("/reserve", &body);
    let again = server.call("/reserve", &body);
    assert_eq!(again["reserved"][0]["expires_at"], reserved["reserved"][0]["expires_at"]);
    for (answer, expected) in [(&reserved, "counted"), (&again, "duplicate")] {
        for number in 0..2 {
            assert_eq!(result(&server, answer["reserved"][number]["pixel"].as_str().unwrap()), expected, "{answer}");
        }
    }
    assert_eq!(server.call("/release", &json!({"user": "w", "id": "r"}))["released"], 0, "confirmed");
    assert_eq!(server.ok("/cap/w/1")["count"], 1);
    let long_keys: Vec<String> = (0..5).map(|n| format!("c{n}:{}", "x".repeat(256))).collect();
    for (body, code) in [
        (json!({"events": [{"user": "u", "da": "1"}]}), "missing_id"),
        (json!({"events": [], "ttl": "8d"}), "invalid_ttl"),
        (json!({}), "missing_events"),
        (json!({"events": vec![json!({"user": "u", "da": "1", "id": "i"}); 1_001]}), "too_many_pixels"),
        (json!({"events": [{"user": "u", "da": "1", "id": "i", "keys": long_keys}]}), "pixel_too_long"),
    ] {
        let (status, problem) = server.post_json("/sign", &body);
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!(code)));
    }
}

#[test]
fn without_keys_nothing_is_signed_and_nothing_counts() {
    let (_site, server) = Server::with(&[]);
    assert_eq!(result(&server, &by_new(&token("u", "i"))), "bad_signature");
    for (path, body) in [
        ("/sign", json!({"events": []})),
        ("/check", json!({"user": "u", "candidates": ["1"], "pixel": true})),
        ("/reserve", json!({"user": "u", "candidates": ["1"], "pixel": true})),
    ] {
        let (status, problem) = server.post_json(path, &body);
        assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("pixel_off")), "{path}");
    }
    assert_eq!(server.ok("/cap/u/1")["count"], 0, "nothing was reserved");
}

#[test]
fn the_internet_reaches_the_pixel_and_nothing_else() {
    let site = Site::new(&["--public-listen", "127.0.0.1:0"]);
    let keys = site.dir.path().join("pixel-keys");
    std::fs::write(&keys, "# of the pixel\nnew:a new secret\nold:an old secret\n").unwrap();
    let mut command = site.command();
    command.env("NO_COLOR", "1").arg("--pixel-keys-file").arg(&keys);
    let server = Server::start(command);
    let line = wait_for("the public listener", || server.started.iter().find(|line| line.contains("for the internet")));
    let public = line.rsplit_once(" at ").unwrap().1.trim().to_owned();
    let url = by_new(&token("u", "i"));
    let first = call(&server, "GET", &public, &url);
    assert_eq!((first.status, first.result.as_str()), (200, "counted"));
    assert_eq!(call(&server, "POST", &public, &url).result, "duplicate");
    assert_eq!(call(&server, "OPTIONS", &public, "/i.gif").status, 204);
    assert_eq!(call(&server, "GET", &public, "/healthz").status, 200);
    assert_eq!(call(&server, "DELETE", &public, "/i.gif").status, 405);
    for path in [
        "/sign",
        "/events",
        "/cap/u/77",
        "/check",
        "/rules",
        "/ads",
        "/metrics",
        "/readyz",
        "/docs/",
        "/openapi.json",
        "/",
    ] {
        assert_eq!(call(&server, "GET", &public, path).status, 404, "{path}");
    }
    // The secrets are nowhere to be seen.
    for path in ["/status", "/metrics", "/openapi.json"] {
        let text = server.http.get(format!("{}{path}", server.url)).send().unwrap().text().unwrap();
        assert!(!text.contains("new secret") && !text.contains("old secret"), "{path}");
    }
    let log: Vec<String> = server.started.iter().cloned().chain(server.log.try_iter()).collect();
    assert!(log.iter().all(|line| !line.contains("secret")), "{log:?}");
}

#[test]
fn keys_that_cannot_be_read_are_told_without_their_secrets() {
    for flag in ["--pixel-keys=no colon hunter2", "--pixel-keys=a:hunter2,a:hunter2", "--pixel-keys=:hunter2"] {
        let site = Site::new(&[flag]);
        let output = site.command().output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains("pixel-keys") && !told.contains("hunter2"), "{told}");
    }
}
