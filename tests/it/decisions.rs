//! What an ad server asks before it shows an ad, from outside: `/check`, `/reserve`, `/release`, and the events that confirm.

use crate::support::{Server, Site, now_ms, wait_for};
use serde_json::{Value, json};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

fn das(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|it| it["da"].as_str().unwrap()).collect()
}

fn count_of(server: &Server, user: &str, da: &str) -> u64 {
    server.ok(&format!("/cap/{user}/{da}"))["count"].as_u64().unwrap()
}

#[test]
fn a_check_says_of_each_candidate_what_a_get_says() {
    let (_site, server) = Server::with(&["--limit", "3"]);
    server.put_rule("c", &json!({"key": "campaign:*", "limit": 5, "window": "1d"}));
    server.put_rule("clicks", &json!({"key": "da:*", "limit": 1, "window": "1d", "kind": "click"}));
    server.put_rule("free", &json!({"key": "da:free", "limit": null, "window": "1d"}));
    let event = |n: usize| json!({"user": "u1", "da": (n % 7).to_string(), "keys": [format!("campaign:{}", n % 2)]});
    server.count(&json!((0..15).map(event).collect::<Vec<_>>()));
    server.count(&json!([{"user": "u1", "da": "5", "kind": "click"}, {"user": "u1", "da": "free"}]));
    let candidates: Vec<Value> = (0..40)
        .map(|n| match n % 3 {
            0 => json!((n % 9).to_string()),
            1 => json!({"da": n % 9, "keys": [format!("campaign:{}", n % 2), "campaign:9"]}),
            _ => json!({"da": "free", "keys": []}),
        })
        .collect();
    for at in [None, Some(now_ms() - 60_000), Some(now_ms() + 86_400_000)] {
        for kind in [None, Some("click"), Some("impression")] {
            let answer =
                server.call("/check", &json!({"user": "u1", "candidates": candidates, "at": at, "kind": kind}));
            assert_eq!(answer["user"], "u1");
            let results = answer["results"].as_array().unwrap();
            assert_eq!(results.len(), candidates.len());
            for (candidate, result) in candidates.iter().zip(results) {
                let plain = candidate.as_str().map(str::to_owned);
                let da = plain.unwrap_or_else(|| candidate["da"].to_string().trim_matches('"').to_owned());
                let mut path = format!("/cap/u1/{da}?");
                for key in candidate["keys"].as_array().into_iter().flatten() {
                    path += &format!("key={}&", key.as_str().unwrap());
                }
                path += &at.map_or(String::new(), |at| format!("at={at}&"));
                path += &kind.map_or(String::new(), |kind| format!("kind={kind}"));
                let verdict = server.ok(&path);
                for field in ["da", "capped", "capped_until", "rule", "key", "count", "limit", "remaining"] {
                    assert_eq!(result[field], verdict[field], "{field} of {path}");
                }
            }
        }
    }
}

#[test]
fn a_check_takes_up_to_a_thousand_candidates_and_none() {
    let (_site, server) = Server::with(&[]);
    let ads = |count: usize| json!((0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(server.call("/check", &json!({"user": "u", "candidates": []}))["results"], json!([]));
    let most = server.call("/check", &json!({"user": "u", "candidates": ads(1_000)}));
    assert_eq!(most["results"].as_array().unwrap().len(), 1_000);
    for path in ["/check", "/reserve"] {
        let (status, problem) = server.post_json(path, &json!({"user": "u", "candidates": ads(1_001)}));
        assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("too_many_candidates")));
    }
    for (content_type, body, status, code) in [
        ("application/json", "{", 400, "invalid_json"),
        ("application/json", "7", 422, "not_an_object"),
        ("application/x-ndjson", "{}", 415, "unsupported_content_type"),
        ("text/plain", "{}", 415, "unsupported_content_type"),
        ("application/json", r#"{"user":"u","candidates":[{"da":"1","keys":["da:1"]}]}"#, 422, "invalid_key"),
    ] {
        for path in ["/check", "/reserve"] {
            let (got, problem) = server.post(path, content_type, body);
            assert_eq!((got.as_u16(), problem["code"].as_str()), (status, Some(code)), "{path} {body}");
        }
    }
}

#[test]
fn the_first_candidates_that_are_not_capped_are_reserved_and_count_at_once() {
    let (_site, server) = Server::with(&["--limit", "2"]);
    server.count(&json!([{"user": "u", "da": "a"}, {"user": "u", "da": "a"}]));
    let before = now_ms();
    let answer = server.call("/reserve", &json!({"user": "u", "candidates": ["a", "b", "c"], "id": "r1"}));
    assert_eq!((das(&answer["reserved"]), das(&answer["refused"])), (vec!["b"], vec!["a"]));
    assert_eq!(answer["id"], "r1");
    let expires_at = answer["reserved"][0]["expires_at"].as_u64().unwrap();
    assert!((before + 60_000..=now_ms() + 60_000).contains(&expires_at), "{answer}");
    let capped = server.ok("/cap/u/a");
    for (field, told) in [("rule", "rule"), ("key", "key"), ("capped_until", "capped_until")] {
        assert_eq!(answer["refused"][0][field], capped[told]);
    }
    assert_eq!((count_of(&server, "u", "b"), count_of(&server, "u", "c")), (1, 0));
    let two = server.call("/reserve", &json!({"user": "u", "candidates": ["b", "b", "c"], "want": 5, "ttl": "1h"}));
    // The first took b's last place; the same ad is judged again.
    assert_eq!((das(&two["reserved"]), das(&two["refused"])), (vec!["b", "c"], vec!["b"]));
    assert_eq!(two["id"].as_str().unwrap().len(), 32);
    let cap = server.ok("/cap/u/b");
    assert_eq!((cap["capped"].as_bool(), cap["capped_until"].as_u64()), (Some(true), Some(expires_at)));
}

#[test]
fn candidates_share_a_campaign_and_the_one_before_takes_its_place() {
    let (_site, server) = Server::with(&["--limit", "none"]);
    server.put_rule("c", &json!({"key": "campaign:1", "limit": 2, "window": "1d"}));
    let candidate = |da: &str| json!({"da": da, "keys": ["campaign:1"]});
    let candidates = json!([candidate("a"), candidate("b"), candidate("c"), "d"]);
    let answer = server.call("/reserve", &json!({"user": "u", "candidates": candidates, "want": 4, "id": "r"}));
    assert_eq!((das(&answer["reserved"]), das(&answer["refused"])), (vec!["a", "b", "d"], vec!["c"]));
    assert_eq!((&answer["refused"][0]["key"], &answer["refused"][0]["rule"]), (&json!("campaign:1"), &json!("c")));
}

#[test]
fn an_event_with_the_id_confirms_in_every_log_that_was_reserved() {
    let (_site, server) = Server::with(&["--limit", "5"]);
    let candidate = json!({"da": "a", "keys": ["campaign:1", "advertiser:2"]});
    server.call("/reserve", &json!({"user": "u", "candidates": [candidate], "ttl": "1s", "id": "r"}));
    let ts = now_ms() - 3_600_000;
    // The event names one of the keys, and one that was not reserved.
    let event = json!({"user": "u", "da": "a", "id": "r", "ts": ts, "keys": ["campaign:1", "campaign:3"]});
    assert_eq!(server.count(&event)["result"], "counted");
    assert_eq!(server.count(&event)["result"], "duplicate");
    assert_eq!(server.call("/release", &json!({"user": "u", "id": "r"}))["released"], 0);
    wait_for("the time at which it would have lapsed", || (now_ms() > ts + 3_602_000).then_some(()));
    let held = server.ok("/users/u");
    let logs = held["logs"].as_array().unwrap();
    let keys: Vec<_> = logs.iter().map(|log| log["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["da:a", "advertiser:2", "campaign:1", "campaign:3"]);
    for log in logs {
        let events = &log["kinds"][0]["events"];
        assert_eq!((events.as_array().unwrap().len(), events[0]["ts"].as_u64()), (1, Some(ts)), "{log}");
        assert!(events[0].get("expires_at").is_none());
    }
}

#[test]
fn a_reservation_that_nobody_confirms_stops_counting_to_the_millisecond() {
    let (_site, server) = Server::with(&["--limit", "1"]);
    let answer = server.call("/reserve", &json!({"user": "u", "candidates": ["a"], "ttl": "700ms", "id": "r"}));
    let expires_at = answer["reserved"][0]["expires_at"].as_u64().unwrap();
    assert_eq!(server.ok("/cap/u/a")["capped_until"], expires_at);
    let capped_at = |at: u64| server.ok(&format!("/cap/u/a?at={at}"))["capped"].as_bool().unwrap();
    assert!(capped_at(expires_at - 1) && !capped_at(expires_at));
    wait_for("the reservation to lapse", || (now_ms() >= expires_at).then_some(()));
    let verdict = server.ok("/cap/u/a");
    assert_eq!((verdict["capped"].as_bool(), verdict["count"].as_u64()), (Some(false), Some(0)));
    assert_eq!(server.ok("/users/u")["logs"], json!([]));
    assert_eq!(server.call("/release", &json!({"user": "u", "id": "r"}))["released"], 0);
    // Too late to confirm, it is an event like any other, and one more even over the limit.
    server.call("/reserve", &json!({"user": "u", "candidates": ["a"], "id": "r2"}));
    assert_eq!(server.count(&json!({"user": "u", "da": "a", "id": "r"}))["result"], "counted");
    assert_eq!(count_of(&server, "u", "a"), 2);
}

#[test]
fn what_is_released_is_free_again() {
    let (_site, server) = Server::with(&["--limit", "1"]);
    let reserve = |id: &str| {
        let call = json!({"user": "u", "candidates": ["a", "b"], "want": 2, "id": id});
        das(&server.call("/reserve", &call)["reserved"]).len()
    };
    let release = |body: Value| server.call("/release", &body)["released"].as_u64().unwrap();
    assert_eq!((reserve("r1"), reserve("r2")), (2, 0));
    assert_eq!(release(json!({"user": "u", "id": "r2"})), 0);
    assert_eq!(release(json!({"user": "u", "id": "r1", "da": "c"})), 0);
    assert_eq!(release(json!({"user": "other", "id": "r1"})), 0);
    assert_eq!(release(json!({"user": "u", "id": "r1", "da": "b"})), 1);
    assert_eq!((count_of(&server, "u", "a"), count_of(&server, "u", "b")), (1, 0));
    assert_eq!(release(json!({"user": "u", "id": "r1"})), 1);
    assert_eq!(release(json!({"user": "u", "id": "r1"})), 0);
    assert_eq!(reserve("r3"), 2);
    // After a release its event is an event like any other.
    assert_eq!(server.count(&json!({"user": "u", "da": "a", "id": "r1"}))["result"], "counted");
    assert_eq!(count_of(&server, "u", "a"), 2);
}

#[test]
fn the_same_call_again_gets_the_stored_answer_and_another_body_a_409() {
    let (site, server) = Server::with(&["--limit", "1"]);
    let call = json!({"user": "u", "candidates": ["a", "b"], "id": "r", "ttl": "30s"});
    let first = server.call("/reserve", &call);
    assert_eq!(server.call("/reserve", &call), first);
    // The same JSON value, written otherwise.
    let (status, other) = server.post(
        "/reserve",
        "application/json",
        r#" {"ttl":"30\u0073","id":"r", "candidates":[ "a","b" ],"user":"u"}"#,
    );
    assert_eq!((status.as_u16(), &other), (200, &first));
    assert_eq!(count_of(&server, "u", "a"), 1);
    let (status, problem) = server.post_json("/reserve", &json!({"user": "u", "candidates": ["b"], "id": "r"}));
    assert_eq!((status.as_u16(), problem["code"].as_str()), (409, Some("id_reused")));
    // Ids are per user.
    assert_eq!(das(&server.call("/reserve", &json!({"user": "v", "candidates": ["b"], "id": "r"}))["reserved"]), ["b"]);
    server.call("/release", &json!({"user": "u", "id": "r"}));
    assert_eq!(server.call("/reserve", &call), first);
    server.kill();
    let server = site.start();
    assert_eq!(server.call("/reserve", &call), first);
    assert_eq!(count_of(&server, "u", "a"), 0);
}

#[test]
fn without_an_end_a_reservation_is_check_and_count_in_one() {
    let (_site, server) = Server::with(&["--limit", "2"]);
    let call = |id: &str| server.call("/reserve", &json!({"user": "u", "candidates": ["a"], "ttl": null, "id": id}));
    let first = call("r1");
    assert_eq!(first["reserved"], json!([{"da": "a", "expires_at": null}]));
    assert_eq!(call("r1"), first);
    assert_eq!(das(&call("r2")["reserved"]), ["a"]);
    assert_eq!(das(&call("r3")["refused"]), ["a"]);
    assert_eq!(server.call("/release", &json!({"user": "u", "id": "r1"}))["released"], 0);
    assert_eq!(server.count(&json!({"user": "u", "da": "a", "id": "r1"}))["result"], "duplicate");
    assert_eq!(count_of(&server, "u", "a"), 2);
}

#[test]
fn rules_of_every_kind_keep_an_ad_from_being_reserved() {
    let (_site, server) = Server::with(&["--limit", "5"]);
    server.put_rule("enough", &json!({"key": "da:*", "limit": 1, "window": "1d", "kind": "click"}));
    server.count(&json!({"user": "u", "da": "a", "kind": "click"}));
    let answer = server.call("/reserve", &json!({"user": "u", "candidates": ["a", "b"]}));
    assert_eq!((das(&answer["reserved"]), &answer["refused"][0]["rule"]), (vec!["b"], &json!("enough")));
    // A reservation counts as what it says it is.
    server.call("/reserve", &json!({"user": "u", "candidates": ["c"], "kind": "click"}));
    let verdict = server.ok("/cap/u/c");
    assert_eq!((&verdict["rule"], verdict["capped"].as_bool()), (&json!("enough"), Some(true)));
}

#[test]
fn a_shadow_rule_is_told_of_and_measured_and_caps_nothing() {
    let (_site, server) = Server::with(&["--limit", "5"]);
    server.put_rule("what-if", &json!({"key": "da:*", "limit": 1, "window": "1d", "mode": "shadow"}));
    let answer = server.count(&json!([{"user": "u", "da": "a"}, {"user": "u", "da": "b"}]));
    assert_eq!(answer["capped"], json!([]));
    let verdict = server.ok("/cap/u/a");
    assert_eq!((&verdict["rule"], verdict["capped"].as_bool()), (&json!("default"), Some(false)));
    let shadow = &verdict["rules"].as_array().unwrap()[1];
    assert_eq!(
        (&shadow["rule"], &shadow["mode"], &shadow["capped"]),
        (&json!("what-if"), &json!("shadow"), &json!(true))
    );
    let results = server.call("/check", &json!({"user": "u", "candidates": ["a", "c"]}));
    assert_eq!(results["results"][0]["would_cap"], json!(["what-if"]));
    assert_eq!(results["results"][0]["capped"], false);
    assert!(results["results"][1].get("would_cap").is_none());
    assert_eq!(das(&server.call("/reserve", &json!({"user": "u", "candidates": ["b"]}))["reserved"]), ["b"]);
    assert_eq!(server.ok("/users/u/caps")["caps"], json!([]));
    assert_eq!(server.metric("freqcap_would_cap_total{rule=\"what-if\"}"), 3.0);
}

#[test]
fn an_answer_lists_sixteen_shadow_rules_and_every_enforced_one_and_all_are_measured() {
    let (_site, server) = Server::with(&["--limit", "5"]);
    for n in 0..20 {
        server.put_rule(&format!("on-{n:02}"), &json!({"key": "da:*", "limit": 9, "window": "1d"}));
        server.put_rule(&format!("if-{n:02}"), &json!({"key": "da:*", "limit": 1, "window": "1d", "mode": "shadow"}));
        server.put_rule(&format!("no-{n:02}"), &json!({"key": "c:*", "limit": 2, "window": "1d", "mode": "shadow"}));
    }
    server.count(&json!([{"user": "u", "da": "a", "keys": ["c:1"]}]));
    let of_mode = |verdict: &Value, mode: &str| {
        let rules = verdict["rules"].as_array().unwrap().iter().filter(|rule| rule["mode"] == mode);
        rules.map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (path, omitted) in [("/cap/u/a", 4), ("/cap?user=u&da=a&key=c:1", 24)] {
        let verdict = server.ok(path);
        assert_eq!(
            (of_mode(&verdict, "enforce").len(), &verdict["shadow_omitted"]),
            (21, &json!(omitted)),
            "{verdict}"
        );
        let first: Vec<_> = (0..16).map(|n| format!("if-{n:02}")).collect();
        assert_eq!(of_mode(&verdict, "shadow"), first);
        assert_eq!((&verdict["rule"], &verdict["remaining"]), (&json!("default"), &json!(4)));
    }
    let results = server.call("/check", &json!({"user": "u", "candidates": ["a", "b"]}))["results"].clone();
    assert_eq!((results[0]["would_cap"].as_array().unwrap().len(), &results[0]["shadow_omitted"]), (16, &json!(4)));
    assert!(results[1].get("would_cap").is_none() && results[1].get("shadow_omitted").is_none(), "{results}");
    // What is not listed is measured all the same.
    for rule in ["if-00", "if-15", "if-16", "if-19"] {
        assert_eq!(server.metric(&format!("freqcap_would_cap_total{{rule=\"{rule}\"}}")), 3.0, "{rule}");
    }
    let few = server.ok("/cap?user=u&da=a&kind=click");
    assert!(few.get("shadow_omitted").is_none(), "{few}");
}

const CLIENTS: usize = 64;
const USERS: usize = 10;
const LIMIT: usize = 3;

/// How many rounds the race runs.
fn rounds() -> usize {
    std::env::var("FREQCAP_RACE_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap())
}

#[test]
fn what_is_capped_for_a_moment_within_a_call_is_not_told_as_capped() {
    let (_site, server) = Server::with(&["--limit", "2", "--window", "5d"]);
    server.call("/reserve", &json!({"user": "u", "candidates": ["a"], "id": "r"}));
    let confirm = json!({"user": "u", "da": "a", "id": "r", "ts": now_ms() - 6 * 86_400_000});
    // Capped by the event and the reservation, until that turns out to be an impression of six days ago.
    let answer = server.count(&json!([{"user": "u", "da": "a"}, confirm]));
    assert_eq!((&answer["counted"], &answer["capped"]), (&json!(2), &json!([])));
    assert_eq!(server.ok("/cap/u/a")["count"], 1);
    let again = server.count(&json!([{"user": "u", "da": "a"}]));
    assert_eq!(again["capped"].as_array().unwrap().len(), 1);
}

#[test]
fn who_sends_slowly_keeps_nobody_from_reading() {
    use std::io::Write;
    let (_site, server) = Server::with(&["--max-reads", "1"]);
    let mut slow = std::net::TcpStream::connect(server.addr()).unwrap();
    let header =
        "POST /check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(header.as_bytes()).unwrap();
    wait_for("the slow connection to be served", || {
        (server.metric("freqcap_http_connections{listener=\"main\"}") >= 2.0).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(server.get("/cap/u/a").0, 200);
    }
}

/// What client number `client` asks for a user of a round.
fn racing(round: usize, user: usize, client: usize) -> Value {
    let candidate = json!({"da": "a", "keys": ["campaign:1"]});
    json!({"user": format!("u{round}-{user}"), "id": format!("r{client}"), "ttl": "5m", "candidates": [candidate]})
}

/// Every client asks once for every user, each in another order; nothing where there was no answer. `meanwhile` gets the
/// number of answers so far.
fn race(server: &Server, round: usize, meanwhile: impl FnOnce(&AtomicUsize)) -> Vec<Vec<Option<Value>>> {
    let (barrier, answered, url) = (Barrier::new(CLIENTS), AtomicUsize::new(0), server.url.clone());
    let run = |client: usize| {
        let http = crate::support::client();
        barrier.wait();
        let ask = |user: usize| {
            let request = http.post(format!("{url}/reserve")).header("content-type", "application/json");
            let response = request.body(racing(round, user, client).to_string()).send().ok()?;
            let answer = serde_json::from_slice(&response.bytes().ok()?).ok()?;
            answered.fetch_add(1, Ordering::Relaxed);
            Some(answer)
        };
        let mut answers = vec![None; USERS];
        for user in (0..USERS).map(|n| (n + client) % USERS) {
            answers[user] = ask(user);
        }
        answers
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let run = &run;
                    move || run(client)
                })
            })
            .collect();
        meanwhile(&answered);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn is_through(answer: &Value) -> bool {
    !das(&answer["reserved"]).is_empty()
}

#[test]
fn however_many_race_a_cap_of_n_lets_n_through() {
    let (_site, server) = Server::with(&["--limit", "none", "--durability", "wal"]);
    server.put_rule("three", &json!({"key": "campaign:*", "limit": LIMIT, "window": "1d"}));
    for round in 0..rounds() {
        let answers = race(&server, round, |_| {});
        for user in 0..USERS {
            let answers = answers.iter().map(|of_client| of_client[user].as_ref().unwrap());
            assert_eq!(answers.filter(|answer| is_through(answer)).count(), LIMIT, "user {user} of round {round}");
        }
    }
}

/// Killed while 64 clients reserve; then all ask once more with their ids, whether or not they had an answer.
#[test]
fn a_crash_in_the_middle_lets_no_one_more_through() {
    let site = Site::new(&["--limit", "none"]);
    let mut interrupted = 0;
    for round in 0..rounds() {
        let server = site.start();
        server.put_rule("three", &json!({"key": "campaign:*", "limit": LIMIT, "window": "1d"}));
        let known = race(&server, round, |answered| {
            wait_for("some answers", || (answered.load(Ordering::Relaxed) > 20 + 37 * round % 300).then_some(()));
            server.signal(9);
        });
        server.kill();
        interrupted += known.iter().flatten().filter(|answer| answer.is_none()).count();
        let server = site.start();
        for user in 0..USERS {
            let mut through = 0;
            for (client, known) in known.iter().enumerate() {
                let answer = server.call("/reserve", &racing(round, user, client));
                if let Some(known) = &known[user] {
                    assert_eq!(&answer, known, "an answer changed");
                }
                through += usize::from(is_through(&answer));
            }
            assert_eq!(through, LIMIT, "user {user} of round {round}");
        }
    }
    assert!(interrupted > 0, "no round interrupted anything");
}

#[test]
fn a_verdict_is_explained_by_what_it_counts_and_by_the_rules_that_do_not_speak() {
    let (_site, server) = Server::with(&["--limit", "3"]);
    server.put_rule("brand", &json!({"key": "campaign:*", "limit": 2, "window": "1d"}));
    server.put_rule("brand-42", &json!({"key": "campaign:42", "limit": 4, "window": "2d"}));
    server.put_rule("free", &json!({"key": "da:free", "limit": null, "window": "1d"}));
    let revision = server.ok("/cap/u1/77?explain=true")["why"]["revision"].as_u64().unwrap();
    let ts = now_ms() - 10_000;
    let event = |n: u64| json!({"user": "u1", "da": "77", "ts": ts + n, "id": n, "keys": ["campaign:42"]});
    server.count(&json!([event(0), event(1), {"user": "u1", "da": "77", "ts": ts + 2}]));
    let path = "/cap/u1/77?key=campaign:42";
    let explained = server.ok(&format!("{path}&explain=true"));
    let why = &explained["why"];
    let end = ts + 5 * 86_400_000;
    assert_eq!((&why["code"], &why["needed"]), (&json!("capped"), &Value::Null));
    assert_eq!(why["next"], json!({"at": end, "count": 2}));
    let events = why["events"].as_array().unwrap();
    let told: Vec<Value> = events.iter().map(|it| json!([it["da"], it["ts"], it["leaves_at"]])).collect();
    assert_eq!(told, (0..3).map(|n| json!(["77", ts + n, end + n])).collect::<Vec<_>>());
    assert!(events[0]["hash"].is_string() && events[2]["hash"].is_null());
    let displaced = json!([{"rule": "brand", "key": "campaign:42", "kind": "impression", "by": "brand-42",
        "reason": "exact_over_wildcard"}]);
    assert_eq!((&why["displaced"], why["revision"].as_u64()), (&displaced, Some(revision)));
    assert!(why["text"].as_str().unwrap().starts_with("3 of 3 impressions of da:77 in 5d; "), "{why}");
    // The rest of the answer is the same, and nothing is explained unasked.
    let mut plain = explained.clone();
    plain.as_object_mut().unwrap().remove("why");
    assert_eq!(server.ok(path), plain);
    assert_eq!(server.ok(&format!("{path}&explain=false")), plain);

    let candidates = json!([{"da": "77", "keys": ["campaign:42"]}, {"da": "free"}, "9"]);
    let check = server.call("/check", &json!({"user": "u1", "candidates": candidates, "explain": true}));
    let results = check["results"].as_array().unwrap();
    let codes: Vec<&Value> = results.iter().map(|it| &it["why"]["code"]).collect();
    assert_eq!(codes, ["capped", "exempt", "under_limit"]);
    assert_eq!(results[0]["why"]["events"], why["events"]);
    assert_eq!(results[2]["why"]["needed"], 3);

    // A reservation is listed with when it lapses.
    server.call("/reserve", &json!({"user": "u2", "candidates": ["5"], "ttl": "30s", "id": "r"}));
    let why = server.ok("/cap/u2/5?explain=true")["why"].clone();
    let held = &why["events"][0];
    assert_eq!((&held["reserved"], &held["expires_at"]), (&json!(true), &held["leaves_at"]));
    assert_eq!((&why["next"]["at"], &why["next"]["count"]), (&held["leaves_at"], &json!(0)));

    assert_eq!(server.get("/cap/u1/77?explain=1").0.as_u16(), 422);
    let many: Vec<String> = (0..51).map(|n| n.to_string()).collect();
    let (status, problem) = server.post_json("/check", &json!({"user": "u", "candidates": many, "explain": true}));
    assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("too_many_candidates")));
}
