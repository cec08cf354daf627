//! Values of topics: with what comes before the JSON, and in Debezium's envelope.

use super::{EventReader, FieldsConfig, Reject};
use crate::model::{Event, TsMs};
use serde_json::json;

fn reader(fields: &str) -> EventReader {
    EventReader::new(&toml::from_str::<FieldsConfig>(fields).unwrap()).unwrap()
}

fn code(read: Result<Event<'_>, Reject>) -> &'static str {
    read.map_or_else(|reject| reject.code, |_| "")
}

const EVENT: &str = r#"{"user":"u","da":1}"#;

#[test]
fn a_framing_is_taken_off_and_nothing_else_is_taken_for_it() {
    let with = |prefix: &[u8]| [prefix, EVENT.as_bytes()].concat();
    for (fields, value, expected) in [
        ("framing = 'confluent'", with(b"\0\0\0\0\x07"), ""),
        // The id of a schema may look like anything.
        ("framing = 'confluent'", with(b"\0{\n\xff\""), ""),
        ("framing = 'confluent'", with(b"\0\0\0\0\x07\xef\xbb\xbf"), ""),
        ("framing = 'confluent'", with(b"\x01\0\0\0\x07"), "invalid_framing"),
        ("framing = 'confluent'", with(b""), "invalid_framing"),
        ("framing = 'confluent'", b"\0\0\0\0".to_vec(), "invalid_framing"),
        ("framing = 'confluent'", b"".to_vec(), "invalid_framing"),
        ("framing = 'confluent'", b"\0\0\0\0\x07".to_vec(), "invalid_json"),
        ("skip_bytes = 5", with(b"\x01\0\0\0\x07"), ""),
        ("skip_bytes = 2", with(b"v1"), ""),
        ("skip_bytes = 5", with(b""), "invalid_json"),
        ("skip_bytes = 5", b"1234".to_vec(), "invalid_framing"),
        ("skip_bytes = 5", b"12345".to_vec(), "invalid_json"),
        ("", with(b""), ""),
        ("", with(b"\xef\xbb\xbf"), ""),
        ("", with(b"\0\0\0\0\x07"), "invalid_json"),
    ] {
        assert_eq!(code(reader(fields).record(&value)), expected, "{fields} {:?}", String::from_utf8_lossy(&value));
    }
    // It is about the values of topics: what is sent over HTTP is JSON.
    assert_eq!(code(reader("framing = 'confluent'").event(EVENT.as_bytes())), "");
    let both: FieldsConfig = toml::from_str("framing = 'confluent'\nskip_bytes = 5").unwrap();
    assert!(EventReader::new(&both).unwrap_err().to_string().starts_with("fields.skip_bytes: "));
}

#[test]
fn debezium_s_envelope_is_read_by_paths_and_a_deleted_row_is_no_event() {
    let fields = |root: &str| {
        reader(&format!(
            "user = '{root}after.user_no'\nda = '{root}after.da_id'\nts = '{root}after.at'\nts_unit = 'us'\nid = '{root}after.n'"
        ))
    };
    let row = json!({"n": 5, "user_no": 7, "da_id": 77, "at": 1_732_233_600_000_999_u64});
    for op in ["c", "r", "u"] {
        let change = json!({"before": null, "after": row, "op": op, "ts_ms": 1});
        let envelope = json!({"schema": {"type": "struct", "fields": []}, "payload": change}).to_string();
        for (reader, value) in [(fields("payload."), envelope), (fields(""), change.to_string())] {
            let event = reader.record(value.as_bytes()).unwrap();
            assert_eq!((event.user.as_str(), event.da.as_str(), event.ts), ("7", "77", Some(TsMs(1_732_233_600_000))));
            assert_eq!(event.id.unwrap().as_str(), "5");
        }
    }
    for change in [
        json!({"before": row, "after": null, "op": "d", "ts_ms": 1}),
        json!({"before": {"n": 5}, "after": null, "op": "d"}),
        json!({"op": "d", "before": row}),
        json!({"op": "t", "source": {}}),
    ] {
        let envelope = json!({"schema": {}, "payload": change}).to_string();
        assert_eq!(code(fields("payload.").record(envelope.as_bytes())), "deleted_row", "{change}");
        assert_eq!(code(fields("").record(change.to_string().as_bytes())), "deleted_row", "{change}");
    }
    assert_eq!(code(fields("payload.").record(br#"{"payload":{"op":"c","after":{}}}"#)), "missing_user");
    assert_eq!(code(fields("payload.").record(br#"{"payload":null}"#)), "missing_user");
}

#[test]
fn a_row_that_is_marked_as_deleted_is_no_event_though_it_is_whole() {
    for (path, value, expected) in [
        ("__deleted", json!({"user": 1, "da": 1, "__deleted": "true"}), "deleted_row"),
        ("__deleted", json!({"user": 1, "da": 1, "__deleted": true}), "deleted_row"),
        ("__deleted", json!({"user": 1, "da": 1, "__deleted": "false"}), ""),
        ("__deleted", json!({"user": 1, "da": 1, "__deleted": null}), ""),
        ("__deleted", json!({"user": 1, "da": 1}), ""),
        ("meta.op", json!({"user": 1, "da": 1, "meta": {"op": "d"}}), "deleted_row"),
        ("meta.op", json!({"user": 1, "da": 1, "meta": {"op": "c"}}), ""),
    ] {
        let reader = reader(&format!("deleted = '{path}'"));
        assert_eq!(code(reader.record(value.to_string().as_bytes())), expected, "{value}");
    }
}
