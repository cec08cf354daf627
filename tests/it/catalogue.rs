//! The catalogue: which keys ads have, and what follows from that for events and candidates.

use crate::support::{Server, Site, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn put(server: &Server, da: &str, keys: &Value) -> (u16, Option<String>, Value) {
    put_if(server, da, &json!({"keys": keys}), &[])
}

fn put_if(server: &Server, da: &str, ad: &Value, headers: &[(&str, &str)]) -> (u16, Option<String>, Value) {
    let (status, etag, body) = server.send("PUT", &format!("/ads/{da}"), headers, Some(ad));
    (status.as_u16(), etag, body)
}

fn put_lines(server: &Server, query: &str, lines: &str) -> (u16, Value) {
    let request = server.http.put(format!("{}/ads{query}", server.url)).header("content-type", "application/x-ndjson");
    let response = request.body(lines.to_owned()).send().unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().unwrap()).unwrap())
}

fn count_of(server: &Server, user: &str, key: &str) -> Value {
    let verdict = server.ok(&format!("/cap/{user}/never-shown?key={key}&catalogue=false"));
    let rules = verdict["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["key"] == key).unwrap_or_else(|| panic!("{verdict}"))["count"].clone()
}

fn world(flags: &[&str]) -> (Site, Server) {
    let (site, server) = Server::with(flags);
    server.put_rule("campaigns", &json!({"key": "campaign:*", "limit": 2, "window": "1d"}));
    server.put_rule("advertisers", &json!({"key": "advertiser:*", "limit": 100, "window": "1d"}));
    (site, server)
}

#[test]
fn an_ad_alone_sees_its_campaign_as_soon_as_the_catalogue_has_it() {
    let (_site, server) = world(&[]);
    let event = json!({"user": "u", "da": "77"});
    server.count(&event);
    assert_eq!(count_of(&server, "u", "campaign:42"), 0, "not in the catalogue yet");
    let (status, etag, body) = put(&server, "77", &json!(["campaign:42", "advertiser:7"]));
    assert_eq!((status, body), (201, json!({"da": "77", "keys": ["campaign:42", "advertiser:7"]})));
    assert!(etag.is_some());
    let answer = server.count(&event);
    assert_eq!(answer["cap"]["rules"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(count_of(&server, "u", "campaign:42"), 1, "what was counted before stays where it was");
    let batch = server.count(&json!([event]));
    assert_eq!(batch["capped"][0]["key"], "campaign:42", "{batch}");
    assert_eq!((count_of(&server, "u", "campaign:42"), count_of(&server, "u", "advertiser:7")), (json!(2), json!(2)));
    // Every way to ask sees it, unless it is left out.
    assert_eq!(server.ok("/cap/u/77")["key"], "campaign:42");
    assert_eq!(server.ok("/cap?user=u&da=77&key=campaign:1")["key"], "campaign:42");
    assert_eq!(server.ok("/cap/u/77?catalogue=false")["key"], "da:77");
    let capped = |body: &Value| server.call("/check", body)["results"][0]["capped"].clone();
    assert_eq!(capped(&json!({"user": "u", "candidates": ["77"]})), true);
    assert_eq!(capped(&json!({"user": "u", "candidates": ["77"], "catalogue": false})), false);
    assert_eq!(capped(&json!({"user": "u", "candidates": [{"da": "77", "catalogue": false}]})), false);
    let refused = server.call("/reserve", &json!({"user": "u", "candidates": ["77"]}));
    assert_eq!((&refused["refused"][0]["key"], &refused["reserved"]), (&json!("campaign:42"), &json!([])));
    let reserved = server.call("/reserve", &json!({"user": "u", "candidates": ["77"], "catalogue": false}));
    assert_eq!(reserved["reserved"][0]["da"], "77");
    // A reservation by the catalogue's keys counts in them.
    let reserved = server.call("/reserve", &json!({"user": "v", "candidates": ["77", "77", "77"], "want": 3}));
    assert_eq!(reserved["reserved"].as_array().unwrap().len(), 2, "{reserved}");
    // Removed, it is judged by itself alone, and what was counted stays.
    assert_eq!(server.send("DELETE", "/ads/77", &[], None).0, 204);
    assert_eq!(server.ok("/cap/u/77")["key"], "da:77");
    assert_eq!(count_of(&server, "u", "campaign:42"), 2);
    let (status, body) = server.get("/ads/77");
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("unknown_ad")));
    assert_eq!(server.send("DELETE", "/ads/77", &[], None).0, 404);
}

#[test]
fn a_retry_after_a_change_of_the_catalogue_counts_nowhere() {
    let (_site, server) = world(&[]);
    let event = json!({"user": "u", "da": "77", "id": "e1"});
    put(&server, "77", &json!(["campaign:1"]));
    server.count(&event);
    put(&server, "77", &json!(["campaign:2"]));
    assert_eq!(server.count(&event)["result"], "duplicate");
    assert_eq!((count_of(&server, "u", "campaign:1"), count_of(&server, "u", "campaign:2")), (json!(1), json!(0)));
}

#[test]
fn of_more_than_sixteen_keys_those_of_the_catalogue_are_cut() {
    let (_site, server) = world(&[]);
    let keys = |level: &str, count: usize| (0..count).map(|n| format!("{level}:{n}")).collect::<Vec<_>>();
    let (status, _, body) = put(&server, "77", &json!(keys("campaign", 17)));
    assert_eq!((status, &body["code"]), (422, &json!("too_many_keys")));
    assert_eq!(put(&server, "77", &json!(keys("campaign", 16))).0, 201);
    let event = json!({"user": "u", "da": "77", "keys": ["advertiser:1", "campaign:3", "advertiser:2"]});
    let answer = server.count(&event);
    assert_eq!(answer["keys_cut"], 2, "{answer}");
    assert_eq!(server.count(&json!([event, event]))["keys_cut"], 4);
    assert_eq!((count_of(&server, "u", "campaign:13"), count_of(&server, "u", "campaign:14")), (json!(3), json!(0)));
    assert_eq!(server.ok("/cap/u/77?key=advertiser:1")["keys_cut"], 1);
    assert!(server.ok("/cap/u/77").get("keys_cut").is_none());
    let candidates = json!({"user": "w", "candidates": [{"da": "77", "keys": ["advertiser:1", "advertiser:2"]}]});
    assert_eq!(
        (&server.call("/check", &candidates)["keys_cut"], &server.call("/reserve", &candidates)["keys_cut"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(server.metric("freqcap_ads_keys_cut_total"), 2.0 + 4.0 + 1.0 + 2.0 + 2.0);
}

#[test]
fn an_ad_that_the_catalogue_does_not_have_is_counted_as_unknown() {
    let (_site, server) = world(&[]);
    server.count(&json!({"user": "u", "da": "1"}));
    assert_eq!(server.metric("freqcap_ads_unknown_total"), 0.0, "there is no catalogue");
    put(&server, "77", &json!([]));
    server.count(&json!([{"user": "u", "da": "1"}, {"user": "u", "da": "77"}, {"user": "u", "da": "2"}]));
    server.count(&json!({"user": "u", "da": "1"}));
    server.ok("/cap/u/1");
    assert_eq!(server.metric("freqcap_ads_unknown_total"), 4.0);
    assert_eq!(server.metric("freqcap_ads"), 1.0);
}

#[test]
fn a_change_may_expect_what_is_there() {
    let (_site, server) = world(&[]);
    let ad = |n: u64| json!({"keys": [format!("campaign:{n}")], "name": format!("ad {n}")});
    assert_eq!(put_if(&server, "a%2Fb", &ad(1), &[("if-match", "*")]).0, 412);
    let (status, first, body) = put_if(&server, "a%2Fb", &ad(1), &[("if-none-match", "*")]);
    assert_eq!((status, body), (201, json!({"da": "a/b", "keys": ["campaign:1"], "name": "ad 1"})));
    let first = first.unwrap();
    assert_eq!(put_if(&server, "a%2Fb", &ad(2), &[("if-none-match", "*")]).0, 412);
    assert_eq!(put_if(&server, "a%2Fb", &ad(1), &[]).1.unwrap(), first, "nothing was changed");
    let (status, second, _) = put_if(&server, "a%2Fb", &ad(2), &[("if-match", &first)]);
    assert_eq!((status, second.as_ref() == Some(&first)), (200, false));
    let (status, _, body) = put_if(&server, "a%2Fb", &ad(3), &[("if-match", &first)]);
    assert_eq!((status, &body["code"]), (412, &json!("precondition_failed")));
    assert_eq!(server.send("DELETE", "/ads/a%2Fb", &[("if-match", &first)], None).0, 412);
    let second = second.unwrap();
    let (status, etag, _) = server.send("GET", "/ads/a%2Fb", &[("if-none-match", &second)], None);
    assert_eq!((status.as_u16(), etag), (304, Some(second.clone())));
    assert_eq!(server.send("GET", "/ads/a%2Fb", &[("if-none-match", &first)], None).2["name"], "ad 2");
    assert_eq!(server.send("DELETE", "/ads/a%2Fb", &[("if-match", &second)], None).0, 204);
    for (ad, code) in [
        (json!({}), "missing_keys"),
        (json!({"keys": ["x"]}), "invalid_key"),
        (json!({"keys": ["da:1"]}), "invalid_key"),
        (json!({"keys": [], "name": "x".repeat(201)}), "invalid_name"),
        (json!({"keys": [], "weight": 1}), "unknown_field"),
        (json!({"keys": [], "da": "other"}), "invalid_da"),
        (json!([]), "not_an_object"),
    ] {
        let (status, _, body) = put_if(&server, "1", &ad, &[]);
        assert_eq!((status, &body["code"]), (422, &json!(code)), "{ad}");
    }
    assert_eq!(put(&server, "*", &json!([])).0, 422);
}

#[test]
fn lines_change_many_ads_and_a_bad_one_rejects_itself() {
    let (_site, server) = world(&[]);
    let line = |da: usize, campaign: usize| json!({"da": da.to_string(), "keys": [format!("campaign:{campaign}")]});
    let lines: String = (0..250).map(|da| format!("{}\n", line(da, da % 2))).collect();
    let (status, body) = put_lines(&server, "", &lines);
    assert_eq!((status, &body["created"], &body["rejected"]), (200, &json!(250), &json!(0)));
    let mixed = format!("{}\n\n{{\"da\":\"8\"}}\n{}\nx\n{}\n", line(0, 0), line(1, 7), line(1_000, 1));
    let (status, body) = put_lines(&server, "", &mixed);
    let expected = json!({"created": 1, "changed": 1, "unchanged": 1, "removed": 0, "rejected": 2});
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!((status, &body[member]), (200, value), "{member}: {body}");
    }
    let errors: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|e| (e["index"].clone(), e["code"].clone())).collect();
    assert_eq!(errors, [(json!(2), json!("missing_keys")), (json!(4), json!("invalid_json"))]);
    // Pages, of all and of a key.
    let all_pages = |query: &str| {
        let (mut das, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.ok(&format!("/ads?limit=100{query}{cursor}"));
            das.extend(page["ads"].as_array().unwrap().iter().map(|ad| ad["da"].as_str().unwrap().to_owned()));
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return das,
            }
        }
    };
    let all = all_pages("");
    assert!(all.len() == 251 && all.is_sorted(), "{}", all.len());
    assert_eq!((all_pages("&key=campaign:0").len(), all_pages("&key=campaign:1").len()), (125, 125));
    assert_eq!((all_pages("&key=campaign:7"), all_pages("&key=campaign:9")), (vec!["1".to_owned()], vec![]));
    // All others go at once; one whose line is bad was named.
    let some = format!("{}\n{{\"da\":\"3\",\"keys\":7}}\n{}\n", line(1, 7), line(2, 5));
    let (status, body) = put_lines(&server, "?replace=true", &some);
    assert_eq!(
        (status, &body["removed"], &body["changed"], &body["unchanged"]),
        (200, &json!(248), &json!(1), &json!(1))
    );
    assert_eq!(all_pages(""), ["1", "2", "3"]);
    assert_eq!((all_pages("&key=campaign:1"), all_pages("&key=campaign:0")), (vec!["3".to_owned()], vec![]));
    server.count(&json!([{"user": "u", "da": "2"}, {"user": "u", "da": "4"}]));
    assert_eq!((count_of(&server, "u", "campaign:5"), count_of(&server, "u", "campaign:0")), (json!(1), json!(0)));
    assert_eq!(server.metric("freqcap_ads"), 3.0);
    // Limits.
    let many = format!("{}\n", line(1, 1)).repeat(10_001);
    let (status, body) = put_lines(&server, "", &many);
    assert_eq!((status, &body["code"]), (413, &json!("too_many_lines")));
    let (status, body) = put_lines(&server, "?replace=yes", "");
    assert_eq!((status, &body["code"]), (422, &json!("invalid_flag")));
    let (status, _, body) = server.send("PUT", "/ads", &[], Some(&json!({"da": "1", "keys": []})));
    assert_eq!((status.as_u16(), &body["code"]), (415, &json!("unsupported_content_type")));
    for (query, code) in [
        ("key=x", "invalid_key"),
        ("key=da:1", "invalid_key"),
        ("limit=0", "invalid_limit"),
        ("cursor=", "invalid_cursor"),
    ] {
        let (status, body) = server.get(&format!("/ads?{query}"));
        assert_eq!((status.as_u16(), &body["code"]), (422, &json!(code)), "{query}");
    }
    // The audit tells of each change.
    let audit = server.ok("/audit");
    let calls: Vec<_> = audit["entries"].as_array().unwrap().iter().map(|line| line["call"].clone()).collect();
    assert_eq!(&calls[..3], [json!("PUT /ads?replace=true"), json!("PUT /ads"), json!("PUT /ads")]);
    assert_eq!(audit["entries"][0]["after"]["removed"], 248);
}

#[test]
fn the_catalogue_survives_a_crash_as_it_was_acknowledged() {
    let site = Site::new(&[]);
    let server = site.start();
    server.put_rule("campaigns", &json!({"key": "campaign:*", "limit": 2, "window": "1d"}));
    let lines: String =
        (0..1_000).map(|n| format!("{}\n", json!({"da": n, "keys": [format!("campaign:{}", n % 10)]}))).collect();
    assert_eq!(put_lines(&server, "", &lines).1["created"], 1_000);
    put(&server, "5", &json!(["campaign:x"]));
    assert_eq!(server.send("DELETE", "/ads/6", &[], None).0, 204);
    let etag = server.send("GET", "/ads/5", &[], None).1;
    server.kill();
    let server = site.start();
    assert_eq!(server.metric("freqcap_ads"), 999.0);
    assert_eq!(server.send("GET", "/ads/5", &[], None).1, etag);
    server.count(&json!([{"user": "u", "da": "5"}, {"user": "u", "da": "6"}, {"user": "u", "da": "17"}]));
    let counts: BTreeMap<&str, Value> =
        ["campaign:x", "campaign:6", "campaign:7", "campaign:5"].map(|key| (key, count_of(&server, "u", key))).into();
    assert_eq!(json!(counts), json!({"campaign:x": 1, "campaign:6": 0, "campaign:7": 1, "campaign:5": 0}));
    // Replaced in one step, and that survives, too.
    put_lines(&server, "?replace=true", "{\"da\":\"1\",\"keys\":[\"campaign:y\"]}");
    server.kill();
    let server = site.start();
    assert_eq!((server.metric("freqcap_ads"), server.get("/ads/5").0.as_u16()), (1.0, 404));
    assert_eq!(server.ok("/ads?key=campaign:y")["ads"][0]["da"], "1");
    assert_eq!(server.ok("/ads?key=campaign:7")["ads"], json!([]));
}

fn backfilled(server: &Server, da: &str) {
    wait_for("the backfill", || {
        let progress = server.ok(&format!("/ads/{da}"))["backfill"].clone();
        (progress["done"] == progress["total"]).then_some(())
    });
}

#[test]
fn held_events_are_counted_under_new_keys_and_none_twice() {
    let site = Site::new(&["--limit", "none"]);
    let server = site.start();
    server.put_rule("campaigns", &json!({"key": "campaign:*", "limit": 200, "window": "7d"}));
    server.put_rule("ads", &json!({"key": "da:*", "limit": 200, "window": "7d"}));
    let now = crate::support::now_ms();
    // Of 40 users: with ids and without, some of them counted under the campaign already.
    let mut expected = BTreeMap::new();
    let mut events = Vec::new();
    for n in 0..1_200_u64 {
        let (user, da) = (format!("u{}", n % 40), if n % 3 == 0 { "78" } else { "77" });
        let mut event = json!({"user": user, "da": da, "ts": now - 3_600_000 + 7 * n});
        if n % 2 == 0 {
            event["id"] = json!(format!("e{n}"));
        }
        if n % 5 == 0 {
            event["keys"] = json!(["campaign:42"]);
        }
        *expected.entry(user).or_insert(0) += u64::from(da == "77" || n % 5 == 0);
        events.push(event);
    }
    server.count(&json!(events));
    let (status, _, body) = put_if(&server, "77?backfill=true", &json!({"keys": ["campaign:42"]}), &[]);
    assert_eq!((status, &body["backfill"]["total"]), (201, &json!(256)), "{body}");
    // A crash in the middle, and the same again.
    server.kill();
    let server = site.start();
    backfilled(&server, "77");
    let counts = |server: &Server| -> BTreeMap<String, u64> {
        let users = (0..40).map(|n| format!("u{n}"));
        users.map(|user| (user.clone(), count_of(server, &user, "campaign:42").as_u64().unwrap())).collect()
    };
    assert_eq!(counts(&server), expected);
    assert_eq!(put_if(&server, "77?backfill=true", &json!({"keys": ["campaign:42"]}), &[]).0, 200);
    backfilled(&server, "77");
    assert_eq!(counts(&server), expected);
    // A retry counts nowhere, a new event in both.
    server.count(
        &json!([{"user": "u2", "da": "77", "id": "e2", "ts": now - 3_600_000 + 14}, {"user": "u2", "da": "77"}]),
    );
    *expected.get_mut("u2").unwrap() += 1;
    assert_eq!(counts(&server), expected);
    // By lines, for an ad that was there already; a plain change ends it.
    let (status, body) = put_lines(
        &server,
        "?backfill=true",
        "{\"da\":\"78\",\"keys\":[\"campaign:43\"]}\n{\"da\":\"77\",\"keys\":[\"campaign:42\"]}\n",
    );
    assert_eq!((status, &body["created"], &body["unchanged"]), (200, &json!(1), &json!(1)));
    backfilled(&server, "78");
    let of_78 = events.iter().filter(|event| event["da"] == "78" && event["user"] == "u3").count();
    assert_eq!(count_of(&server, "u3", "campaign:43"), of_78);
    assert_eq!(counts(&server), expected);
    assert!(put(&server, "78", &json!(["campaign:44"])).2.get("backfill").is_none());
    let (status, body) = put_lines(&server, "?backfill=1", "");
    assert_eq!((status, &body["code"]), (422, &json!("invalid_flag")));
}

#[test]
fn a_backfill_caps_at_once_what_it_fills() {
    let (_site, server) = world(&[]);
    server.count(&json!([{"user": "u", "da": "77"}, {"user": "u", "da": "77"}, {"user": "v", "da": "77"}]));
    put_if(&server, "77?backfill=true", &json!({"keys": ["campaign:42"]}), &[]);
    backfilled(&server, "77");
    let capped = |user: &str| server.ok(&format!("/users/{user}/caps"))["caps"].clone();
    assert_eq!((&capped("u")[0]["key"], &capped("v")), (&json!("campaign:42"), &json!([])));
}
