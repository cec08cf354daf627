//! Scans the names of the prefix, and reads what they hold.

use super::error::MirrorError;
use super::layout::CommandBuilder;
use super::link::Link;
use super::names::{Layout, Named, parse_member};
use redis::{Pipeline, Value};
use std::collections::BTreeMap;

/// The COUNT of a SCAN: how many names Redis visits in one call.
const SCAN_COUNT: usize = 1_000;

/// The result of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub pairs: Vec<(String, String)>,
    /// Members of our sets that this version would not have written, with the user.
    pub strange: Vec<(String, Vec<u8>)>,
    /// Names of the other layout, with the user.
    pub other_layout: Vec<(String, Vec<u8>)>,
    /// Users whose name does not hold a sorted set.
    pub wrong_type: Vec<String>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// By the unit of the user.
    pub fn split(self, unit_of: impl Fn(&str) -> usize) -> BTreeMap<usize, Found> {
        let mut split: BTreeMap<usize, Found> = BTreeMap::new();
        for pair in self.pairs {
            split.entry(unit_of(&pair.0)).or_default().pairs.push(pair);
        }
        for member in self.strange {
            split.entry(unit_of(&member.0)).or_default().strange.push(member);
        }
        for name in self.other_layout {
            split.entry(unit_of(&name.0)).or_default().other_layout.push(name);
        }
        for user in self.wrong_type {
            split.entry(unit_of(&user)).or_default().wrong_type.push(user);
        }
        split
    }
}

/// Continues a scan, and reads what the found names of the users hold who are wanted.
pub(super) async fn scan(
    link: &mut Link,
    builder: &CommandBuilder,
    index: usize,
    cursor: &[u8],
    wanted: impl Fn(&str) -> bool,
) -> Result<(Found, Vec<u8>), MirrorError> {
    const DOING: &str = "scanning the prefix";
    let node = &mut link.nodes[index];
    let mut cmd = redis::cmd("SCAN");
    cmd.arg(cursor).arg("MATCH").arg(builder.names.pattern()).arg("COUNT").arg(SCAN_COUNT);
    let reply = node.ask_one(DOING, cmd).await?;
    let Value::Array(reply) = reply else { return Err(node.unexpected(DOING)) };
    let [Value::BulkString(cursor), Value::Array(names)] = &reply[..] else { return Err(node.unexpected(DOING)) };
    let mut found = Found::default();
    let mut users = Vec::new();
    for name in names {
        let Value::BulkString(name) = name else { continue };
        // The slot of this name is moving to another master, where the name is found, too.
        if std::str::from_utf8(name).is_ok_and(|name| builder.topology.node_of(name) != index) {
            continue;
        }
        let Some(named) = builder.names.parse(name).filter(|named| wanted(named.user())) else { continue };
        match (named, builder.layout) {
            (Named::User(user), Layout::Zset) => users.push(user),
            (Named::Pair(user, key), Layout::String) => found.pairs.push((user, key)),
            (Named::User(user) | Named::Pair(user, _), _) => found.other_layout.push((user, name.clone())),
        }
    }
    if users.is_empty() {
        return Ok((found, cursor.clone()));
    }
    let mut read = Pipeline::with_capacity(users.len());
    for user in &users {
        read.cmd("ZRANGE").arg(builder.names.user(user)).arg(0).arg(-1);
    }
    for (user, members) in users.into_iter().zip(node.exchange(DOING, &read).await?) {
        match members {
            Value::Array(members) => {
                for member in members {
                    let Value::BulkString(member) = member else { continue };
                    match parse_member(&member) {
                        Some(key) => found.pairs.push((user.clone(), key)),
                        None => found.strange.push((user.clone(), member)),
                    }
                }
            }
            Value::ServerError(error) if error.code() == "WRONGTYPE" => found.wrong_type.push(user),
            Value::ServerError(error) => return Err(MirrorError::refused(DOING, &node.addr, &error)),
            _ => return Err(node.unexpected(DOING)),
        }
    }
    Ok((found, cursor.clone()))
}
