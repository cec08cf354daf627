//! What comes through Kafka counts as if it were posted.

use crate::kafka::world::{TOPIC, caught_up, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, Site, now_ms, root};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

const DAY: u64 = 86_400_000;

type Ads = BTreeMap<String, BTreeSet<String>>;

/// The verdicts on every ad that a user saw, as of one instant.
fn verdicts(server: &Server, user: &str, das: &BTreeSet<String>, at: u64) -> Vec<Value> {
    let das: Vec<_> = das.iter().collect();
    let mut results = Vec::new();
    for das in das.chunks(500) {
        let candidates: Vec<_> = das.iter().map(|da| json!({"da": da, "keys": ["campaign:1"]})).collect();
        let body = json!({"user": user, "candidates": candidates, "at": at});
        let (status, mut body) = server.post_json("/check", &body);
        assert_eq!(status, 200, "{body}");
        results.append(body["results"].as_array_mut().unwrap());
    }
    results
}

/// Sends events through Kafka to one freqcap and by HTTP to another; both must say the same of all that was seen.
fn both_ways_count_alike(events: &[Value], partitions: i32, flags: &[&str]) {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, partitions);
    let text = |field: &Value| field.as_str().unwrap().to_owned();
    produce(&broker, TOPIC, events.iter().map(|event| record(text(&event["user"]), event.to_string())));
    let pulling = site(&broker, flags);
    let pulled = pulling.start();
    let (_site, posted) = Server::with(flags);
    for batch in events.chunks(5_000) {
        posted.count(&json!(batch));
    }
    caught_up(&pulled);
    let mut ads = Ads::new();
    for event in events {
        ads.entry(text(&event["user"])).or_default().insert(text(&event["da"]));
    }
    let (at, mut capped) = (now_ms(), 0);
    for (user, das) in &ads {
        let expected = verdicts(&posted, user, das, at);
        capped += expected.iter().filter(|verdict| verdict["capped"] == true).count();
        assert_eq!(verdicts(&pulled, user, das, at), expected, "{user}");
    }
    assert!(capped > 100, "{capped} caps are too few to tell");
    for result in ["counted", "late", "duplicate"] {
        let name = format!("freqcap_events_total{{result=\"{result}\"}}");
        assert_eq!(pulled.metric(&name), posted.metric(&name), "{result}");
    }
    assert_eq!(pulled.metric("freqcap_kafka_records_total"), events.len() as f64);
}

#[test]
fn a_back_fill_with_old_log_times_gives_the_verdicts_of_posting_the_events() {
    let now = now_ms();
    let event = |n: u64| {
        let spread = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let (user, da) = (spread % 300, spread / 300 % 12);
        // Up to nine days old; retention is seven. Well away from what changes while the test runs.
        let age = spread / 3_600 % 9 * DAY + DAY / 2 + spread % 1_000 * 1_000;
        let mut event = json!({"user": format!("u{user}"), "da": da.to_string(), "ts": now - age});
        if n.is_multiple_of(3) {
            event["keys"] = json!([format!("campaign:{}", da % 3)]);
        }
        if n.is_multiple_of(5) {
            // Some ids come twice.
            event["id"] = json!(format!("i{}", n / 10));
        }
        event
    };
    let events: Vec<_> = (0..30_000).map(event).collect();
    both_ways_count_alike(&events, 4, &["--kafka-consumers", "2", "--limit", "5", "--window", "4d"]);
}

/// The impressions, clicks and all of a file, its newest moved to now.
#[test]
fn the_shared_file_through_kafka_counts_as_it_does_posted() {
    let mut text = String::new();
    let file = std::fs::File::open(root().join("tests/data/obd_zozotown_7d.csv.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let newest: u64 = rows.iter().map(|row| row[0].parse().unwrap()).max().unwrap();
    // Far enough that no retention ends between the one freqcap and the other.
    let shift = now_ms() - newest - 60_000;
    let event = |row: &Vec<&str>| {
        let ts: u64 = row[0].parse().unwrap();
        let kind = if row[5] == "imp" { "impression" } else { row[5] };
        json!({"user": row[1], "da": row[2], "ts": ts + shift, "kind": kind})
    };
    let events: Vec<_> = rows.iter().map(event).collect();
    both_ways_count_alike(&events, 3, &["--retention", "30d"]);
}

#[test]
fn a_topic_with_other_names_is_read_by_its_fields() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    let seconds = now_ms() / 1_000 - 100;
    let event = |n: u64| json!({"who": {"id": n % 2}, "what": "ad", "when": seconds + n, "camp": 7}).to_string();
    produce(&broker, TOPIC, (0..10).map(|n| record("k", event(n))));
    // And as the Flink job's owners have them, without any mapping.
    let flink = json!({"user_no": 9, "da_id": 5, "logTime": now_ms() - 1_000}).to_string();
    produce(&broker, TOPIC, [record("k", flink)]);
    let mut site = site(&broker, &[]);
    let toml = "[fields]\nuser = 'who.id'\nda = 'what'\nts = 'when'\nts_unit = 's'\nkeys.campaign = 'camp'";
    let path = site.dir.path().join("freqcap.toml");
    std::fs::write(&path, toml).unwrap();
    site.flags.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
    let server = site.start();
    caught_up(&server);
    let verdict = server.ok("/cap/0/ad?key=campaign:7");
    assert_eq!((verdict["count"].as_u64(), verdict["capped"].as_bool()), (Some(5), Some(true)), "{verdict}");
    assert_eq!(verdict["capped_until"], (seconds * 1_000) + 5 * DAY);
    assert_eq!(server.ok("/users/1")["logs"].as_array().map(Vec::len), Some(2), "{}", server.ok("/users/1"));
    assert_eq!(server.ok("/cap/9/5")["count"], 1);
}

#[test]
fn a_topic_is_begun_where_it_is_said() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    let event = |n: usize| record(n.to_string(), json!({"user": "u", "da": "1"}).to_string());
    produce(&broker, TOPIC, (0..50).map(event));
    let between = now_ms();
    crate::support::wait_for("the next millisecond", || (now_ms() > between + 1).then_some(()));
    produce(&broker, TOPIC, (0..7).map(event));
    let brokers = broker.bootstrap();
    for (group, (from, expected)) in [("1h", 57), (&between.to_string(), 7), ("earliest", 57)].into_iter().enumerate() {
        let group = group.to_string();
        let kafka =
            ["--kafka-brokers", &brokers, "--kafka-topic", TOPIC, "--kafka-from", from, "--kafka-group", &group];
        let site = Site::new(&kafka);
        let server = site.start();
        caught_up(&server);
        assert_eq!(server.ok("/cap/u/1")["count"], expected, "{from}");
    }
}
