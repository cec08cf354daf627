//! Who mirrors to a prefix: the store whose id `freqcap:<prefix>:owner` holds, and of that store one connection only.
//!
//! What was written to a connection that then failed may still lie in Redis's buffers, to be carried out after what a
//! newer connection sends. So before anything is sent, Redis is asked to close every older connection of this store;
//! they are known by their name, also those that a killed process left behind.

use super::error::MirrorError;
use super::link::{Link, Node};
use redis::{Pipeline, Value};

/// Whether older connections are certainly closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    Closed,
    /// Redis did not let us.
    Denied,
}

/// Whose the prefix is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    Ours,
    /// It was another store's until now, and that store's connections were closed, or not.
    Taken(Fence),
}

fn name_of(store_id: &str) -> String {
    format!("freqcap-{store_id}")
}

/// Names our connections and closes every older one of this store.
pub(super) async fn fence(link: &mut Link, store_id: &str) -> Result<Fence, MirrorError> {
    let mut fence = Fence::Closed;
    for node in &mut link.nodes {
        let mut naming = Pipeline::with_capacity(1);
        naming.cmd("CLIENT").arg("SETNAME").arg(name_of(store_id));
        let replies = node.exchange("naming the connection", &naming).await?;
        if let [Value::ServerError(error)] = &replies[..]
            && matches!(error.code(), "LOADING" | "NOAUTH" | "MASTERDOWN")
        {
            return Err(MirrorError::refused("naming the connection", &node.addr, error));
        }
        if close_others(node, store_id).await? == Fence::Denied {
            fence = Fence::Denied;
        }
    }
    Ok(fence)
}

/// Closes every connection of a store but this one.
async fn close_others(node: &mut Node, store_id: &str) -> Result<Fence, MirrorError> {
    const DOING: &str = "closing older connections";
    let mut list = Pipeline::with_capacity(2);
    list.cmd("CLIENT").arg("ID");
    list.cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal");
    let replies = node.exchange(DOING, &list).await?;
    let clients = match &replies[1] {
        Value::BulkString(clients) => String::from_utf8_lossy(clients),
        Value::VerbatimString { text, .. } => text.into(),
        _ => return Ok(Fence::Denied),
    };
    let Value::Int(own) = &replies[0] else { return Ok(Fence::Denied) };
    let name = name_of(store_id);
    let mut kill = Pipeline::new();
    for client in clients.lines() {
        let field = |wanted: &str| client.split(' ').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('='));
        if field("name") == Some(&name)
            && let Some(id) = field("id")
            && id != own.to_string()
        {
            kill.cmd("CLIENT").arg("KILL").arg("ID").arg(id);
        }
    }
    if kill.is_empty() {
        return Ok(Fence::Closed);
    }
    let replies = node.exchange(DOING, &kill).await?;
    let denied = replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "NOPERM"));
    Ok(if denied { Fence::Denied } else { Fence::Closed })
}

/// Makes the prefix ours if it is nobody's, or if it is another's and `takeover` is set.
pub(super) async fn claim(link: &mut Link, store_id: &str, takeover: bool) -> Result<Claim, MirrorError> {
    const DOING: &str = "claiming the prefix";
    let name = link.names.owner().to_owned();
    let node = &mut link.nodes[link.owner];
    let mut ask = Pipeline::with_capacity(2);
    ask.cmd("SET").arg(&name).arg(store_id).arg("NX");
    ask.cmd("GET").arg(&name);
    let replies = node.exchange(DOING, &ask).await?;
    let found = match &replies[1] {
        Value::BulkString(owner) => String::from_utf8_lossy(owner).into_owned(),
        // No id can be of another type: it is nobody's.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => String::new(),
        Value::ServerError(error) => return Err(MirrorError::refused(DOING, &node.addr, error)),
        // It did not let us write, or somebody has just removed it.
        _ => match &replies[0] {
            Value::ServerError(error) => return Err(MirrorError::refused(DOING, &node.addr, error)),
            _ => return Err(MirrorError::Broken),
        },
    };
    if found == store_id {
        return Ok(Claim::Ours);
    }
    if !found.is_empty() && !takeover {
        let prefix = link.names.prefix().to_owned();
        return Err(MirrorError::Foreign { prefix, owner: found });
    }
    let mut set = redis::cmd("SET");
    set.arg(&name).arg(store_id);
    node.ask_one(DOING, set).await?;
    if found.is_empty() {
        return Ok(Claim::Ours);
    }
    // From here on whoever connects for the other store finds that the prefix is no longer its own.
    let mut fence = Fence::Closed;
    for node in &mut link.nodes {
        if close_others(node, &found).await? == Fence::Denied {
            fence = Fence::Denied;
        }
    }
    tracing::warn!(prefix = link.names.prefix(), from = found, "took the Redis prefix from another store");
    Ok(Claim::Taken(fence))
}

/// Asks whether the prefix is still ours.
pub(super) async fn ask(link: &mut Link, store_id: &str) -> Result<(), MirrorError> {
    let mut get = Pipeline::with_capacity(1);
    get.cmd("GET").arg(link.names.owner());
    let node = &mut link.nodes[link.owner];
    let replies = node.exchange("asking for the owner", &get).await?;
    match &replies[0] {
        Value::ServerError(error) if error.code() != "WRONGTYPE" => {
            Err(MirrorError::refused("asking for the owner", &node.addr, error))
        }
        reply => check(reply, store_id, link.names.prefix()),
    }
}

/// Judges the reply to GET of the owner.
pub(super) fn check(reply: &Value, store_id: &str, prefix: &str) -> Result<(), MirrorError> {
    match reply {
        Value::BulkString(owner) if owner == store_id.as_bytes() => Ok(()),
        Value::BulkString(owner) => {
            Err(MirrorError::Foreign { prefix: prefix.to_owned(), owner: String::from_utf8_lossy(owner).into_owned() })
        }
        // Gone, or of a wrong type: it is claimed anew.
        _ => Err(MirrorError::Broken),
    }
}
