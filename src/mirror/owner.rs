//! Ownership of a prefix: one run of one store may send, over one set of connections. Its mark is in
//! `freqcap:<prefix>:owner`.
//!
//! A mark is `<store id>:<generation>-<nonce>`. A new run takes the prefix from any other run of its store, with a
//! higher generation than the one it finds, so a restart waits for nobody. A run that finds a newer mark in its place
//! knows that another process has a copy of its data directory, and stops mirroring. Earlier versions wrote the store
//! id alone.
//!
//! Commands written to a connection that then failed may still be in Redis's buffers, and be carried out after those of
//! a newer connection. So before anything is sent, Redis is asked to close every older connection of this store. They
//! are found by their name, also those that a killed process left behind. A script that names the previous owner takes
//! the prefix, so that late commands cannot take it back.

use super::error::MirrorError;
use super::link::{Link, Node};
use redis::{Pipeline, Value};
use std::time::Duration;

/// How often to check whether connections are closed, and the pause between two checks.
const LOOKS: usize = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Whether older connections are known to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    Closed,
    /// Redis refused.
    Denied,
}

/// Who owned the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// This run, the run of this data directory before it, or nobody.
    Ours,
    /// A run of this store that this data directory does not know.
    OfCopy,
    /// Another store; its connections were closed, or not.
    Taken(Fence),
}

/// One run of a store, as its mark has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    store: String,
    nonce: String,
    generation: u64,
    /// The highest generation of any run of this store that was seen.
    highest: u64,
    /// The mark of the previous run of this data directory.
    before: Option<String>,
    /// This run has owned the prefix before.
    had: bool,
}

/// Whose mark was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nobody,
    This,
    /// This store, without a run, as earlier versions wrote it.
    Unnamed,
    Run(u64),
    OtherStore,
}

impl Run {
    /// `before` is the mark of the previous run, as the store has it.
    pub fn new(store: &str, nonce: &str, before: Option<String>) -> Self {
        let mut run = Self {
            store: store.to_owned(),
            nonce: nonce.to_owned(),
            generation: 0,
            highest: 0,
            before: None,
            had: false,
        };
        if let Some(Found::Run(generation)) = before.as_deref().map(|before| run.read(before)) {
            run.highest = generation;
        }
        run.before = before;
        run
    }

    /// Whose run it is.
    pub fn store(&self) -> &str {
        &self.store
    }

    pub fn mark(&self) -> String {
        format!("{}:{}-{}", self.store, self.generation, self.nonce)
    }

    /// The name of our connections.
    fn connection(&self) -> String {
        format!("freqcap-{}-{}", self.store, self.nonce)
    }

    fn read(&self, mark: &str) -> Found {
        if mark.is_empty() {
            return Found::Nobody;
        }
        let (store, run) = mark.split_once(':').unwrap_or((mark, ""));
        if store != self.store {
            return Found::OtherStore;
        }
        match run.split_once('-') {
            _ if run.is_empty() => Found::Unnamed,
            Some((generation, nonce)) if nonce == self.nonce && generation == self.generation.to_string() => {
                Found::This
            }
            // A mark of a later version that cannot be parsed is still the mark of a run.
            Some((generation, _)) => Found::Run(generation.parse().unwrap_or(0)),
            None => Found::Run(0),
        }
    }

    /// Whether this run may take the prefix from this mark; `None` if not. The claim says whether the content of Redis
    /// can be trusted.
    fn may_take(&mut self, mark: &str) -> Option<Claim> {
        let before = self.before.as_deref() == Some(mark);
        match self.read(mark) {
            // The mark was removed by a run that had replaced this one.
            Found::Nobody if self.had && self.highest > self.generation => Some(Claim::OfCopy),
            Found::Nobody | Found::This | Found::Unnamed => Some(Claim::Ours),
            Found::Run(generation) => {
                let newest = self.highest <= self.generation;
                self.highest = self.highest.max(generation);
                match (self.had, before) {
                    (false, true) => Some(Claim::Ours),
                    (false, false) => Some(Claim::OfCopy),
                    // Redis went back to an older state, or an older run has not noticed yet that it was replaced.
                    (true, _) if newest && generation < self.generation => Some(Claim::OfCopy),
                    (true, _) => None,
                }
            }
            Found::OtherStore => None,
        }
    }

    /// Takes a higher generation than all that were seen.
    fn sign(&mut self) {
        if !self.had {
            self.generation = self.highest + 1;
        }
        self.highest = self.highest.max(self.generation);
    }
}

/// Whether another run of this store is alive, with a connection that stays open. Redis notices after a while that a process has
/// ended. Asked before the claim: a live run gives its connection up as soon as it finds that the prefix was taken.
pub(super) async fn has_live_copy(link: &mut Link, run: &Run) -> Result<bool, MirrorError> {
    for node in &mut link.nodes {
        let mut looks = 0;
        loop {
            let others = others(node, &run.store, Some(&run.connection())).await?.unwrap_or_default();
            if others.iter().all(|other| other.is_of_run) {
                break;
            }
            looks += 1;
            if looks > LOOKS {
                return Ok(true);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
    Ok(false)
}

/// Names our connections and closes all older ones of this store. Whether they are closed for certain.
pub(super) async fn fence(link: &mut Link, run: &Run) -> Result<Fence, MirrorError> {
    let mut fence = Fence::Closed;
    for node in &mut link.nodes {
        let mut naming = Pipeline::with_capacity(1);
        naming.cmd("CLIENT").arg("SETNAME").arg(run.connection());
        let replies = node.exchange("naming the connection", &naming).await?;
        if let [Value::ServerError(error)] = &replies[..] {
            if matches!(error.code(), "LOADING" | "NOAUTH" | "MASTERDOWN") {
                return Err(MirrorError::refused("naming the connection", &node.addr, error));
            }
            // Older connections had no name either, so they cannot be found.
            fence = Fence::Denied;
            continue;
        }
        if close_others(node, &run.store, Some(&run.connection())).await? == Fence::Denied {
            fence = Fence::Denied;
        }
    }
    Ok(fence)
}

/// Another connection of the same store.
struct Other {
    id: String,
    is_of_run: bool,
}

/// The other connections of a store; `None` if the server does not list them. `name` is the name of this run's
/// connections.
async fn others(node: &mut Node, store: &str, name: Option<&str>) -> Result<Option<Vec<Other>>, MirrorError> {
    let mut list = Pipeline::with_capacity(2);
    list.cmd("CLIENT").arg("ID");
    list.cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal");
    let replies = node.exchange(CLOSING, &list).await?;
    let clients = match &replies[1] {
        Value::BulkString(clients) => String::from_utf8_lossy(clients),
        Value::VerbatimString { text, .. } => text.into(),
        _ => return Ok(None),
    };
    let Value::Int(own) = &replies[0] else { return Ok(None) };
    let (own, plain) = (own.to_string(), format!("freqcap-{store}"));
    let (mut found, mut lists_us) = (Vec::new(), false);
    for client in clients.lines() {
        let (Some(id), Some(of)) = (field(client, "id"), field(client, "name")) else { continue };
        lists_us |= id == own;
        let is_ours = of.strip_prefix(&plain).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if is_ours && id != own {
            found.push(Other { id: id.to_owned(), is_of_run: name == Some(of) });
        }
    }
    // A list without the asking connection is not complete.
    Ok(lists_us.then_some(found))
}

/// A field of a line of CLIENT LIST.
fn field<'c>(client: &'c str, name: &str) -> Option<&'c str> {
    client.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

const CLOSING: &str = "closing older connections";

/// Closes every other connection of a store. `name` is the name of this run's connections, if it is our store.
async fn close_others(node: &mut Node, store: &str, name: Option<&str>) -> Result<Fence, MirrorError> {
    let Some(open) = others(node, store, name).await? else { return Ok(Fence::Denied) };
    if open.is_empty() {
        return Ok(Fence::Closed);
    }
    let mut kill = Pipeline::with_capacity(open.len());
    for other in &open {
        kill.cmd("CLIENT").arg("KILL").arg("ID").arg(&other.id);
    }
    if !node.exchange(CLOSING, &kill).await?.iter().all(is_closed) {
        return Ok(Fence::Denied);
    }
    for _ in 0..LOOKS {
        match others(node, store, name).await? {
            Some(still) if still.iter().all(|still| open.iter().all(|closed| closed.id != still.id)) => {
                return Ok(Fence::Closed);
            }
            Some(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
            None => break,
        }
    }
    Ok(Fence::Denied)
}

/// Whether the reply to CLIENT KILL means that the connection is closed. Any other error, whatever its text, means that it
/// may still be open.
fn is_closed(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => {
            let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
            text.to_ascii_lowercase().contains("no such client")
        }
        _ => true,
    }
}

/// KEYS[1] the owner's name; ARGV[1] the expected mark ("" if none, or a value of another type), ARGV[2] ours.
const TAKE: &str = "\
local o = redis.pcall('GET', KEYS[1])
if not o or type(o) == 'table' then o = '' end
if o ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1";

/// Takes the prefix if this run may: nobody owns it, or a run of our store that has been replaced, or, with `takeover`,
/// another store.
pub(super) async fn claim(link: &mut Link, run: &mut Run, takeover: bool) -> Result<Claim, MirrorError> {
    const DOING: &str = "claiming the prefix";
    let name = link.names.owner().to_owned();
    let prefix = link.names.prefix().to_owned();
    let node = &mut link.nodes[link.owner];
    let mut ask = Pipeline::with_capacity(1);
    ask.cmd("GET").arg(&name);
    let replies = node.exchange(DOING, &ask).await?;
    let found = match &replies[0] {
        Value::BulkString(owner) => String::from_utf8_lossy(owner).into_owned(),
        Value::Nil => String::new(),
        // Our marks are strings, so a value of another type is nobody's.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => String::new(),
        Value::ServerError(error) => return Err(MirrorError::refused(DOING, &node.addr, error)),
        _ => return Err(node.unexpected(DOING)),
    };
    let is_others = run.read(&found) == Found::OtherStore;
    let claim = match run.may_take(&found) {
        Some(claim) => claim,
        None if is_others && takeover => Claim::Taken(Fence::Closed),
        None if is_others => return Err(MirrorError::Foreign { prefix, owner: found }),
        None => return Err(MirrorError::Copied { prefix, store: run.store.clone() }),
    };
    if run.read(&found) == Found::This {
        return Ok(Claim::Ours);
    }
    run.sign();
    let mut take = redis::cmd("EVAL");
    take.arg(TAKE).arg(1).arg(&name).arg(&found).arg(run.mark());
    if node.ask_one(DOING, take).await? != Value::Int(1) {
        // Another process was faster: the mark is read again.
        return Err(MirrorError::Broken);
    }
    run.had = true;
    let prefix = link.names.prefix();
    match claim {
        Claim::Ours => return Ok(Claim::Ours),
        Claim::OfCopy => {
            tracing::warn!(
                prefix,
                "took the Redis prefix from another process with a copy of this data directory, or from a later state \
                 of it; should that process run, it stops mirroring"
            );
            return Ok(Claim::OfCopy);
        }
        Claim::Taken(_) => {}
    }
    // From now on, the other store finds that it has lost the prefix when it connects.
    let other = found.split_once(':').map_or(&found[..], |(store, _)| store).to_owned();
    let mut fence = Fence::Closed;
    for node in &mut link.nodes {
        if close_others(node, &other, None).await? == Fence::Denied {
            fence = Fence::Denied;
        }
    }
    tracing::warn!(prefix = link.names.prefix(), from = found, "took the Redis prefix from another store");
    Ok(Claim::Taken(fence))
}

/// Checks that the prefix is still ours.
pub(super) async fn ask(link: &mut Link, run: &Run) -> Result<(), MirrorError> {
    let mut get = Pipeline::with_capacity(1);
    get.cmd("GET").arg(link.names.owner());
    let node = &mut link.nodes[link.owner];
    let replies = node.exchange("asking for the owner", &get).await?;
    match &replies[0] {
        Value::ServerError(error) if error.code() != "WRONGTYPE" => {
            Err(MirrorError::refused("asking for the owner", &node.addr, error))
        }
        reply => check(reply, run, link.names.prefix()),
    }
}

/// Takes the name by which a process with one unit would own the prefix, for all units of this one: nobody has it, or, with
/// `takeover`, another store.
pub(super) async fn claim_for_all(link: &mut Link, family: &str, takeover: bool) -> Result<(), MirrorError> {
    const DOING: &str = "claiming the prefix for all units";
    let (name, prefix) = (link.names.sole_owner().to_owned(), link.names.prefix().to_owned());
    let found = sole_owner(link, DOING).await?;
    if found == family {
        return Ok(());
    }
    if !found.is_empty() && !takeover {
        return Err(MirrorError::Foreign { prefix, owner: found });
    }
    let mut take = redis::cmd("EVAL");
    take.arg(TAKE).arg(1).arg(&name).arg(&found).arg(family);
    let of_name = link.topology.node_of(&name);
    if link.nodes[of_name].ask_one(DOING, take).await? != Value::Int(1) {
        // Another unit, or another process, was faster.
        return Err(MirrorError::Broken);
    }
    if !found.is_empty() {
        let other = found.split_once(':').map_or(&found[..], |(store, _)| store);
        for node in &mut link.nodes {
            close_others(node, other, None).await?;
        }
        tracing::warn!(prefix, from = found, "took the Redis prefix from another store");
    }
    Ok(())
}

/// Checks that the prefix is still that of the units of this process.
pub(super) async fn ask_for_all(link: &mut Link, family: &str) -> Result<(), MirrorError> {
    match sole_owner(link, "asking for the owner").await? {
        owner if owner == family => Ok(()),
        // It must be claimed again.
        owner if owner.is_empty() => Err(MirrorError::Broken),
        owner => Err(MirrorError::Foreign { prefix: link.names.prefix().to_owned(), owner }),
    }
}

/// Who has the name by which a process with one unit would own the prefix; empty where nobody has.
async fn sole_owner(link: &mut Link, doing: &'static str) -> Result<String, MirrorError> {
    let name = link.names.sole_owner().to_owned();
    let of_name = link.topology.node_of(&name);
    let node = &mut link.nodes[of_name];
    let mut ask = Pipeline::with_capacity(1);
    ask.cmd("GET").arg(&name);
    let replies = node.exchange(doing, &ask).await?;
    match &replies[0] {
        Value::BulkString(owner) => Ok(String::from_utf8_lossy(owner).into_owned()),
        Value::Nil => Ok(String::new()),
        // Marks are strings, so a value of another type is nobody's.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(String::new()),
        Value::ServerError(error) => Err(MirrorError::refused(doing, &node.addr, error)),
        _ => Err(node.unexpected(doing)),
    }
}

/// Judges the reply to GET of the owner's name.
pub(super) fn check(reply: &Value, run: &Run, prefix: &str) -> Result<(), MirrorError> {
    // Missing, or of another type: it must be claimed again.
    let Value::BulkString(mark) = reply else { return Err(MirrorError::Broken) };
    let mark = String::from_utf8_lossy(mark);
    match run.read(&mark) {
        Found::This => Ok(()),
        Found::OtherStore => Err(MirrorError::Foreign { prefix: prefix.to_owned(), owner: mark.into_owned() }),
        // Claiming it decides who owns it.
        Found::Nobody | Found::Unnamed | Found::Run(_) => Err(MirrorError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(nonce: &str, before: Option<&str>) -> Run {
        Run::new("s", nonce, before.map(str::to_owned))
    }

    /// As [`claim`], without Redis.
    fn take(run: &mut Run, owner: &mut String) -> Option<Claim> {
        let claim = run.may_take(owner)?;
        if run.read(owner) != Found::This {
            run.sign();
            run.had = true;
            *owner = run.mark();
        }
        Some(claim)
    }

    #[test]
    fn a_restart_goes_on_where_the_run_before_it_was() {
        let mut owner = String::new();
        for (nonce, mark) in [("a", "s:1-a"), ("b", "s:2-b"), ("c", "s:3-c")] {
            let before = Some(owner.clone()).filter(|owner| !owner.is_empty());
            assert_eq!(take(&mut run(nonce, before.as_deref()), &mut owner), Some(Claim::Ours));
            assert_eq!(owner, mark);
        }
        // The mark of an earlier version.
        let mut owner = "s".to_owned();
        assert_eq!(take(&mut run("a", None), &mut owner), Some(Claim::Ours));
        assert_eq!(owner, "s:1-a");
    }

    #[test]
    fn of_two_runs_of_one_store_the_one_that_was_there_first_stops_for_good() {
        let mut owner = "s:5-p".to_owned();
        let (mut a, mut b) = (run("a", Some("s:5-p")), run("b", Some("s:5-p")));
        assert_eq!(take(&mut a, &mut owner), Some(Claim::Ours));
        assert_eq!(take(&mut b, &mut owner), Some(Claim::OfCopy));
        assert_eq!(owner, "s:7-b");
        assert_eq!(take(&mut a, &mut owner), None);
        assert_eq!(take(&mut b, &mut owner), Some(Claim::Ours));
        // Redis went back to an older state: only the newest run takes the prefix again.
        owner = "s:5-p".to_owned();
        assert_eq!(take(&mut a, &mut owner), None);
        assert_eq!(take(&mut b, &mut owner), Some(Claim::OfCopy));
        assert_eq!(owner, "s:7-b");
        // After a FLUSHALL any run may take it first, until the newest one asks.
        owner.clear();
        assert_eq!(take(&mut a, &mut owner), Some(Claim::OfCopy));
        assert_eq!(take(&mut b, &mut owner), Some(Claim::OfCopy));
        assert_eq!(take(&mut a, &mut owner), None);
    }

    #[test]
    fn another_store_is_another_store_whatever_follows_its_id() {
        for owner in ["other", "other:3-x", "s2", "s2:1-a"] {
            assert_eq!(run("a", None).may_take(owner), None);
            assert_eq!(run("a", None).read(owner), Found::OtherStore);
        }
    }
}
