//! The connections to Redis: to one server, or to every master of a cluster, by the same code.
//!
//! Each master has a plain connection. A client that follows redirections and retries by itself would hide what the
//! marker detects: that another server answers than the one that was sent the changes.

use super::error::MirrorError;
use super::marker::{self, Marker, MirrorIdentity, Seqs};
use super::names::Names;
use super::options::{Options, address};
use super::topology::{Master, Topology};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, Pipeline, Value};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// A master, and the state of its marker.
pub(super) struct Node {
    pub addr: String,
    connection: MultiplexedConnection,
    timeout: Duration,
    /// The name of its marker; empty if none of our names can be on it.
    pub marker: String,
    /// The sequences in its marker; `None` if it has none.
    pub seqs: Option<Seqs>,
    /// The name of the last pipeline that it acknowledged.
    pub sent: String,
    /// The name of the pipeline under way.
    pub sending: Option<String>,
}

impl Node {
    /// Sends commands and reads all replies. An error among the replies is a value.
    pub async fn exchange(&mut self, doing: &'static str, commands: &Pipeline) -> Result<Vec<Value>, MirrorError> {
        let replies = self.connection.send_packed_commands(commands, 0, commands.len());
        match tokio::time::timeout(self.timeout, replies).await {
            Ok(Ok(replies)) if replies.len() == commands.len() => Ok(replies),
            Ok(Ok(_)) => Err(self.unexpected(doing)),
            Ok(Err(source)) if source.is_timeout() => Err(self.slow(doing)),
            Ok(Err(source)) => Err(MirrorError::Lost { doing, addr: self.addr.clone(), source }),
            Err(_) => Err(self.slow(doing)),
        }
    }

    /// As [`Node::exchange`], but an error among the replies is an error.
    pub async fn ask(&mut self, doing: &'static str, commands: &Pipeline) -> Result<Vec<Value>, MirrorError> {
        let replies = self.exchange(doing, commands).await?;
        match replies.iter().find_map(|reply| if let Value::ServerError(error) = reply { Some(error) } else { None }) {
            Some(error) => Err(MirrorError::refused(doing, &self.addr, error)),
            None => Ok(replies),
        }
    }

    /// As [`Node::ask`], for one command.
    pub async fn ask_one(&mut self, doing: &'static str, command: redis::Cmd) -> Result<Value, MirrorError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        let mut replies = self.ask(doing, &commands).await?;
        replies.pop().ok_or_else(|| self.unexpected(doing))
    }

    pub fn unexpected(&self, doing: &'static str) -> MirrorError {
        MirrorError::Unexpected { doing, addr: self.addr.clone() }
    }

    fn slow(&self, doing: &'static str) -> MirrorError {
        MirrorError::Slow { doing, addr: self.addr.clone(), ms: self.timeout.as_millis() }
    }
}

/// By master, the last pipeline that was acknowledged, and one that may have been carried out as well.
#[derive(Debug, Clone)]
pub(super) struct Chain(Vec<(String, Option<String>)>);

impl Chain {
    /// Whether these markers have everything that was acknowledged.
    pub fn holds(&self, markers: &[Marker]) -> bool {
        self.0.len() == markers.len()
            && self.0.iter().zip(markers).all(|((sent, sending), marker)| {
                marker.seqs.is_none()
                    && marker.sent.is_some()
                    && (marker.sent.as_ref() == Some(sent) || marker.sent == *sending)
            })
    }
}

/// All connections, and how names are distributed over them.
pub(super) struct Link {
    pub nodes: Vec<Node>,
    pub topology: Arc<Topology>,
    pub identity: MirrorIdentity,
    pub names: Arc<Names>,
    /// The node with the owner's name.
    pub owner: usize,
    /// The server of the options that was connected to first.
    seed: ConnectionInfo,
    /// The prefix of pipeline names: 64 random bits.
    session: u64,
    count: u64,
}

impl Link {
    /// Connects to one server: of the options, or a known master, in turn. If it belongs to a cluster, connects to
    /// every master.
    pub async fn connect(
        options: &Options,
        names: &Arc<Names>,
        store_id: &str,
        known: &[Master],
        turn: usize,
    ) -> Result<Link, MirrorError> {
        let seeds = options.servers.seeds.len();
        let turn = turn % (seeds + known.len());
        let info = options.servers.connection(turn);
        let info = info.map_err(|source| failed(&options.servers.to_string(), options, &source))?;
        let info = match turn.checked_sub(seeds) {
            Some(known_one) => at_address(&info, &known[known_one].host, known[known_one].port),
            None => info,
        };
        let mut first = connect(&info, options).await?;
        let topology = discover(&mut first, &info, options.servers.is_cluster).await?;
        let markers = topology.markers(names);
        let mut nodes = Vec::new();
        if topology.masters.is_empty() {
            nodes.push(first);
        } else {
            drop(first);
            let infos: Vec<_> =
                topology.masters.iter().map(|master| at_address(&info, &master.host, master.port)).collect();
            for node in join_all(infos.iter().map(|info| connect(info, options))).await {
                nodes.push(node?);
            }
        }
        for (node, marker) in nodes.iter_mut().zip(markers) {
            // A master without a marker cannot have names of ours, and gets no commands.
            node.marker = marker.unwrap_or_default();
        }
        let owner = topology.node_of(names.owner());
        let session = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let layout = options.layout.as_str();
        let identity = MirrorIdentity { store: store_id.to_owned(), layout, topology: topology.id.clone() };
        let (topology, names) = (Arc::new(topology), Arc::clone(names));
        Ok(Link { nodes, topology, identity, names, owner, seed: info, session, count: 0 })
    }

    /// The masters that can have names of ours.
    pub fn ours(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().filter(|node| !node.marker.is_empty())
    }

    /// A name for the next pipeline; no two are the same.
    pub fn next_name(&mut self) -> String {
        self.count += 1;
        self.identity.name(self.session, self.count)
    }

    pub async fn read_markers(&mut self) -> Result<Vec<Marker>, MirrorError> {
        join_all(self.ours().map(async |node| {
            let mut read = Pipeline::with_capacity(1);
            read.add_command(Marker::read(&node.marker));
            let replies = node.exchange("reading the marker", &read).await?;
            match &replies[..] {
                [Value::ServerError(error)] if error.code() == "WRONGTYPE" => Ok(Marker::default()),
                [Value::ServerError(error)] => Err(MirrorError::refused("reading the marker", &node.addr, error)),
                [reply] => Ok(Marker::parse(reply)),
                _ => Err(node.unexpected("reading the marker")),
            }
        }))
        .await
        .into_iter()
        .collect()
    }

    /// Continues the chain from markers as they were read.
    pub async fn adopt(&mut self, markers: Vec<Marker>) -> Result<(), MirrorError> {
        let this = self.next_name();
        let adopted = join_all(self.ours().zip(markers).map(async |(node, marker)| {
            let before = marker.sent.unwrap_or_default();
            let reply = node.ask_one("adopting the marker", marker::advance(&node.marker, &before, &this, None, None));
            if reply.await? != Value::Int(1) {
                return Err(MirrorError::Broken);
            }
            (node.sent, node.seqs, node.sending) = (this.clone(), marker.seqs, None);
            Ok(())
        }));
        adopted.await.into_iter().collect()
    }

    /// Clears the markers for a full sync, on every master.
    pub async fn begin(&mut self) -> Result<(), MirrorError> {
        let this = self.next_name();
        let begun = join_all(self.ours().map(async |node| {
            node.ask_one("beginning a full sync", marker::begin(&node.marker, &this)).await?;
            (node.sent, node.seqs, node.sending) = (this.clone(), None, None);
            Ok(())
        }));
        begun.await.into_iter().collect()
    }

    /// Whether these markers continue the chain of this link.
    pub fn is_intact(&mut self, markers: &[Marker]) -> bool {
        self.ours()
            .zip(markers)
            .all(|(node, marker)| marker.sent.as_ref() == Some(&node.sent) && marker.seqs == node.seqs)
    }

    /// The state of the chain; `None` before it was begun or adopted.
    pub fn chain(&mut self) -> Option<Chain> {
        let mut pipelines = Vec::new();
        for node in self.ours() {
            if node.sent.is_empty() {
                return None;
            }
            pipelines.push((node.sent.clone(), node.sending.clone()));
        }
        Some(Chain(pipelines))
    }

    /// Asks for the topology. Returns whether it is unchanged.
    pub async fn is_topology_current(&mut self, turn: usize) -> Result<bool, MirrorError> {
        if self.topology.masters.is_empty() {
            return Ok(true);
        }
        let index = turn % self.nodes.len();
        let host = host_of(&at_address(&self.seed, &self.topology.masters[index].host, 0));
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let reply = self.nodes[index].ask_one("asking for the cluster's topology", cmd).await?;
        let now = Topology::parse(&reply, &host).ok_or(MirrorError::Incomplete)?;
        Ok(now.id == self.topology.id)
    }
}

fn host_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    }
}

/// The same credentials and TLS settings for another address.
fn at_address(info: &ConnectionInfo, new_host: &str, new_port: u16) -> ConnectionInfo {
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host: new_host.to_owned(),
            port: new_port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(new_host.to_owned(), new_port),
    };
    info.clone().set_addr(addr)
}

async fn connect(info: &ConnectionInfo, options: &Options) -> Result<Node, MirrorError> {
    let addr = address(info.addr());
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout));
    let client = Client::open(info.clone()).map_err(|source| failed(&addr, options, &source))?;
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    // A server that accepts the connection and does not answer counts as unreachable.
    let limit = options.connect_timeout + options.response_timeout;
    let connection = tokio::time::timeout(limit, connecting).await;
    let connection = connection.unwrap_or_else(|_| Err(timed_out()));
    let connection = connection.map_err(|source| failed(&addr, options, &source))?;
    Ok(Node {
        addr,
        connection,
        timeout: options.response_timeout,
        marker: String::new(),
        seqs: None,
        sent: String::new(),
        sending: None,
    })
}

fn failed(addr: &str, options: &Options, source: &redis::RedisError) -> MirrorError {
    MirrorError::Connect { addr: addr.to_owned(), why: options.servers.redact(source) }
}

fn timed_out() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

async fn discover(node: &mut Node, info: &ConnectionInfo, must_be: bool) -> Result<Topology, MirrorError> {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    match node.ask_one("asking for the cluster's topology", cmd).await {
        Ok(reply) => Topology::parse(&reply, &host_of(info)).ok_or(MirrorError::Incomplete),
        // "This instance has cluster support disabled", or the server does not know the command.
        Err(MirrorError::Refused { code, .. }) if !must_be && matches!(&code[..], "ERR" | "NOPERM") => {
            Ok(Topology::single())
        }
        Err(error) => Err(error),
    }
}
