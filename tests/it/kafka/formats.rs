//! Records as serialisers and connectors write them.

use crate::kafka::world::{Record, TOPIC, caught_up, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::now_ms;
use serde_json::json;

#[test]
fn rows_of_a_database_in_a_framing_and_an_envelope_are_counted_and_deleted_ones_are_not() {
    let (broker, now) = (Broker::start(), now_ms());
    make_topic(&broker, TOPIC, 1);
    let framed = |json: String| format!("\0\0\0\0\u{7}{json}");
    let row = |n: u64| json!({"n": n, "user_no": "u", "da_id": 1, "at": ((now - n) * 1_000).to_string()});
    let created = |n: u64| json!({"schema": {}, "payload": {"before": null, "after": row(n), "op": "c"}}).to_string();
    let deleted = json!({"schema": {}, "payload": {"before": row(1), "after": null, "op": "d"}}).to_string();
    let tombstone = Record { value: None, ..record("u", "") };
    produce(
        &broker,
        TOPIC,
        [
            record("u", framed(created(1))),
            record("u", framed(created(2))),
            record("u", framed(deleted)),
            tombstone,
            record("u", created(3)),
            record("u", "\0\0".to_owned()),
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("freqcap.toml");
    let fields = "[fields]\nframing = 'confluent'\nuser = 'payload.after.user_no'\nda = 'payload.after.da_id'\n\
                  id = 'payload.after.n'\nts = 'payload.after.at'\nts_unit = 'us'\n";
    std::fs::write(&config, fields).unwrap();
    let site = site(&broker, &["--config", config.to_str().unwrap()]);
    let server = site.start();
    caught_up(&server);
    assert_eq!(server.ok("/cap/u/1")["count"], 2);
    let dead = |reason: &str| server.metric(&format!("freqcap_kafka_dead_letters_total{{reason=\"{reason}\"}}"));
    assert_eq!((dead("deleted_row"), dead("invalid_framing")), (1.0, 2.0));
    assert_eq!(server.metric("freqcap_kafka_tombstones_total"), 1.0);
}
