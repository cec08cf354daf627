//! What a server tells of itself: its time of day.

use super::error::MirrorError;
use super::link::Node;
use crate::model::TsMs;
use redis::{Pipeline, Value};
use std::time::Instant;

/// Asks a server for the time of day. `None` where it does not let us, or says nothing that could be one.
pub(super) async fn time(node: &mut Node) -> Result<Option<(TsMs, Instant)>, MirrorError> {
    let mut ask = Pipeline::with_capacity(1);
    ask.cmd("TIME");
    let asked = Instant::now();
    let replies = node.exchange("asking for the time", &ask).await?;
    // It looked at its clock somewhere between the question and the answer.
    let at = asked + asked.elapsed() / 2;
    Ok(replies.first().and_then(parse_time).map(|time| (time, at)))
}

/// Takes the reply to TIME: seconds and microseconds.
fn parse_time(reply: &Value) -> Option<TsMs> {
    let Value::Array(parts) = reply else { return None };
    let [seconds, micros] = &parts[..] else { return None };
    let ms = number(seconds)?.checked_mul(1_000)?.checked_add(number(micros)? / 1_000)?;
    TsMs::from_millis(ms.into()).ok()
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_seconds_and_microseconds_and_anything_else_is_none() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let told = Value::Array(vec![text("1732233600"), text("123456")]);
        assert_eq!(parse_time(&told), Some(TsMs(1_732_233_600_123)));
        for strange in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![text("x"), text("1")]),
            Value::Array(vec![text("9223372036854775807"), text("1")]),
            Value::Array(vec![text("1732233600"), text("1"), text("2")]),
        ] {
            assert_eq!(parse_time(&strange), None, "{strange:?}");
        }
    }
}
