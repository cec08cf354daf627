//! Asks a server for its time of day and its evictions.

use super::error::MirrorError;
use super::link::{Link, Node};
use crate::model::TsMs;
use futures_util::future::join_all;
use redis::{Pipeline, Value};
use std::time::Instant;

/// A server's answer, as far as its permissions allow.
#[derive(Debug, Default)]
pub(super) struct ServerInfo {
    /// Its time of day, and when it had that time.
    pub time: Option<(TsMs, Instant)>,
    /// Keys evicted since it started.
    pub evicted: Option<u64>,
}

async fn ask(node: &mut Node) -> Result<ServerInfo, MirrorError> {
    let mut ask = Pipeline::with_capacity(2);
    ask.cmd("TIME");
    ask.cmd("INFO").arg("stats");
    let asked = Instant::now();
    let replies = node.exchange("asking the server how it is", &ask).await?;
    // It read its clock at some moment between request and reply.
    let at = asked + asked.elapsed() / 2;
    Ok(ServerInfo { time: parse_time(&replies[0]).map(|time| (time, at)), evicted: parse_evicted(&replies[1]) })
}

/// Asks every server; says whether it has the owner's name, and its address.
pub(super) async fn ask_all(link: &mut Link) -> Result<Vec<(bool, String, ServerInfo)>, MirrorError> {
    let owner = link.owner;
    let asked = link.nodes.iter_mut().map(async |node| (node.addr.clone(), ask(node).await));
    let told = join_all(asked).await.into_iter().enumerate();
    told.map(|(index, (addr, told))| Ok((index == owner, addr, told?))).collect()
}

/// Parses the reply to INFO.
fn parse_evicted(reply: &Value) -> Option<u64> {
    let text = match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    text.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse().ok())
}

/// Parses the reply to TIME: seconds and microseconds.
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
    fn evicted_keys_are_a_line_of_the_figures() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        assert_eq!(parse_evicted(&text("# Stats\r\nexpired_keys:1\r\nevicted_keys:42\r\n")), Some(42));
        assert_eq!(parse_evicted(&text("evicted_keys:x")), None);
        assert_eq!(parse_evicted(&Value::Nil), None);
    }

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
