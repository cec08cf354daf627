//! The full sync: sends all rows of `caps`, then scans the prefix and removes what is not in `caps`.

use super::batch::states;
use super::error::MirrorError;
use super::found::{Found, scan};
use super::layout::{CommandBatch, CommandBuilder, Pair, unlink};
use super::link::Link;
use super::owner::Run;
use super::send::{blocking, whole_user};
use super::shared_scan::Participant;
use crate::store::{RowKey, Store};
use std::sync::Arc;

#[derive(Debug)]
enum Stage {
    /// Sends the rows of `caps` after this one.
    Send(Option<Vec<u8>>),
    /// Scans the names on a master.
    Scan {
        node: usize,
        cursor: Vec<u8>,
    },
    /// Scans the names together with other units.
    Shared(Participant),
    Done,
}

/// A full sync under way.
#[derive(Debug)]
pub(super) struct FullSync {
    stage: Stage,
    /// Where a scan is shared with other units; taken when it begins.
    shared: Option<Participant>,
    expected: u64,
    sent: u64,
    removed: u64,
}

impl FullSync {
    /// Begins at the first row. `expected` is an estimate of the number of caps.
    pub fn new(expected: u64, shared: Option<Participant>) -> Self {
        Self { stage: Stage::Send(None), shared, expected, sent: 0, removed: 0 }
    }

    /// Caps sent and removed.
    pub fn figures(&self) -> (u64, u64) {
        (self.sent, self.removed)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Progress from 0 to 1: the first half is sending, the second scanning.
    pub fn progress(&self, nodes: usize) -> f64 {
        match &self.stage {
            Stage::Send(_) => 0.5 * (self.sent as f64 / self.expected.max(1) as f64).min(1.0),
            Stage::Scan { node, .. } => 0.5 + 0.5 * *node as f64 / nodes.max(1) as f64,
            Stage::Shared(_) => 0.5,
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
        let next = match &mut self.stage {
            Stage::Send(after) => {
                let (page, next) = send_page(store, builder, after.clone(), max).await?;
                let sets = page.sets;
                link.deliver((store, run), builder, page, None).await?;
                self.sent += sets;
                match (next, self.shared.take()) {
                    (Some(next), shared) => {
                        self.shared = shared;
                        Stage::Send(Some(next))
                    }
                    (None, Some(shared)) => Stage::Shared(shared),
                    (None, None) => Stage::Scan { node: 0, cursor: b"0".to_vec() },
                }
            }
            Stage::Scan { node, .. } if link.nodes[*node].marker.is_empty() => after_node(*node, link.nodes.len()),
            Stage::Scan { node, cursor } => {
                let node = *node;
                let (found, cursor) = scan(link, builder, node, cursor, |_| true).await?;
                self.removed += remove_surplus(link, (store, run), builder, found).await?;
                if cursor == b"0" { after_node(node, link.nodes.len()) } else { Stage::Scan { node, cursor } }
            }
            Stage::Shared(shared) => match shared.next(link, builder).await? {
                None => Stage::Done,
                Some(found) if found.is_empty() => return Ok(()),
                Some(found) => {
                    // What is not sent is not found again in this pass.
                    let kept = found.clone();
                    match remove_surplus(link, (store, run), builder, found).await {
                        Ok(removes) => self.removed += removes,
                        Err(error) => {
                            shared.put_back(kept);
                            return Err(error);
                        }
                    }
                    return Ok(());
                }
            },
            Stage::Done => Stage::Done,
        };
        self.stage = next;
        Ok(())
    }
}

fn after_node(node: usize, nodes: usize) -> Stage {
    if node + 1 < nodes { Stage::Scan { node: node + 1, cursor: b"0".to_vec() } } else { Stage::Done }
}

/// The next page of caps, and the row after which more follow; `None` after the last.
async fn send_page(
    store: &Arc<Store>,
    builder: &CommandBuilder,
    after: Option<Vec<u8>>,
    max: usize,
) -> Result<(CommandBatch, Option<Vec<u8>>), MirrorError> {
    let (store, builder) = (Arc::clone(store), builder.clone());
    blocking(move || {
        let page = store.caps().after(after.as_deref(), max)?;
        let pairs = page.caps.into_iter().map(|cap| Pair { user: cap.user, key: cap.key, until: Some(cap.until) });
        let batch = builder.pack(&pairs.collect::<Vec<Pair>>());
        Ok((batch, page.next))
    })
    .await
}

/// Removes what was found and is not in `caps`; says how many.
async fn remove_surplus(
    link: &mut Link,
    (store, run): (&Arc<Store>, &Run),
    builder: &CommandBuilder,
    found: Found,
) -> Result<u64, MirrorError> {
    let page = surplus(store, builder, found).await?;
    let removes = page.removes;
    if !page.users.is_empty() {
        link.deliver((store, run), builder, page, None).await?;
    }
    Ok(removes)
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
        for (_, name) in found.other_layout {
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
