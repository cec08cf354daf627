//! The full sync: sends all rows of `caps`, then scans the prefix and removes what is not in `caps`.

use super::batch::states;
use super::error::MirrorError;
use super::layout::{CommandBatch, CommandBuilder, Pair, unlink};
use super::link::Link;
use super::names::{Layout, Named, parse_member};
use super::owner::Run;
use super::send::{blocking, whole_user};
use crate::store::{RowKey, Store};
use redis::{Pipeline, Value};
use std::sync::Arc;

/// The COUNT of a SCAN: how many names Redis visits in one call.
const SCAN_COUNT: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Sends the rows of `caps` after this one.
    Send(Option<Vec<u8>>),
    /// Scans the names on a master.
    Scan {
        node: usize,
        cursor: Vec<u8>,
    },
    Done,
}

/// A full sync under way.
#[derive(Debug)]
pub(super) struct FullSync {
    stage: Stage,
    expected: u64,
    sent: u64,
    removed: u64,
}

impl FullSync {
    /// Begins at the first row. `expected` is an estimate of the number of caps.
    pub fn new(expected: u64) -> Self {
        Self { stage: Stage::Send(None), expected, sent: 0, removed: 0 }
    }

    /// Caps sent and removed.
    pub fn figures(&self) -> (u64, u64) {
        (self.sent, self.removed)
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Progress from 0 to 1: the first half is sending, the second scanning.
    pub fn progress(&self, nodes: usize) -> f64 {
        match &self.stage {
            Stage::Send(_) => 0.5 * (self.sent as f64 / self.expected.max(1) as f64).min(1.0),
            Stage::Scan { node, .. } => 0.5 + 0.5 * *node as f64 / nodes.max(1) as f64,
            Stage::Done => 1.0,
        }
    }

    /// Sends the next page of sets or removals. After an error, the same page is sent again.
    pub async fn step(
        &mut self,
        link: &mut Link,
        (store, run): (&Arc<Store>, &Run),
        builder: &CommandBuilder,
        max: usize,
    ) -> Result<(), MirrorError> {
        let next = match &self.stage {
            Stage::Send(after) => {
                let (page, next) = send_page(store, builder, after.clone(), max).await?;
                let sets = page.sets;
                link.deliver((store, run), builder, page, None).await?;
                self.sent += sets;
                next
            }
            Stage::Scan { node, .. } if link.nodes[*node].marker.is_empty() => after_node(*node, link.nodes.len()),
            Stage::Scan { node, cursor } => {
                let node = *node;
                let (found, cursor) = scan(link, builder, node, cursor).await?;
                let page = surplus(store, builder, found).await?;
                let removes = page.removes;
                if !page.users.is_empty() {
                    link.deliver((store, run), builder, page, None).await?;
                }
                self.removed += removes;
                if cursor == b"0" { after_node(node, link.nodes.len()) } else { Stage::Scan { node, cursor } }
            }
            Stage::Done => Stage::Done,
        };
        self.stage = next;
        Ok(())
    }
}

fn after_node(node: usize, nodes: usize) -> Stage {
    if node + 1 < nodes { Stage::Scan { node: node + 1, cursor: b"0".to_vec() } } else { Stage::Done }
}

async fn send_page(
    store: &Arc<Store>,
    builder: &CommandBuilder,
    after: Option<Vec<u8>>,
    max: usize,
) -> Result<(CommandBatch, Stage), MirrorError> {
    let (store, builder) = (Arc::clone(store), builder.clone());
    blocking(move || {
        let page = store.caps().after(after.as_deref(), max)?;
        let pairs = page.caps.into_iter().map(|cap| Pair { user: cap.user, key: cap.key, until: Some(cap.until) });
        let batch = builder.pack(&pairs.collect::<Vec<Pair>>());
        let next = match page.next {
            Some(next) => Stage::Send(Some(next)),
            None => Stage::Scan { node: 0, cursor: b"0".to_vec() },
        };
        Ok((batch, next))
    })
    .await
}

/// The result of a scan.
#[derive(Debug, Default)]
struct Found {
    pairs: Vec<(String, String)>,
    /// Members of our sets that this version would not have written, with the user.
    strange: Vec<(String, Vec<u8>)>,
    /// Names of the other layout.
    other_layout: Vec<Vec<u8>>,
    /// Users whose name does not hold a sorted set.
    wrong_type: Vec<String>,
}

/// Continues a scan, and reads what the found names hold.
async fn scan(
    link: &mut Link,
    builder: &CommandBuilder,
    index: usize,
    cursor: &[u8],
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
        match (builder.names.parse(name), builder.layout) {
            (Some(Named::User(user)), Layout::Zset) => users.push(user),
            (Some(Named::Pair(user, key)), Layout::String) => found.pairs.push((user, key)),
            (Some(_), _) => found.other_layout.push(name.clone()),
            (None, _) => {}
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

/// The commands that remove what was found and is not in `caps`.
async fn surplus(store: &Arc<Store>, builder: &CommandBuilder, found: Found) -> Result<CommandBatch, MirrorError> {
    let (store, builder) = (Arc::clone(store), builder.clone());
    blocking(move || {
        let mut row_keys = Vec::with_capacity(found.pairs.len());
        for (user, key) in &found.pairs {
            let mut row_key = Vec::with_capacity(user.len() + key.len() + 2);
            RowKey::write(&mut row_key, user, key);
            row_keys.push(row_key);
        }
        row_keys.sort_unstable();
        let mut pairs = states(&store, &row_keys)?;
        pairs.retain(|pair| pair.until.is_none());
        let mut batch = builder.pack(&pairs);
        for (user, member) in found.strange {
            let name = builder.names.user(&user);
            let node = builder.topology.node_of(&name);
            let mut remove = redis::cmd("ZREM");
            remove.arg(&name).arg(member);
            batch.users.push(user);
            batch.push(node, remove);
            batch.push(node, builder.expire(&name));
            batch.removes += 1;
        }
        for name in found.other_layout {
            // Names that parsed are UTF-8.
            let Ok(name) = String::from_utf8(name) else { continue };
            batch.users.push(String::new());
            batch.push(builder.topology.node_of(&name), unlink(&name));
            batch.removes += 1;
        }
        for user in found.wrong_type {
            whole_user(&store, &builder, &mut batch, &user)?;
        }
        Ok(batch)
    })
    .await
}
