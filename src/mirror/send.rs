//! Sends pipelines as links of the chain, and repairs what Redis refused.

use super::error::MirrorError;
use super::layout::{CommandBatch, CommandBuilder, Pair, unlink};
use super::link::Link;
use super::marker::{self, Seqs};
use super::owner::{self, Run};
use crate::store::Store;
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A refused command that can be repaired.
enum Refused {
    /// The name of this user holds a value of another type.
    WrongType(String),
    /// The slot is moving to another master, which has this name already.
    Ask(String, Cmd),
}

const SENDING: &str = "telling Redis";

/// Maximum repairs before the batch is sent again later.
const MENDS: usize = 3;

impl Link {
    /// Sends commands to the masters and returns once all were carried out. `record` is what Redis is known to have.
    pub async fn deliver(
        &mut self,
        (store, run): (&Arc<Store>, &Run),
        builder: &CommandBuilder,
        mut batch: CommandBatch,
        mut record: Option<&Seqs>,
    ) -> Result<(), MirrorError> {
        for _ in 0..MENDS {
            let refused = self.send(run, batch, record).await?;
            if refused.is_empty() {
                return Ok(());
            }
            record = None;
            batch = self.mend(store, builder, refused).await?;
        }
        Err(MirrorError::Refused {
            doing: SENDING,
            addr: self.nodes[0].addr.clone(),
            code: "WRONGTYPE".to_owned(),
            detail: "time and again".to_owned(),
        })
    }

    async fn send(
        &mut self,
        run: &Run,
        batch: CommandBatch,
        record: Option<&Seqs>,
    ) -> Result<Vec<Refused>, MirrorError> {
        let this = self.next_name();
        let owner = self.owner;
        let (owner_name, prefix) = (self.names.owner(), self.names.prefix());
        let users = &batch.users;
        let sending =
            self.nodes.iter_mut().enumerate().zip(batch.by_node).map(async |((index, node), node_commands)| {
                let mut refused = Vec::new();
                if node.marker.is_empty() {
                    return Ok(refused);
                }
                let mut commands = node_commands.commands;
                let data = commands.len();
                if index == owner {
                    commands.cmd("GET").arg(owner_name);
                }
                commands.add_command(marker::advance(&node.marker, &node.sent, &this, node.seqs.as_ref(), record));
                node.sending = Some(this.clone());
                let replies = node.exchange(SENDING, &commands).await?;
                let (last, before) = replies.split_last().ok_or_else(|| node.unexpected(SENDING))?;
                // First: the new state of the marker, whatever else failed.
                match last {
                    Value::Int(1) => {
                        node.sent.clone_from(&this);
                        if let Some(record) = record {
                            node.seqs = Some(record.clone());
                        }
                    }
                    Value::ServerError(error) if error.code() != "WRONGTYPE" => {
                        return Err(MirrorError::refused(SENDING, &node.addr, error));
                    }
                    _ => return Err(MirrorError::Broken),
                }
                node.sending = None;
                if let Some(owner) = before.get(data) {
                    owner::check(owner, run, prefix)?;
                }
                for (index, reply) in before[..data].iter().enumerate() {
                    let Value::ServerError(error) = reply else { continue };
                    let user = users[node_commands.user_of[index] as usize].clone();
                    refused.push(match error.code() {
                        "ASK" => match (ask_target(error.details()), commands.cmd_iter().nth(index)) {
                            (Some(target), Some(command)) => Refused::Ask(target, command.clone()),
                            _ => return Err(MirrorError::refused(SENDING, &node.addr, error)),
                        },
                        "WRONGTYPE" => Refused::WrongType(user),
                        // Redis 6 reports an error inside a script like this.
                        _ if error.details().is_some_and(|text| text.contains("WRONGTYPE")) => Refused::WrongType(user),
                        _ => return Err(MirrorError::refused(SENDING, &node.addr, error)),
                    });
                }
                Ok(refused)
            });
        let mut refused = Vec::new();
        for of_node in join_all(sending).await {
            refused.extend(of_node?);
        }
        Ok(refused)
    }

    /// Removes or moves what was in the way. The returned commands must be sent, if only to extend the chain beyond the
    /// repair.
    async fn mend(
        &mut self,
        store: &Arc<Store>,
        builder: &CommandBuilder,
        refused: Vec<Refused>,
    ) -> Result<CommandBatch, MirrorError> {
        let mut users = BTreeSet::new();
        for refused in refused {
            match refused {
                Refused::WrongType(user) => drop(users.insert(user)),
                Refused::Ask(target, command) => self.ask_elsewhere(&target, command).await?,
            }
        }
        if users.is_empty() {
            return Ok(builder.batch());
        }
        let (store, builder) = (Arc::clone(store), builder.clone());
        blocking(move || {
            let mut batch = builder.batch();
            for user in users {
                whole_user(&store, &builder, &mut batch, &user)?;
            }
            Ok(batch)
        })
        .await
    }

    async fn ask_elsewhere(&mut self, target: &str, command: Cmd) -> Result<(), MirrorError> {
        let node = self.nodes.iter_mut().find(|node| node.addr == target).ok_or(MirrorError::Incomplete)?;
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("ASKING");
        commands.add_command(command);
        node.ask("telling the master that a slot is moving to", &commands).await.map(drop)
    }
}

/// Replaces a user's sorted set, whatever was under its name.
pub(super) fn whole_user(
    store: &Store,
    builder: &CommandBuilder,
    batch: &mut CommandBatch,
    user: &str,
) -> Result<(), MirrorError> {
    let caps = store.caps().of_user(user)?;
    let pairs = caps.into_iter().map(|cap| Pair { user: cap.user, key: cap.key, until: Some(cap.until) });
    let pairs: Vec<Pair> = pairs.collect();
    let name = builder.names.user(user);
    batch.users.push(user.to_owned());
    batch.push(builder.topology.node_of(&name), unlink(&name));
    builder.pack_user(batch, user, &pairs);
    Ok(())
}

/// `3999 127.0.0.1:6381` -> `127.0.0.1:6381`.
fn ask_target(details: Option<&str>) -> Option<String> {
    details?.split_whitespace().nth(1).map(str::to_owned)
}

/// Runs a read of the store on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        // A panic there is a panic here.
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(MirrorError::Task),
        },
    }
}
