//! Reach, frequency and trials of rules from outside, against a recount of what was sent.

use crate::model::calendar;
use crate::support::{DEADLINE, Server, Site, now_ms, wait_for};
use freqcap::model::{CalendarUnit, TsMs, Window, Zone};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// Events of a kind that a log keeps here.
const KEPT: usize = 6;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is counted: for each user, key and kind the times, oldest first.
#[derive(Default)]
struct Counted(BTreeMap<(String, String, &'static str), Vec<u64>>);

/// What a key reaches, as far as the oracle knows.
#[derive(Debug, Default, PartialEq)]
struct Reach {
    users: u64,
    impressions: u64,
    histogram: [(u64, u64); 10],
    saturated: u64,
}

impl Counted {
    fn add(&mut self, event: &Value, kind: &'static str) {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let keys = event["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
        for key in keys.chain([format!("da:{}", text("da"))]) {
            self.0.entry((text("user"), key, kind)).or_default().push(event["ts"].as_u64().unwrap());
        }
    }

    fn erase(&mut self, user: &str) {
        self.0.retain(|(other, ..), _| other != user);
    }

    /// How many of a user's events a window has at an instant.
    fn in_window(times: &[u64], window: &Window, at: u64) -> u64 {
        let kept = &times[times.len().saturating_sub(KEPT)..];
        let holds = |ts: &&u64| match window {
            Window::Rolling(span) => **ts + span.as_millis() > at,
            Window::Calendar(window) => **ts >= calendar::period(window.unit(), window.zone(), TsMs(at)).0.0,
            Window::Lifetime => unreachable!(),
        };
        match window {
            Window::Lifetime => times.len() as u64,
            _ => kept.iter().filter(holds).count() as u64,
        }
    }

    fn by_user(&self, key: &str, kind: &str, window: &Window, at: u64) -> BTreeMap<&str, u64> {
        let of_key = self.0.iter().filter(|((_, own, of), _)| own == key && *of == kind);
        let counts = of_key.map(|((user, ..), times)| (user.as_str(), Self::in_window(times, window, at)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn reach(&self, key: &str, kind: &str, window: &Window, at: u64) -> Reach {
        let mut reach = Reach::default();
        for count in self.by_user(key, kind, window, at).into_values() {
            reach.users += 1;
            reach.impressions += count;
            let bin = &mut reach.histogram[count.min(10) as usize - 1];
            *bin = (bin.0 + 1, bin.1 + count);
            reach.saturated += u64::from(*window != Window::Lifetime && count == KEPT as u64);
        }
        reach
    }
}

fn reach_of(told: &Value) -> Reach {
    let bins = told["histogram"].as_array().unwrap();
    assert_eq!(bins.len(), 10);
    let names: Vec<&Value> = bins.iter().map(|bin| &bin["frequency"]).collect();
    assert_eq!((names[0], names[8], names[9]), (&json!(1), &json!(9), &json!("10+")));
    let number = |value: &Value| value.as_u64().unwrap();
    let mut histogram = [(0, 0); 10];
    for (bin, told) in histogram.iter_mut().zip(bins) {
        *bin = (number(&told["users"]), number(&told["impressions"]));
    }
    let [users, impressions, saturated] = ["users", "impressions", "saturated"].map(|name| number(&told[name]));
    let average = if users == 0 { 0.0 } else { impressions as f64 / users as f64 };
    assert!((told["average"].as_f64().unwrap() - average).abs() < 1e-9, "{told}");
    Reach { users, impressions, histogram, saturated }
}

/// Windows as a query writes them.
fn windows() -> Vec<(String, Window)> {
    let calendar = |unit: &str, of: CalendarUnit, zone: &str| {
        let query = format!("%7B%22calendar%22%3A%22{unit}%22%2C%22tz%22%3A%22{zone}%22%7D");
        (query, Window::calendar(of, Zone::new(zone).unwrap()))
    };
    let rolling = |text: &str| (text.to_owned(), Window::Rolling(text.parse().unwrap()));
    vec![
        rolling("6h"),
        rolling("2d"),
        rolling("30d"),
        ("lifetime".to_owned(), Window::Lifetime),
        calendar("day", CalendarUnit::Day, "Asia/Seoul"),
        calendar("week", CalendarUnit::Week, "America/New_York"),
        calendar("month", CalendarUnit::Month, "UTC"),
    ]
}

/// A server on a site of its own. Its answers are waited for, however slow the machine is.
fn serve(flags: &[&str]) -> (Site, Server) {
    let site = site(flags);
    let server = site.start();
    (site, server)
}

fn site(flags: &[&str]) -> Site {
    Site::new(&[flags, &["--report-wait", "20s"]].concat())
}

/// Sends events of the time from `ago` to `until` before `now`, oldest first, and notes what is counted. None leaves a window of
/// whole hours in the next ten minutes.
fn send(server: &Server, counted: &mut Counted, dice: &mut Dice, (now, ago, until): (u64, u64, u64), events: u64) {
    const MINUTES: u64 = 60_000;
    let age = |any: u64| any / HOUR * HOUR + 10 * MINUTES + any % (40 * MINUTES);
    let mut times: Vec<u64> = (0..events).map(|_| now - age(until + dice.roll(ago - until))).collect();
    times.sort_unstable();
    for (batch, times) in times.chunks(500).enumerate() {
        let mut lines = String::new();
        for (n, ts) in times.iter().enumerate() {
            // Some users see much more than others.
            let user = dice.roll(40).min(dice.roll(40));
            let kind = ["impression", "impression", "click"][dice.roll(3) as usize];
            let mut keys = vec![format!("campaign:{}", dice.roll(3))];
            if dice.roll(2) == 0 {
                keys.push("advertiser:1".to_owned());
            }
            let event = json!({
                "user": format!("u{user}"), "da": format!("a{}", dice.roll(4)), "ts": ts, "kind": kind, "keys": keys,
                "id": format!("{ago}-{batch}-{n}"),
            });
            counted.add(&event, kind);
            lines += &format!("{event}\n");
        }
        let (status, answer) = server.post_lines(&lines);
        assert_eq!((status.as_u16(), answer["counted"].as_u64()), (200, Some(times.len() as u64)), "{answer}");
    }
}

const KEYS: [&str; 7] =
    ["da:a0", "da:a3", "campaign:0", "campaign:1", "campaign:2", "advertiser:1", "campaign:nobody-knows"];

fn compare(server: &Server, counted: &Counted) {
    for key in KEYS {
        for (query, window) in windows() {
            for kind in ["impression", "click", "conversion"] {
                let told = server.ok(&format!("/reach/{key}?kind={kind}&window={query}&max_age=0s"));
                let as_of = told["as_of"].as_u64().unwrap();
                assert_eq!(
                    reach_of(&told),
                    counted.reach(key, kind, &window, as_of),
                    "{key} {kind} {window:?}: {told}"
                );
                assert_eq!((&told["key"], &told["kind"], &told["per"]), (&json!(key), &json!(kind), &json!("user")));
                assert_eq!(told["window"], serde_json::to_value(&window).unwrap());
            }
        }
    }
}

#[test]
fn what_a_key_reaches_is_a_recount_of_what_was_sent_over_a_crash_too() {
    let flags = ["--history-limit", "6", "--retention", "40d", "--lifetime-retention", "40d", "--limit", "none"];
    let site = site(&flags);
    let (mut counted, mut dice, now) = (Counted::default(), Dice(7), now_ms());
    let server = site.start();
    send(&server, &mut counted, &mut dice, (now, 9 * DAY, 2 * DAY), 1_500);
    compare(&server, &counted);
    server.kill();
    let server = site.start();
    compare(&server, &counted);
    send(&server, &mut counted, &mut dice, (now, 2 * DAY, 0), 1_500);
    assert_eq!(server.send("DELETE", "/users/u0", &[], None).0, 200);
    counted.erase("u0");
    compare(&server, &counted);
    assert!(server.terminate().success());
    compare(&site.start(), &counted);
}

#[test]
fn reservations_count_until_they_lapse_and_the_hours_of_a_day_add_up() {
    let (_site, server) = serve(&["--limit", "2", "--window", "1d"]);
    let now = now_ms();
    let event = |user: &str, ago: u64| json!({"user": user, "da": "1", "ts": now - ago, "keys": ["c:1"]});
    let events = [
        event("u1", 0),
        event("u1", 2 * HOUR),
        event("u1", 2 * HOUR + 1),
        event("u2", 2 * HOUR),
        event("u3", 23 * HOUR + HOUR / 2),
        event("u4", 25 * HOUR),
    ];
    server.count(&json!(events));
    server.call("/reserve", &json!({"user": "u5", "candidates": [{"da": "1", "keys": ["c:1"]}], "ttl": "1h"}));
    server.call("/reserve", &json!({"user": "u6", "candidates": [{"da": "1", "keys": ["c:1"]}], "ttl": "1ms"}));
    let lapsed = || {
        let told = server.ok("/reach/c:1?window=7d&by=hour&max_age=0s");
        (told["impressions"] == 7).then_some(told)
    };
    let told = wait_for("the short reservation to lapse", lapsed);
    assert_eq!((&told["users"], &told["limit"], &told["rule"]), (&json!(5), &Value::Null, &Value::Null));
    let hours = told["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    let as_of = told["as_of"].as_u64().unwrap();
    assert_eq!(hours[0]["from"], as_of - DAY);
    let number = |hour: &Value, name: &str| hour[name].as_u64().unwrap();
    let all: u64 = hours.iter().map(|hour| number(hour, "impressions")).sum();
    assert_eq!((all, number(&hours[23], "cumulative")), (6, 4));
    assert_eq!((number(&hours[23], "users"), number(&hours[23], "impressions")), (2, 2));
    let cumulative: Vec<u64> = hours.iter().map(|hour| number(hour, "cumulative")).collect();
    assert!(cumulative.is_sorted() && number(&hours[0], "users") == 1, "{cumulative:?}");

    let told = server.ok("/reach/da:1?window=1d&max_age=0s");
    assert_eq!((&told["rule"], &told["limit"], &told["limit_window"]), (&json!("default"), &json!(2), &json!("1d")));
    assert_eq!((&told["at_limit"], &told["capped_now"]), (&json!(0), &json!(1)));
    assert_eq!(told["over"], json!({"users": 1, "impressions": 1}));
    server.count(&json!([event("u2", 5)]));
    let told = server.ok("/reach/da:1?window=7d&max_age=0s");
    // The limit is that of the rule's own window.
    assert_eq!((&told["at_limit"], &told["capped_now"], &told["limit_window"]), (&json!(1), &json!(2), &json!("1d")));
    // An instant in the past.
    let told = server.ok(&format!("/reach/c:1?window=1d&at={}&max_age=0s", now - HOUR));
    assert_eq!((&told["users"], &told["impressions"], &told["at"]), (&json!(3), &json!(4), &json!(now - HOUR)));
}

#[test]
fn the_keys_of_a_level_come_by_how_many_users_they_reach() {
    let (_site, server) = serve(&["--limit", "1"]);
    let mut events = Vec::new();
    for key in 1..=5u64 {
        for user in 0..10 - key {
            events.push(
                json!({"user": format!("u{user}"), "da": format!("d{key}"), "keys": [format!("campaign:{key}")]}),
            );
        }
    }
    server.count(&json!(events));
    let told = server.ok("/reach?level=campaign&top=3&max_age=0s");
    let keys: Vec<_> = told["keys"].as_array().unwrap().iter().map(|key| (&key["key"], &key["users"])).collect();
    let [one, two, three] = [1, 2, 3].map(|key| (json!(format!("campaign:{key}")), json!(10 - key)));
    assert_eq!(keys, [(&one.0, &one.1), (&two.0, &two.1), (&three.0, &three.1)]);
    assert_eq!(
        (&told["level"], &told["exact"], &told["keys"][0]["limit"]),
        (&json!("campaign"), &Value::Null, &Value::Null)
    );
    let das = server.ok("/reach?level=da&max_age=0s");
    assert_eq!(das["keys"].as_array().unwrap().len(), 5);
    assert_eq!((&das["keys"][4]["limit"], &das["keys"][4]["capped_now"]), (&json!(1), &json!(5)));
    assert_eq!(server.ok("/reach?level=nobody&max_age=0s")["keys"], json!([]));
}

#[test]
fn an_answer_serves_while_it_is_younger_than_it_may_be() {
    let (_site, server) = serve(&[]);
    let event = |user: &str| json!([{"user": user, "da": "1"}]);
    server.count(&event("u1"));
    let first = server.ok("/reach/da:1?max_age=1h");
    server.count(&event("u2"));
    assert_eq!(server.ok("/reach/da:1?max_age=1h"), first);
    assert_eq!((&first["users"], &server.ok("/reach/da:1?max_age=0s")["users"]), (&json!(1), &json!(2)));
    assert_eq!(server.ok("/reach/da:1?max_age=1h")["users"], 2);
    assert!(server.metric("freqcap_reach_pass_seconds_count") >= 2.0);
}

#[test]
fn who_does_not_wait_is_told_how_far_it_is_and_gets_the_answer_later() {
    let (_site, server) = Server::with(&["--report-wait", "0s"]);
    server.count(&json!([{"user": "u1", "da": "1"}]));
    // A pass over nothing would be over before anybody is told how far it is.
    for block in 0..10 {
        let event = |n: usize| json!({"user": format!("other-{block}-{n}"), "da": "2"});
        server.count(&Value::from((0..10_000).map(event).collect::<Vec<_>>()));
    }
    let ask = |path: &str| {
        let response = server.http.get(format!("{}{path}", server.url)).send().unwrap();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry_after, response.json::<Value>().unwrap())
    };
    for path in ["/reach/da:1?max_age=0s", "/reach?level=da&max_age=0s"] {
        let (status, retry_after, body) = ask(path);
        assert_eq!((status, &body["total"]), (202, &json!(256)), "{body}");
        assert!(body["done"].as_u64().unwrap() <= 256);
        let seconds: u64 = retry_after.unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds));
        let answer = wait_for("the answer", || {
            let (status, _, body) = ask(path);
            (status == 200).then_some(body)
        });
        assert!(answer["took_ms"].is_u64());
    }
    let rule = json!({"key": "da:1", "limit": 1, "window": "1d"});
    assert_eq!(server.post_json("/rules/try", &rule).0, 202);
    let tried = wait_for("the trial", || {
        let (status, body) = server.post_json("/rules/try", &rule);
        (status == 200).then_some(body)
    });
    assert_eq!(tried["newly_capped"], 1);
}

#[test]
fn bad_questions_are_refused_with_a_code() {
    let (_site, server) = serve(&[]);
    for (path, status, code) in [
        ("/reach/campaign", 422, "invalid_key"),
        ("/reach/campaign:*", 422, "invalid_key"),
        ("/reach/da:%ff", 400, "invalid_percent_encoding"),
        ("/reach/da:1?kind=Click", 422, "invalid_kind"),
        ("/reach/da:1?window=week", 422, "invalid_window"),
        ("/reach/da:1?at=yesterday", 422, "invalid_at"),
        ("/reach/da:1?max_age=1", 422, "invalid_max_age"),
        ("/reach/da:1?by=day", 422, "invalid_by"),
        ("/reach/da:1?per=household", 422, "invalid_per"),
        ("/reach", 422, "missing_level"),
        ("/reach?level=da:1", 422, "invalid_level"),
        ("/reach?level=da&top=0", 422, "invalid_top"),
    ] {
        let (got, body) = server.get(path);
        assert_eq!((got.as_u16(), body["code"].as_str().unwrap()), (status, code), "{path}");
    }
    // Markup in a name is but text.
    let told = server.ok("/reach/campaign:%3Cscript%3E%2F");
    assert_eq!(
        (&told["key"], &told["users"], &told["histogram"][9]["users"]),
        (&json!("campaign:<script>/"), &json!(0), &json!(0))
    );
    assert_eq!((&told["average"], &told["window"], &told["kind"]), (&json!(0.0), &json!("7d"), &json!("impression")));
}

#[test]
fn a_rule_is_tried_on_what_is_held_and_nothing_is_stored() {
    let (_site, server) = serve(&["--limit", "3", "--window", "5d"]);
    let now = now_ms();
    // User n sees ad 1 n times, the last an hour ago and each six hours before the next; and ad 2 once.
    let mut events = Vec::new();
    for user in 1..=6u64 {
        let event =
            |da: &str, ago: u64| json!({"user": format!("u{user}"), "da": da, "ts": now - ago, "keys": ["c:1"]});
        events.extend((0..user).map(|n| event("1", HOUR + 6 * n * HOUR)));
        events.push(event("2", 30 * HOUR));
    }
    server.count(&json!(events));
    let held = || (server.ok("/rules")["rules"].as_array().unwrap().len(), server.ok("/users/u2/caps"));
    let before = held();

    // Two in 10 hours: users 2 to 6 have two of ad 1 in the last ten hours; 3 and more are capped by the default rule already.
    let tried = server.call("/rules/try", &json!({"key": "da:*", "limit": 2, "window": "10h"}));
    assert_eq!(
        (&tried["users"], &tried["newly_capped"], &tried["no_longer_capped"]),
        (&json!(6), &json!(1), &json!(0))
    );
    // It ends when the older of the two leaves.
    let until = now - 7 * HOUR + 10 * HOUR;
    assert_eq!(tried["until"], json!({"p50": until, "p95": until}));
    assert_eq!((&tried["histogram"][0]["users"], &tried["histogram"][1]["users"]), (&json!(1), &json!(5)));
    assert_eq!(tried["shards"], json!({"done": 256, "total": 256}));
    // Never three in ten hours: nothing is refused.
    assert_eq!(tried["would_refuse"], json!({"impressions": 0, "share": 0.0}));
    // One in ten hours refuses every second: 0, 1, 1, 2, 2, 3 of 1 to 6.
    let tried = server.call("/rules/try", &json!({"key": "da:*", "limit": 1, "window": "10h"}));
    let refused = &tried["would_refuse"];
    assert_eq!((&refused["impressions"], refused["share"].as_f64()), (&json!(9), Some(9.0 / 27.0)));

    // A rule on the ad itself takes the place of the default; one of the same id that of the rule of the id.
    let tried = server.call("/rules/try", &json!({"key": "da:1", "limit": 5, "window": "5d"}));
    assert_eq!((&tried["no_longer_capped"], &tried["users"]), (&json!(2), &json!(6)));
    let exempt = server.call("/rules/try", &json!({"key": "da:*", "limit": null, "window": "5d"}));
    assert_eq!((&exempt["no_longer_capped"], &exempt["until"]["p50"]), (&json!(4), &Value::Null));
    // The rule of the flags can be tried, too, if not changed: 4 are capped by it, and 2 would be.
    let other = server.call("/rules/try", &json!({"id": "default", "key": "da:*", "limit": 5, "window": "5d"}));
    assert_eq!((&other["no_longer_capped"], &other["newly_capped"]), (&json!(2), &json!(0)));
    let shadow = server.call("/rules/try", &json!({"key": "da:*", "limit": 1, "window": "5d", "mode": "shadow"}));
    assert_eq!((&shadow["newly_capped"], &shadow["would_refuse"]["impressions"]), (&json!(0), &json!(15)));
    assert_eq!(held(), before);

    for (rule, status, code) in [
        (json!({"key": "da:1", "limit": 0, "window": "1d"}), 422, "limit_out_of_range"),
        (json!({"key": "da:1", "limit": 1}), 422, "missing_window"),
        (json!({"key": "da:1", "limit": 1, "window": "1d", "colour": "red"}), 422, "unknown_field"),
        (json!({"id": "a b", "key": "da:1", "limit": 1, "window": "1d"}), 422, "invalid_rule_id"),
        (json!([]), 422, "not_an_object"),
    ] {
        let (got, body) = server.post_json("/rules/try", &rule);
        assert_eq!((got.as_u16(), body["code"].as_str().unwrap()), (status, code), "{rule}");
    }
    assert_eq!(server.post("/rules/try", "application/json", "{").0, 400);
    assert_eq!(server.post("/rules/try", "text/plain", "x").0, 415);
}

#[test]
fn what_was_tried_is_what_comes_true() {
    let (_site, server) = serve(&["--limit", "4", "--window", "5d", "--history-limit", "6"]);
    let (mut counted, mut dice, now) = (Counted::default(), Dice(11), now_ms());
    send(&server, &mut counted, &mut dice, (now, 4 * DAY, 0), 1_500);
    let caps = || {
        let of_user = |user: u64| {
            let caps = server.ok(&format!("/users/u{user}/caps"));
            let keys: Vec<_> = caps["caps"].as_array().unwrap().iter().map(|cap| cap["key"].to_string()).collect();
            keys.into_iter().map(move |key| (user, key))
        };
        (0..40).flat_map(of_user).collect::<BTreeSet<_>>()
    };
    for (rule, query) in [
        (json!({"key": "campaign:*", "limit": 3, "window": "3d"}), "r1"),
        (json!({"key": "da:a1", "limit": 6, "window": {"calendar": "week", "tz": "Asia/Seoul"}}), "r2"),
        (json!({"key": "campaign:*", "limit": 5, "window": "lifetime"}), "r1"),
        (json!({"key": "da:*", "limit": 1, "window": "2d", "kind": "click"}), "r3"),
    ] {
        let before = caps();
        let path = format!("/rules/{query}?dry_run=true");
        let (status, etag, tried) = server.send("PUT", &path, &[], Some(&rule));
        assert_eq!((status.as_u16(), etag), (200, None), "{tried}");
        assert_eq!(caps(), before, "nothing has changed");
        server.put_rule(query, &rule);
        let after = caps();
        let told =
            (tried["newly_capped"].as_u64().unwrap() as usize, tried["no_longer_capped"].as_u64().unwrap() as usize);
        assert_eq!(told, (after.difference(&before).count(), before.difference(&after).count()), "{rule}");
    }
}

#[test]
fn a_dry_run_is_refused_as_the_change_would_be_and_says_what_would_differ() {
    let (_site, server) = serve(&[]);
    let rule = |limit: u64| json!({"key": "campaign:1", "limit": limit, "window": "1d"});
    let dry = |id: &str, headers: &[(&str, &str)], rule: &Value| {
        server.send("PUT", &format!("/rules/{id}?dry_run=true"), headers, Some(rule))
    };
    let (status, _, tried) = dry("r", &[], &rule(3));
    assert_eq!((status.as_u16(), &tried["diff"]["before"], &tried["users"]), (200, &Value::Null, &json!(0)));
    assert_eq!(tried["diff"]["changed"], json!(["key", "kind", "limit", "window", "mode"]));
    assert_eq!(server.get("/rules/r").0, 404);
    server.put_rule("r", &rule(3));
    let (_, _, tried) = dry("r", &[("if-match", "*")], &rule(4));
    assert_eq!((&tried["diff"]["before"]["limit"], &tried["diff"]["after"]["limit"]), (&json!(3), &json!(4)));
    assert_eq!(tried["diff"]["changed"], json!(["limit"]));
    assert_eq!(dry("r", &[], &rule(3)).2["diff"]["changed"], json!([]));
    assert_eq!(server.ok("/rules/r")["limit"], 3);
    assert_eq!(dry("r", &[("if-none-match", "*")], &rule(4)).0, 412);
    assert_eq!(dry("default", &[], &rule(4)).0, 409);
    assert_eq!(dry("r", &[], &json!({"key": "x"})).0, 422);
    let (status, _, body) = server.send("PUT", "/rules/r?dry_run=maybe", &[], Some(&rule(4)));
    assert_eq!((status.as_u16(), body["code"].as_str()), (422, Some("invalid_dry_run")));
}

#[test]
fn a_rule_may_be_called_try() {
    let (_site, server) = serve(&[]);
    let rule = json!({"key": "campaign:1", "limit": 3, "window": "1d"});
    assert_eq!(server.get("/rules/try").0, 404);
    server.put_rule("try", &rule);
    assert_eq!(server.ok("/rules/try")["limit"], 3);
    let (status, _, tried) = server.send("PUT", "/rules/try?dry_run=true", &[], Some(&rule));
    assert_eq!((status.as_u16(), &tried["diff"]["before"]["id"]), (200, &json!("try")));
    // It is tried beside that rule, not in its place.
    assert_eq!(server.post_json("/rules/try", &rule).0, 200);
    assert_eq!(server.send("DELETE", "/rules/try", &[], None).0, 204);
    let (status, _, body) = server.send("PATCH", "/rules/try", &[], None);
    assert_eq!((status.as_u16(), body["code"].as_str()), (405, Some("method_not_allowed")));
}

#[test]
fn questions_during_ingest_see_ever_more_and_at_last_everything() {
    let (_site, server) = serve(&["--history-limit", "6", "--limit", "none"]);
    let (mut counted, mut dice, now) = (Counted::default(), Dice(3), now_ms());
    let ended = AtomicBool::new(false);
    let (http, url) = (server.http.clone(), format!("{}/reach/advertiser:1?window=lifetime&max_age=0s", server.url));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut last, start) = (0, Instant::now());
            while !ended.load(Ordering::Relaxed) && start.elapsed() < 4 * DEADLINE {
                let told: Value = http.get(&url).send().unwrap().json().unwrap();
                let impressions = told["impressions"].as_u64().unwrap();
                assert!(impressions >= last, "{impressions} after {last}");
                last = impressions;
            }
            last
        });
        for n in 0..10 {
            let ago = 2 * DAY - n * 4 * HOUR;
            send(&server, &mut counted, &mut dice, (now, ago, ago - 4 * HOUR), 1_000);
        }
        ended.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
    let told = server.ok("/reach/advertiser:1?window=lifetime&max_age=0s");
    let as_of = told["as_of"].as_u64().unwrap();
    assert_eq!(reach_of(&told), counted.reach("advertiser:1", "impression", &Window::Lifetime, as_of));
}

#[test]
fn the_reach_of_keys_can_be_a_metric() {
    let flags = ["--report-keys", "campaign:1,da:1", "--report-every", "1s", "--limit", "1"];
    let (_site, server) = serve(&flags);
    let event = |user: &str| json!({"user": user, "da": "1", "keys": ["campaign:1"]});
    server.count(&json!([event("u1"), event("u2"), event("u2")]));
    wait_for("the metrics", || {
        let users = server.metric("freqcap_reach_users{key=\"campaign:1\"}") == 2.0;
        let over = server.metric("freqcap_reach_over{key=\"da:1\"}") == 1.0;
        (users && over).then_some(())
    });
}

#[test]
fn where_retention_grew_an_answer_says_from_when_everything_is_held() {
    let (_site, server) = serve(&["--retention", "7d"]);
    let complete_from = |window: &str| {
        let told = server.ok(&format!("/reach/campaign:1?window={window}&max_age=0s"));
        (told["as_of"].as_u64().unwrap(), told["complete_from"].as_u64().unwrap())
    };
    let (as_of, from) = complete_from("30d");
    assert_eq!(from, as_of - 7 * DAY);
    let before = now_ms();
    server.put_rule("long", &json!({"key": "campaign:*", "limit": 9, "window": "30d"}));
    let (_, from) = complete_from("30d");
    assert!(from >= before - 7 * DAY && from <= now_ms() - 7 * DAY, "{from}");
}
