//! Commands that put a state into Redis.

use super::names::{Layout, Names, member};
use super::topology::Topology;
use crate::model::TsMs;
use redis::{Cmd, Pipeline};
use std::sync::Arc;

/// A key of a user and when its cap ends; `None` if it is not capped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub user: String,
    pub key: String,
    pub until: Option<TsMs>,
}

/// The commands of one pipeline to one master.
#[derive(Debug, Default)]
pub(super) struct NodeCommands {
    pub commands: Pipeline,
    /// For each command, the index of its user in [`CommandBatch::users`].
    pub user_of: Vec<u32>,
}

/// Commands by master, and the users that they concern.
#[derive(Debug, Default)]
pub(super) struct CommandBatch {
    pub users: Vec<String>,
    pub by_node: Vec<NodeCommands>,
    pub sets: u64,
    pub removes: u64,
}

impl CommandBatch {
    pub fn push(&mut self, node: usize, command: Cmd) {
        let node_commands = &mut self.by_node[node];
        node_commands.commands.add_command(command);
        node_commands.user_of.push((self.users.len() - 1) as u32);
    }
}

/// A sorted set expires with its last member, by the clock of Redis, which its readers share.
const EXPIRE_WITH_LAST: &str = "\
local last = redis.pcall('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last.err then return last end
if last[2] then return redis.call('PEXPIREAT', KEYS[1], last[2]) end
return 0";

/// Makes commands for one layout and one topology.
#[derive(Debug, Clone)]
pub(super) struct CommandBuilder {
    pub names: Arc<Names>,
    pub layout: Layout,
    pub topology: Arc<Topology>,
}

impl CommandBuilder {
    pub fn batch(&self) -> CommandBatch {
        let mut batch = CommandBatch::default();
        batch.by_node.resize_with(self.topology.masters.len().max(1), NodeCommands::default);
        batch
    }

    /// The commands for these pairs. The pairs of a user must be adjacent.
    pub fn pack(&self, pairs: &[Pair]) -> CommandBatch {
        let mut batch = self.batch();
        for pairs in pairs.chunk_by(|a, b| a.user == b.user) {
            self.pack_user(&mut batch, &pairs[0].user, pairs);
        }
        batch
    }

    /// As [`CommandBuilder::pack`], for the pairs of one user.
    pub fn pack_user(&self, batch: &mut CommandBatch, user: &str, pairs: &[Pair]) {
        let name = self.names.user(user);
        let node = self.topology.node_of(&name);
        batch.users.push(user.to_owned());
        let sets = pairs.iter().filter(|pair| pair.until.is_some()).count();
        batch.sets += sets as u64;
        batch.removes += (pairs.len() - sets) as u64;
        match self.layout {
            Layout::Zset => self.pack_zset(batch, node, &name, pairs),
            Layout::String => self.pack_strings(batch, node, pairs),
        }
    }

    fn pack_zset(&self, batch: &mut CommandBatch, node: usize, name: &str, pairs: &[Pair]) {
        let mut add = redis::cmd("ZADD");
        let mut remove = redis::cmd("ZREM");
        let (mut adds, mut removes) = (false, false);
        add.arg(name);
        remove.arg(name);
        for pair in pairs {
            match pair.until {
                Some(until) => {
                    adds = true;
                    add.arg(until.0).arg(&*member(&pair.key));
                }
                None => {
                    removes = true;
                    remove.arg(&*member(&pair.key));
                }
            }
        }
        if adds {
            batch.push(node, add);
        }
        if removes {
            batch.push(node, remove);
        }
        if adds || removes {
            batch.push(node, self.expire(name));
        }
    }

    fn pack_strings(&self, batch: &mut CommandBatch, node: usize, pairs: &[Pair]) {
        for pair in pairs {
            let name = self.names.pair(&pair.user, &pair.key);
            match pair.until {
                Some(until) => {
                    let (mut set, mut expire) = (redis::cmd("SET"), redis::cmd("PEXPIREAT"));
                    set.arg(&name).arg(until.0);
                    // Two commands, since SET takes PXAT only from Redis 6.2 on. A cap that has ended is removed at
                    // once.
                    expire.arg(&name).arg(until.0);
                    batch.push(node, set);
                    batch.push(node, expire);
                }
                None => batch.push(node, unlink(&name)),
            }
        }
    }

    pub fn expire(&self, name: &str) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(EXPIRE_WITH_LAST).arg(1).arg(name);
        cmd
    }
}

pub(super) fn unlink(name: impl redis::ToSingleRedisArg) -> Cmd {
    let mut cmd = redis::cmd("UNLINK");
    cmd.arg(name);
    cmd
}
