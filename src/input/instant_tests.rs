//! Times as the field sends them: a table of inputs with the right values, the same by every way in.

use super::{EventReader, FieldsConfig, Reject, TableReader};
use crate::model::{Event, TsMs};
use proptest::prelude::*;

const NOW: u64 = 1_732_233_600_000;

/// Units, a time as it stands in JSON, and what it is.
const TIMES: &[(&str, &str, Result<u64, &str>)] = &[
    ("ms", "1732233600000", Ok(NOW)),
    ("ms", "\"1732233600000\"", Ok(NOW)),
    ("ms", "\"1732233600123\"", Ok(NOW + 123)),
    ("ms", "\"2024-11-22T00:00Z\"", Ok(NOW)),
    ("ms", "\"2024-11-22T00:00:00,25Z\"", Ok(NOW + 250)),
    ("ms", "\"2024-11-22 09:00:00+09\"", Ok(NOW)),
    ("ms", "\"2024-11-22T09:00:00.123456+0900\"", Ok(NOW + 123)),
    ("ms", "\"2024-11-22 00:00:00 UTC\"", Ok(NOW)),
    ("ms", "\"1732233600\"", Err(Reject::TS_NOT_MILLISECONDS)),
    ("ms", "\"1732233600000000\"", Err(Reject::TS_NOT_MILLISECONDS)),
    ("ms", "\"-1732233600000\"", Err(Reject::TS_NOT_MILLISECONDS)),
    ("ms", "\"99999999999999999999999999999999999999999999\"", Err(Reject::TS_NOT_MILLISECONDS)),
    ("ms", "\"1732233600000.5\"", Err(Reject::INVALID_TS)),
    ("ms", "1732233600000.5", Err(Reject::INVALID_TS)),
    ("ms", "\"2024-11-22T00:00:00\"", Err(Reject::INVALID_TS)),
    ("s", "1732233600", Ok(NOW)),
    ("s", "\"1732233600\"", Ok(NOW)),
    ("s", "\"1732233600.0019\"", Ok(NOW + 1)),
    ("s", "1732233600.5", Ok(NOW + 500)),
    ("s", "\"2024-11-22T00:00:00Z\"", Ok(NOW)),
    ("s", "\"1732233600000\"", Err(Reject::TS_NOT_MILLISECONDS)),
    ("s", "\"1732233600.\"", Err(Reject::INVALID_TS)),
    ("us", "1732233600000999", Ok(NOW)),
    ("us", "\"1732233600001000\"", Ok(NOW + 1)),
    ("us", "\"2024-11-22T00:00:00Z\"", Ok(NOW)),
    ("us", "1732233600000", Err(Reject::TS_NOT_MILLISECONDS)),
    ("us", "1732233600000000.5", Err(Reject::INVALID_TS)),
    ("ns", "1732233600000999999", Ok(NOW)),
    ("ns", "\"1732233600001000000\"", Ok(NOW + 1)),
    ("ns", "\"2024-11-22T00:00:00Z\"", Ok(NOW)),
    ("ns", "1732233600000000", Err(Reject::TS_NOT_MILLISECONDS)),
    ("text", "\"2024-11-22T00:00:00Z\"", Ok(NOW)),
    ("text", "\"2024-11-22 00:00 UTC\"", Ok(NOW)),
    ("text", "\"1732233600000\"", Ok(NOW)),
    ("text", "\"2024-11-22 00:00\"", Err(Reject::INVALID_TS)),
    ("text:Asia/Seoul", "\"2024-11-22 09:00\"", Ok(NOW)),
    ("text:Asia/Seoul", "\"2024-11-22T09:00:00,5\"", Ok(NOW + 500)),
    ("text:Asia/Seoul", "\"2024-11-22 09:00:00.123456789012\"", Ok(NOW + 123)),
    ("text:Asia/Seoul", "\"2024-11-22 00:00 UTC\"", Ok(NOW)),
    ("text:Asia/Seoul", "\"2024-11-22 10:00+1000\"", Ok(NOW)),
    ("text:Asia/Seoul", "\"2024-11-22 10:00+10:0\"", Err(Reject::INVALID_TS)),
    ("text:Asia/Seoul", "\"1732233600000\"", Ok(NOW)),
    ("text:Asia/Seoul", "\"soon\"", Err(Reject::INVALID_TS)),
];

type Read = Result<u64, &'static str>;

fn told(read: Result<Event<'_>, Reject>) -> Read {
    read.map(|event| event.ts.map_or(0, |ts| ts.0)).map_err(|reject| reject.code)
}

/// A time by every way in: JSON in one pass, JSON by the library (for the escape in the name), the time itself escaped,
/// an element, a line, a cell.
fn by_every_way(fields: &str, json: &str) -> Vec<Read> {
    let fields: FieldsConfig = toml::from_str(fields).unwrap();
    let reader = EventReader::new(&fields).unwrap();
    let object = |time: &str, user: &str| format!("{{\"{user}\":\"u\",\"da\":7,\"at\":{time},\"ts\":{time}}}");
    let plain = object(json, "user");
    let mut read =
        vec![told(reader.event(plain.as_bytes())), told(reader.event(object(json, "us\\u0065r").as_bytes()))];
    if let Some(text) = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let escaped: String = text.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
        read.push(told(reader.event(object(&format!("\"{escaped}\""), "user").as_bytes())));
    }
    let array = format!("[{plain}]");
    reader.array(array.as_bytes(), 1, |_, event| read.push(told(event))).unwrap();
    reader.lines(plain.as_bytes(), 1, |_, event| read.push(told(event))).unwrap();
    let table = TableReader::new(&reader, ["user", "da", "at", "ts"], &[]).unwrap();
    let cell = json.trim_matches('"');
    read.push(told(table.row(["u", "7", cell, cell])));
    read
}

#[test]
fn a_time_is_the_same_by_every_way_in() {
    for (unit, json, expected) in TIMES {
        for read in by_every_way(&format!("ts = 'at'\nts_unit = '{unit}'"), json) {
            assert_eq!(read, *expected, "{unit} {json}");
        }
        if *unit == "ms" {
            for read in by_every_way("", json) {
                assert_eq!(read, *expected, "{json} without [fields]");
            }
        }
    }
}

/// An instant in one of the forms that mean it, with its unit.
fn any_form() -> impl Strategy<Value = (u64, &'static str, String)> {
    let range = 100_000_000_000_u64..100_000_000_000_000;
    (range, 0..10_usize, any::<bool>()).prop_map(|(ms, form, quoted)| {
        let at = jiff::Timestamp::from_millisecond(ms as i64).unwrap();
        let seoul = jiff::tz::Offset::from_seconds(32_400).unwrap().to_datetime(at);
        let utc = jiff::tz::Offset::UTC.to_datetime(at);
        let integer = |text: String| if quoted { format!("\"{text}\"") } else { text };
        let (unit, json) = match form {
            0 => ("ms", integer(ms.to_string())),
            1 => ("s", integer(format!("{}.{:03}", ms / 1_000, ms % 1_000))),
            2 => ("us", integer((ms * 1_000 + 999).to_string())),
            3 => ("ns", integer((u128::from(ms) * 1_000_000 + 999_999).to_string())),
            4 => ("ms", format!("\"{at:.3}\"")),
            5 => ("us", format!("\"{} UTC\"", format!("{utc:.9}").replace('T', " "))),
            6 => ("ns", format!("\"{utc:.3}Z\"").replace('.', ",")),
            7 => ("text", format!("\"{seoul:.3}+09\"")),
            8 => ("s", format!("\"{seoul:.3}+0900\"")),
            _ => ("text:UTC", format!("\"{utc:.3}\"").replace('T', " ")),
        };
        (ms, unit, json)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_instant_is_understood_in_every_form_by_every_way_in((ms, unit, json) in any_form()) {
        for read in by_every_way(&format!("ts = 'at'\nts_unit = '{unit}'"), &json) {
            prop_assert_eq!(read, Ok(ms), "{} {}", unit, json);
        }
    }

    /// Texts that come near to times: whatever they are, they are the same by every way in.
    #[test]
    fn what_one_way_in_understands_all_do(
        unit in prop::sample::select(vec!["ms", "s", "us", "ns", "text", "text:Asia/Seoul"]),
        text in "[0-9]{1,20}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{0,4})?)?( ?(Z|UTC|[+-][0-9:]{0,5}))?|[0-9TZ:+. -]{1,24}",
    ) {
        // A cell has no white space around it, and an empty one is absent.
        let text = text.trim();
        prop_assume!(!text.is_empty());
        let all = by_every_way(&format!("ts = 'at'\nts_unit = '{unit}'"), &format!("\"{text}\""));
        prop_assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{} {:?}: {:?}", unit, text, all);
        if let Ok(ts) = all[0] {
            prop_assert_eq!(TsMs::from_millis(ts.into()), Ok(TsMs(ts)));
        }
    }
}
