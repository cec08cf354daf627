//! What every way of reading has in common, against a reading through `serde_json::Value` written for this purpose.

use super::{Body, BodyError, EventReader, FieldsConfig, Reject, TableReader};
use crate::model::{Event, Kind, TsError, TsMs};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::borrow::Cow;

const NOW: u64 = 1_732_233_600_000;

fn read(json: &str) -> Result<Event<'_>, Reject> {
    EventReader::default().event(json.as_bytes())
}

fn code(json: &str) -> &'static str {
    read(json).map_or_else(|reject| reject.code, |_| "")
}

fn mapped(fields: &str, json: &str) -> Result<Event<'static>, Reject> {
    let fields: FieldsConfig = toml::from_str(fields).unwrap();
    EventReader::new(&fields).unwrap().event(json.as_bytes()).map(owned)
}

fn owned(event: Event<'_>) -> Event<'static> {
    Event {
        user: event.user.into_owned(),
        da: event.da.into_owned(),
        ts: event.ts,
        id: event.id.map(|id| id.into_owned()),
        kind: event.kind,
        keys: event.keys.into_iter().map(|key| key.into_owned()).collect(),
    }
}

fn keys<'e>(event: &'e Event<'_>) -> Vec<&'e str> {
    event.keys.iter().map(|key| key.as_str()).collect()
}

#[test]
fn an_event_is_read_whole() {
    let json = r#" {"user":"u1","da":"77","ts":1732233600000,"id":"imp-1","kind":"click","keys":["campaign:42"]} "#;
    let event = read(json).unwrap();
    assert_eq!((event.user.as_str(), event.da.as_str()), ("u1", "77"));
    assert_eq!((event.ts, event.kind), (Some(TsMs(NOW)), Kind::CLICK));
    assert_eq!((event.id.as_ref().map(|id| id.as_str()), keys(&event)), (Some("imp-1"), vec!["campaign:42"]));
}

#[test]
fn what_is_left_out_or_null_is_absent() {
    let event = read(r#"{"user":"u1","da":77,"ts":null,"id":null,"kind":null,"keys":null,"more":{"ts":[1]}}"#).unwrap();
    assert_eq!((event.ts, event.id.is_none(), event.kind, event.keys.len()), (None, true, Kind::IMPRESSION, 0));
    assert_eq!(code(r#"{"user":null,"da":"1"}"#), "missing_user");
    assert_eq!(code(r#"{"user":"u"}"#), "missing_da");
}

#[test]
fn an_integer_is_an_id_by_its_digits_however_long() {
    let long = "123456789012345678901234567890";
    assert_eq!(read(&format!(r#"{{"user":{long},"da":-7}}"#)).unwrap().user.as_str(), long);
    for wrong in ["1.0", "1e3", "true", "{}", "[]", "\"\"", "\"*\"", "\"a\\u0000\"", "\"\\ud800\""] {
        assert_eq!(code(&format!(r#"{{"user":{wrong},"da":1}}"#)), "invalid_user", "{wrong}");
        assert_eq!(code(&format!(r#"{{"user":1,"da":{wrong}}}"#)), "invalid_da", "{wrong}");
        assert_eq!(code(&format!(r#"{{"user":1,"da":1,"id":{wrong}}}"#)), "invalid_id", "{wrong}");
    }
    assert_eq!(code(&format!(r#"{{"user":"{}","da":1}}"#, "x".repeat(257))), "invalid_user");
}

#[test]
fn a_canonical_name_wins_over_its_aliases_and_a_null_gives_way() {
    let user = |json| owned(read(json).unwrap()).user.as_str().to_owned();
    assert_eq!(user(r#"{"user_id":"c","user_no":"b","user":"a","da":1}"#), "a");
    assert_eq!(user(r#"{"user_id":"c","user_no":"b","user":null,"da":1}"#), "b");
    assert_eq!(user(r#"{"user_id":"c","da_id":1}"#), "c");
    let event = read(r#"{"user":1,"ad_id":2,"log_time":1732233600000,"event_id":3}"#).unwrap();
    assert_eq!((event.da.as_str(), event.ts, event.id.unwrap().as_str()), ("2", Some(TsMs(NOW)), "3"));
}

#[test]
fn of_a_member_named_twice_the_last_stands() {
    assert_eq!(read(r#"{"user":"a","da":1,"user":"b"}"#).unwrap().user.as_str(), "b");
    assert_eq!(code(r#"{"user":"a","da":1,"user":null}"#), "missing_user");
}

#[test]
fn escapes_are_understood_in_names_and_values() {
    let event = read(r#"{"us\u0065r":"a\"\u00e9\ud83d\ude00","da":"x\/y"}"#).unwrap();
    assert_eq!((event.user.as_str(), event.da.as_str()), ("a\"é😀", "x/y"));
    assert!(read(r#"{"\ud800":"\ud800","user":1,"da":1,"more":1e999}"#).is_ok());
}

#[test]
fn a_time_is_milliseconds_or_rfc_3339() {
    let ts = |ts: &str| read(&format!(r#"{{"user":1,"da":1,"ts":{ts}}}"#)).map(|event| event.ts.unwrap().0);
    assert_eq!(ts("1732233600000"), Ok(NOW));
    assert_eq!(ts(r#""2024-11-22T09:00:00+09:00""#), Ok(NOW));
    for outside in ["1732233600", "1732233600000000", "-5", "0", "99999999999999999999999999"] {
        assert_eq!(ts(outside).unwrap_err().code, "ts_not_milliseconds", "{outside}");
    }
    for wrong in ["1732233600000.0", "1.7e12", r#""1732233600000.0""#, r#""""#, r#""soon""#, "true", "[]", "{}"] {
        assert_eq!(ts(wrong).unwrap_err().code, "invalid_ts", "{wrong}");
    }
}

#[test]
fn keys_are_strings_of_level_and_id_each_once_and_sixteen_at_most() {
    let with = |keys: &Value| json!({"user": 1, "da": 1, "keys": keys}).to_string();
    for wrong in
        [json!("campaign:1"), json!({}), json!([1]), json!(["x"]), json!(["X:1"]), json!(["da:1"]), json!(["c:"])]
    {
        assert_eq!(code(&with(&wrong)), "invalid_key", "{wrong}");
    }
    let many = |count| (0..count).chain(0..count).map(|i| format!("campaign:{i}")).collect::<Vec<_>>();
    assert_eq!(read(&with(&json!(many(16)))).unwrap().keys.len(), 16);
    assert_eq!(code(&with(&json!(many(17)))), "too_many_keys");
}

#[test]
fn the_first_fault_in_the_order_of_the_fields_is_told() {
    let mut event = json!({"user": 1.5, "da": 1.5, "ts": 1.5, "id": 1.5, "kind": 1.5, "keys": 1.5});
    for (field, code_of_field) in [
        ("user", "invalid_user"),
        ("da", "invalid_da"),
        ("ts", "invalid_ts"),
        ("id", "invalid_id"),
        ("kind", "invalid_kind"),
        ("keys", "invalid_key"),
    ] {
        assert_eq!(code(&event.to_string()), code_of_field);
        event[field] = if matches!(field, "user" | "da") { json!(1) } else { Value::Null };
    }
    assert_eq!(code(&event.to_string()), "");
}

#[test]
fn an_array_is_valid_as_a_whole_or_refused_as_a_whole() {
    let array = |body: &'static str, max| {
        let mut codes = Vec::new();
        let sink = |index, event: Result<Event<'_>, Reject>| {
            codes.push((index, event.map_or_else(|reject| reject.code, |_| "")));
        };
        EventReader::default().array(body.as_bytes(), max, sink).map(|count| (count, codes))
    };
    let bad = array(r#" [ {"user":1,"da":1} , 7, null, [[{}]], {"da":1}, "\ud800", 1e999 ] "#, 9).unwrap();
    let scalar = "not_an_object";
    let codes = ["", scalar, scalar, scalar, "missing_user", scalar, scalar];
    assert_eq!(bad, (7, codes.into_iter().enumerate().collect()));
    assert_eq!(array("[]", 0), Ok((0, vec![])));
    assert_eq!(array("[1,2]", 1), Err(BodyError::TooMany { max: 1 }));
    assert_eq!(array(" 17 ", 1), Err(BodyError::Scalar));
    for broken in [
        "",
        "[",
        "[1",
        "[1,]",
        "[1] 2",
        "17 4",
        "[{\"user\":1,\"da\":1},{\"user\":nope}]",
        "[{\"user\":1,\"da\":1}",
        "nope",
    ] {
        assert!(matches!(array(broken, 9), Err(BodyError::NotJson { .. })), "{broken}");
    }
    assert_eq!(
        EventReader::default().array(b"[\"\xff\"]", 9, |_, _| {}).map_err(|why| why.to_string()),
        Err("the body is not valid JSON at byte 2: not UTF-8".to_owned())
    );
}

#[test]
fn lines_are_judged_one_by_one() {
    let body = b"{\"user\":1,\"da\":1}\r\n\n  \t\r\n{\"user\":1\n[1]\n{\"user\":\"\xff\",\"da\":1}\n{\"user\":2,\"da\":1} x\n{\"user\":3,\"da\":3}";
    let mut codes = Vec::new();
    let sink = |index, event: Result<Event<'_>, Reject>| codes.push((index, event.map_or_else(|r| r.code, |_| "")));
    assert_eq!(EventReader::default().lines(body, 6, sink), Ok(6));
    assert_eq!(
        codes,
        [(0, ""), (3, "invalid_json"), (4, "not_an_object"), (5, "invalid_json"), (6, "invalid_json"), (7, "")]
    );
    assert_eq!(EventReader::default().lines(body, 5, |_, _| {}), Err(BodyError::TooMany { max: 5 }));
    assert_eq!(EventReader::default().lines(b"", 0, |_, _| {}), Ok(0));
}

#[test]
fn a_body_tells_by_its_first_byte_what_it_holds() {
    assert_eq!(
        [Body::peek(b" \n{"), Body::peek(b"["), Body::peek(b""), Body::peek(b"1")],
        [Body::Object, Body::Array, Body::Scalar, Body::Scalar]
    );
}

#[test]
fn deep_nesting_is_passed_over_without_recursion() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(code(&format!(r#"{{"user":1,"da":1,"x":{deep}}}"#)), "");
    assert_eq!(code(&format!(r#"{{"user":{deep},"da":1}}"#)), "invalid_user");
    assert_eq!(code(&format!(r#"{{"user":1,"da":1,"keys":{deep}}}"#)), "invalid_key");
    assert_eq!(code(&deep), "not_an_object");
    assert_eq!(code(&deep[1..]), "invalid_json");
}

#[test]
fn what_is_no_json_is_told_by_its_place() {
    for (broken, detail) in [
        ("{\"user\":1,\n \"da\":nope}", "not valid JSON at byte 18: expected ident"),
        ("{\"user\":1,\n", "not valid JSON at byte 11: EOF while parsing a value"),
        (
            "{\"a\u{1}\":1}",
            "not valid JSON at byte 2: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        ("{\"\\x\":1}", "not valid JSON at byte 3: invalid escape"),
        ("{1:2}", "not valid JSON at byte 1: key must be a string"),
        ("{} {}", "not valid JSON at byte 3: trailing characters"),
        ("\n\nnope", "not valid JSON at byte 3: expected ident"),
    ] {
        assert_eq!(read(broken).unwrap_err(), Reject { code: "invalid_json", detail: detail.to_owned() }, "{broken:?}");
    }
}

#[test]
fn a_mapped_path_comes_first_and_the_standard_names_after_it() {
    let fields = "user = 'payload.uid'\nda = 'payload.ad.id'\n[keys]\ncampaign = 'payload.ad.cmp'";
    let event = mapped(fields, r#"{"user":"x","payload":{"uid":"u","ad":{"id":7,"cmp":42}}}"#).unwrap();
    assert_eq!((event.user.as_str(), event.da.as_str(), keys(&event)), ("u", "7", vec!["campaign:42"]));
    let event = mapped(fields, r#"{"user":"x","da":"7","payload":{"uid":null,"ad":3},"keys":["brand:1"]}"#).unwrap();
    assert_eq!((event.user.as_str(), event.da.as_str(), keys(&event)), ("x", "7", vec!["brand:1"]));
    let twice = r#"{"payload":{"uid":"u","ad":{"id":7}},"payload":{"uid":"v"},"da":1}"#;
    let event = mapped(fields, twice).unwrap();
    assert_eq!((event.user.as_str(), event.da.as_str()), ("v", "1"));
    assert_eq!(mapped(fields, r#"{"user":1,"da":1,"payload":{"ad":{"cmp":[]}}}"#).unwrap_err().code, "invalid_key");
}

#[test]
fn a_name_mapped_to_one_field_no_longer_stands_for_another() {
    let event = mapped("user = 'id'", r#"{"id":"u","da":1}"#).unwrap();
    assert_eq!((event.user.as_str(), event.id), ("u", None));
    let event = mapped("user = 'user.id'", r#"{"user":{"id":"u"},"da":1}"#).unwrap();
    assert_eq!(event.user.as_str(), "u");
    assert_eq!(mapped("user = 'user.id'", r#"{"user":"plain","da":1}"#).unwrap().user.as_str(), "plain");
    assert_eq!(mapped("user = 'user.id'", r#"{"user":{},"da":1}"#).unwrap_err().code, "missing_user");
}

#[test]
fn a_mapped_time_is_read_in_its_unit() {
    let ts = |unit: &str, ts: &str| {
        mapped(&format!("ts = 'at'\nts_unit = '{unit}'"), &format!(r#"{{"user":1,"da":1,"at":{ts}}}"#))
            .map(|event| event.ts.unwrap().0)
            .map_err(|reject| reject.code)
    };
    assert_eq!(ts("s", "1732233600"), Ok(NOW));
    assert_eq!(ts("s", "1732233600.1239"), Ok(NOW + 123));
    assert_eq!(ts("s", "1732233600000"), Err("ts_not_milliseconds"));
    assert_eq!(ts("s", "1.7e9"), Err("invalid_ts"));
    assert_eq!(ts("text", "\"2024-11-22T00:00:00Z\""), Ok(NOW));
    assert_eq!(ts("text", "1732233600000"), Ok(NOW));
    assert_eq!(ts("text", "1732233600"), Err("ts_not_milliseconds"));
    assert_eq!(ts("text:Asia/Seoul", "\"2024-11-22 09:00:00.5\""), Ok(NOW + 500));
    assert_eq!(ts("text:Asia/Seoul", "\"2024-11-22T00:00:00Z\""), Ok(NOW));
    assert_eq!(ts("text:Asia/Seoul", "\"09:00\""), Err("invalid_ts"));
    // Without the mapped field, the standard one is in milliseconds.
    assert_eq!(
        mapped("ts = 'at'\nts_unit = 's'", r#"{"user":1,"da":1,"ts":1732233600000}"#).unwrap().ts,
        Some(TsMs(NOW))
    );
    assert_eq!(mapped("ts_unit = 's'", r#"{"user":1,"da":1,"ts":1732233600}"#).unwrap().ts, Some(TsMs(NOW)));
}

#[test]
fn fields_that_make_no_sense_are_refused_by_name() {
    let error = |fields: &str| {
        let fields = toml::from_str::<FieldsConfig>(fields).map_err(|why| why.message().to_owned())?;
        EventReader::new(&fields).map(drop).map_err(|why| why.to_string())
    };
    assert!(error("user = 'a..b'").unwrap_err().starts_with("fields.user: \"a..b\""));
    assert!(error("keys.da = 'x'").unwrap_err().starts_with("fields.keys.da: "));
    assert!(error("keys.Big = 'x'").unwrap_err().starts_with("fields.keys.Big: "));
    assert!(error("usr = 'x'").unwrap_err().contains("usr"));
    assert!(error("ts_unit = 'text:Mars/Base'").unwrap_err().contains("Mars/Base"));
    assert!(error("ts_unit = 'min'").unwrap_err().contains("\"min\" is none of"));
}

#[test]
fn a_table_names_its_columns_as_events_name_their_fields() {
    let reader = EventReader::default();
    let header = "\u{feff}ts_ms, user_no,da,campaign,kind,note";
    let table = TableReader::new(&reader, header.split(','), &["campaign".to_owned()]).unwrap();
    let row = |row: &'static str| table.row(row.split(',')).map_err(|reject| reject.code);
    let event = row("1732233600000,u1,007,42,imp,x").unwrap();
    assert_eq!(
        (event.user.as_str(), event.da.as_str(), event.ts, event.kind),
        ("u1", "007", Some(TsMs(NOW)), Kind::IMPRESSION)
    );
    assert_eq!(keys(&event), ["campaign:42"]);
    assert!(row("2024-11-22T00:00:00Z,u1,7,,click,").unwrap().keys.is_empty());
    assert_eq!(row("x,u1,7,,,"), Err("invalid_ts"));
    assert_eq!(row(",,7,,,"), Err("missing_user"));
    assert_eq!(row(",u,7,*,,"), Err("invalid_key"));
    assert!(TableReader::new(&reader, ["user"], &["campaign".to_owned()]).is_err());
    assert!(TableReader::new(&reader, ["da"], &["da".to_owned()]).is_err());
}

#[test]
fn a_mapping_goes_for_columns_too() {
    let fields: FieldsConfig = toml::from_str("user = 'p.uid'\nts = 'when'\nts_unit = 's'\nkeys.brand = 'b'").unwrap();
    let reader = EventReader::new(&fields).unwrap();
    let table = TableReader::new(&reader, ["p.uid", "da", "when", "b"], &[]).unwrap();
    let event = table.row(["u", "7", "1732233600.5", "x"]).unwrap();
    assert_eq!((event.user.as_str(), event.ts, keys(&event)), ("u", Some(TsMs(NOW + 500)), vec!["brand:x"]));
}

/// The contract once more, slowly: fields by name out of a `Value`.
fn naive(json: &Value) -> Result<Event<'static>, &'static str> {
    let object = json.as_object().ok_or("not_an_object")?;
    let first = |names: &[&str]| names.iter().find_map(|name| object.get(*name).filter(|value| !value.is_null()));
    let id = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    };
    let user = id(first(&["user", "user_no", "user_id"]).ok_or("missing_user")?);
    let user = user.and_then(|id| crate::model::UserId::new(id).ok()).ok_or("invalid_user")?;
    let da = id(first(&["da", "da_id", "ad_id"]).ok_or("missing_da")?);
    let da = da.and_then(|id| crate::model::DaId::new(id).ok()).ok_or("invalid_da")?;
    let ts = match first(&["ts", "logTime", "log_time", "timestamp"]) {
        None => None,
        Some(Value::String(text)) => Some(TsMs::from_text(text).map_err(|why| match why {
            TsError::Form => "invalid_ts",
            TsError::NotMilliseconds => "ts_not_milliseconds",
        })?),
        Some(Value::Number(ms)) if ms.is_u64() || ms.is_i64() => {
            let ms = ms.as_i64().ok_or("ts_not_milliseconds")?;
            Some(TsMs::from_millis(ms.into()).map_err(|_| "ts_not_milliseconds")?)
        }
        Some(_) => return Err("invalid_ts"),
    };
    let event_id = match first(&["id", "event_id"]) {
        None => None,
        Some(value) => Some(id(value).and_then(|id| crate::model::EventId::new(id).ok()).ok_or("invalid_id")?),
    };
    let kind = match first(&["kind"]) {
        None => Kind::IMPRESSION,
        Some(value) => value.as_str().and_then(|kind| Kind::new(kind).ok()).ok_or("invalid_kind")?,
    };
    let mut keys = Vec::new();
    for key in first(&["keys"]).map_or(Ok(&[][..]), |keys| keys.as_array().map(Vec::as_slice).ok_or("invalid_key"))? {
        let key = key.as_str().and_then(|key| crate::model::CapKey::extra(Cow::from(key.to_owned())).ok());
        let key = key.ok_or("invalid_key")?;
        if !keys.contains(&key) {
            keys.push(key);
        }
        if keys.len() > 16 {
            return Err("too_many_keys");
        }
    }
    Ok(Event { user, da, ts, id: event_id, kind, keys: keys.into() })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_000_000_000_000i64..2_000_000_000_000).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no infinity", |number| number.is_finite()).prop_map(Value::from),
        "[a-c\"\\\\\u{0}\u{7f}é😀:*]{0,10}".prop_map(Value::from),
        prop::sample::select(vec![
            "click",
            "campaign:1",
            "brand:*",
            "da:1",
            "2024-11-22T00:00:00Z",
            "2024-11-22 09:00+09",
            "1732233600000",
            "1",
        ])
        .prop_map(Value::from),
        Just(json!(NOW)),
    ];
    leaf.prop_recursive(3, 24, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec("[a-e]:[a-e]{1,2}", 0..24).prop_map(Value::from),
            prop::collection::hash_map("[a-d]{1,2}", inner, 0..3).prop_map(Value::from_iter),
        ]
    })
}

/// A name, as it is or with an escape in it.
fn any_name() -> impl Strategy<Value = String> {
    let names =
        prop::sample::select([&super::standard_fields::STANDARD[..], &["other", "us", "user_ids", ""]].concat());
    (names, any::<bool>()).prop_map(|(name, escape)| match name.chars().next() {
        Some(first) if escape => format!("\"\\u{:04x}{}\"", u32::from(first), &name[1..]),
        _ => format!("\"{name}\""),
    })
}

proptest! {
    #[test]
    fn any_object_is_read_as_through_a_value(
        members in prop::collection::vec((any_name(), any_value()), 0..10),
        sound in any::<bool>(),
    ) {
        let head = if sound { r#""user":"u","da":"d""# } else { r#""other":1"# };
        let members: String = members.iter().map(|(name, value)| format!(" ,{name}:\t{value}")).collect();
        let json = format!("{{{head}{members} }}");
        let expected = naive(&serde_json::from_str(&json).unwrap());
        let got = read(&json).map(owned).map_err(|reject| reject.code);
        prop_assert_eq!(&got, &expected, "{}", json);
        // A mapping that leads nowhere changes nothing.
        let through = mapped("user = 'a.b'\nts = 'nowhere'", &json).map_err(|reject| reject.code);
        prop_assert_eq!(through, expected, "{}", json);
    }
}
