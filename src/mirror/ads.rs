//! The catalogue in Redis, for ad servers that read Redis and nothing else: `ad:{<ad>}` is a string, the ad's keys with a space between
//! two.
//!
//! What is sent is always what the catalogue has, so sending it twice or late is never wrong. A mark on each master says that it has
//! everything; where it is gone, or another, all is sent again, and what the catalogue does not have is removed.

use super::error::MirrorError;
use super::error_log::ErrorLog;
use super::link::{Link, Node};
use super::names::{Named, Names, member};
use super::options::Options;
use crate::random::random_id;
use crate::store::{AdRow, Store};
use redis::{Pipeline, Value};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What the names begin with.
const PREFIX: &str = "ad:";
/// Ads that are sent at a time.
const PAGE: usize = 1_000;
/// More changes than these wait for nobody: all is sent instead.
const CHANGED_MAX: usize = 100_000;
/// How often the marks are looked at while nothing changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server that is away is left alone.
const RETRY: Duration = Duration::from_millis(500);

/// Which ads changed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AdsNotice(Option<Arc<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    changed: Mutex<Changed>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    ads: HashSet<String>,
    all: bool,
}

impl AdsNotice {
    /// For a mirror of the catalogue. (The default tells nobody.)
    pub fn listened_to() -> Self {
        Self(Some(Arc::default()))
    }

    /// These ads changed.
    pub fn changed<'d>(&self, das: impl Iterator<Item = &'d str>) {
        let Some(shared) = &self.0 else { return };
        {
            let mut changed = shared.changed.lock().unwrap_or_else(PoisonError::into_inner);
            if !changed.all {
                changed.ads.extend(das.map(str::to_owned));
            }
            if changed.ads.len() > CHANGED_MAX {
                *changed = Changed { ads: HashSet::new(), all: true };
            }
        }
        shared.work.notify_one();
    }

    /// Any ad may have changed.
    pub fn all_changed(&self) {
        let Some(shared) = &self.0 else { return };
        *shared.changed.lock().unwrap_or_else(PoisonError::into_inner) = Changed { ads: HashSet::new(), all: true };
        shared.work.notify_one();
    }

    fn take(&self) -> Changed {
        let taken = self.0.as_ref().map(|shared| {
            std::mem::take(&mut *shared.changed.lock().unwrap_or_else(PoisonError::into_inner))
        });
        taken.unwrap_or_default()
    }

    async fn wait(&self) {
        match &self.0 {
            Some(shared) => shared.work.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// Keeps the catalogue in Redis.
pub struct AdsMirror {
    store: Arc<Store>,
    options: Options,
    notice: AdsNotice,
    names: Arc<Names>,
    /// The value of the marks.
    session: String,
}

/// The value of an ad in Redis.
fn value(row: &AdRow) -> String {
    let mut value = String::new();
    for key in &row.keys {
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str(&member(key).replace(' ', "%20"));
    }
    value
}

impl AdsMirror {
    /// A mirror that is idle until [`AdsMirror::run`].
    pub fn new(store: Arc<Store>, options: Options, notice: AdsNotice) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { store, options, notice, names: Arc::new(Names::new(PREFIX)), session: random_id() }
    }

    /// Runs until `stop`. Waits for a Redis that is away.
    pub async fn run(self, stop: CancellationToken) {
        let mut log = ErrorLog::default();
        let mut turn = 0;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.serve(turn, &mut log) => ended,
            };
            if let Err(error) = ended {
                log.write(&error);
            }
            turn += 1;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Sends until something fails.
    async fn serve(&self, turn: usize, log: &mut ErrorLog) -> Result<(), MirrorError> {
        let mut link = Link::connect(&self.options, &self.names, &self.store.info().id, &[], turn).await?;
        loop {
            if !self.is_complete(&mut link).await? {
                // What changes from here on is sent after this.
                self.notice.take();
                self.send_all(&mut link).await?;
            }
            log.forget();
            tokio::select! {
                () = self.notice.wait() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if !link.is_topology_current(turn).await? {
                return Ok(());
            }
            let Changed { ads, all } = self.notice.take();
            if all {
                self.notice.take();
                self.send_all(&mut link).await?;
                continue;
            }
            let ads: Vec<String> = ads.into_iter().collect();
            for some in ads.chunks(PAGE) {
                if let Err(error) = self.send_some(&mut link, some.to_vec()).await {
                    // Nobody tells of them again.
                    self.notice.all_changed();
                    return Err(error);
                }
            }
        }
    }

    /// Whether every master has everything, as far as its mark says.
    async fn is_complete(&self, link: &mut Link) -> Result<bool, MirrorError> {
        for node in link.ours() {
            let mut get = redis::cmd("GET");
            get.arg(&node.marker);
            let mark = node.ask_one("reading the mark of the catalogue", get).await?;
            if !matches!(mark, Value::BulkString(mark) if mark == self.session.as_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn send_all(&self, link: &mut Link) -> Result<(), MirrorError> {
        let mut after: Option<String> = None;
        loop {
            let from = after.take();
            let page = self.blocking(move |store| store.ads().page(None, from.as_deref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(da, _)| da.clone());
            self.send(link, page.into_iter().map(|(da, row)| (da, Some(row)))).await?;
            if is_last {
                break;
            }
        }
        for index in 0..link.nodes.len() {
            if !link.nodes[index].marker.is_empty() {
                self.remove_others(link, index).await?;
            }
        }
        for node in link.ours() {
            let mut set = redis::cmd("SET");
            set.arg(&node.marker).arg(&self.session);
            node.ask_one("setting the mark of the catalogue", set).await?;
        }
        Ok(())
    }

    /// Removes the names of a master that stand for no ad of the catalogue.
    async fn remove_others(&self, link: &mut Link, index: usize) -> Result<(), MirrorError> {
        const DOING: &str = "scanning the ads";
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.names.pattern()).arg("COUNT").arg(PAGE);
            let node: &mut Node = &mut link.nodes[index];
            let Value::Array(reply) = node.ask_one(DOING, scan).await? else { return Err(node.unexpected(DOING)) };
            let [Value::BulkString(next), Value::Array(names)] = &reply[..] else { return Err(node.unexpected(DOING)) };
            let mut das = Vec::new();
            for name in names {
                if let Value::BulkString(name) = name
                    && let Some(Named::User(da)) = self.names.parse(name)
                {
                    das.push(da);
                }
            }
            cursor = next.clone();
            let gone = self
                .blocking(move |store| {
                    let mut gone = Vec::new();
                    for da in das {
                        if store.ads().get(&da)?.is_none() {
                            gone.push((da, None));
                        }
                    }
                    Ok(gone)
                })
                .await?;
            self.send(link, gone.into_iter()).await?;
            if cursor == b"0" {
                return Ok(());
            }
        }
    }

    async fn send_some(&self, link: &mut Link, das: Vec<String>) -> Result<(), MirrorError> {
        let rows = self.blocking(move |store| {
            let mut rows = Vec::with_capacity(das.len());
            for da in das {
                let row = store.ads().get(&da)?;
                rows.push((da, row));
            }
            Ok(rows)
        });
        let rows = rows.await?;
        self.send(link, rows.into_iter()).await
    }

    async fn send(
        &self,
        link: &mut Link,
        ads: impl Iterator<Item = (String, Option<AdRow>)>,
    ) -> Result<(), MirrorError> {
        let mut commands: Vec<Pipeline> = link.nodes.iter().map(|_| Pipeline::new()).collect();
        for (da, row) in ads {
            let name = self.names.user(&da);
            let commands = &mut commands[link.topology.node_of(&name)];
            match row {
                Some(row) => commands.cmd("SET").arg(&name).arg(value(&row)),
                None => commands.cmd("DEL").arg(&name),
            };
        }
        for (node, commands) in link.nodes.iter_mut().zip(&commands) {
            if commands.len() > 0 {
                node.ask("sending the catalogue", commands).await?;
            }
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let store = self.store.clone();
        super::send::blocking(move || Ok(read(&store)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ad_is_its_keys_with_spaces_between() {
        let of = |keys: &[&str]| {
            value(&AdRow { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..AdRow::default() })
        };
        assert_eq!(of(&["campaign:42", "advertiser:7"]), "campaign:42 advertiser:7");
        assert_eq!((of(&[]), of(&["c:a b{%"])), (String::new(), "c:a%20b%7B%25".to_owned()));
        assert_eq!(Names::new(PREFIX).user("77"), "ad:{77}");
    }

    #[test]
    fn many_changes_become_one_of_all() {
        let notice = AdsNotice::listened_to();
        notice.changed(["1", "2"].into_iter());
        notice.changed(["2"].into_iter());
        let taken = notice.take();
        assert!(taken.ads.len() == 2 && !taken.all && notice.take().ads.is_empty());
        let many: Vec<String> = (0..=CHANGED_MAX).map(|n| n.to_string()).collect();
        notice.changed(many.iter().map(String::as_str));
        let taken = notice.take();
        assert!(taken.all && taken.ads.is_empty());
        AdsNotice::default().changed(["1"].into_iter());
    }
}
