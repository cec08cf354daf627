//! Over-delivery of what comes through Kafka.

use crate::kafka::world::{TOPIC, caught_up, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::now_ms;
use serde_json::json;

#[test]
fn history_is_a_back_fill_and_what_is_new_is_not() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    let now = now_ms();
    let event = |user: &str, ts: u64| record(user, json!({"user": user, "da": "1", "ts": ts}).to_string());
    let old = (0..4).map(|n| event("old", now - 3_600_000 + n));
    let new = (0..3).map(|n| event("new", now_ms() + n - 100));
    produce(&broker, TOPIC, old.chain(new).collect::<Vec<_>>());
    let site = site(&broker, &["--limit", "2", "--window", "1d", "--max-skew", "10m"]);
    let server = site.start();
    caught_up(&server);
    let summary = server.ok("/over/summary?by=cause");
    assert_eq!(summary["by"], json!([{"cause": "backfill", "over": 2}, {"cause": "in_flight", "over": 1}]));
    assert_eq!(summary["impressions"], 7);
}
