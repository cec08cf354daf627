//! Counts held events of ads under the keys that the catalogue gave them later: one pass over all logs serves every ad that waits,
//! gives way to events, and goes on after a restart.

use crate::model::{SHARDS, ShardId};
use crate::shard::{BackfillPage, Refusal, Router, Units};
use crate::store::{AdRow, BackfillPass, BackfillRow, RowKey, Store, StoreError};
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

/// Rows of logs that are read at a time.
const PAGE: usize = 2_000;
/// How long what could not be done waits to be tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is looked for work that nobody told of.
const IDLE: Duration = Duration::from_secs(60);

/// Counts held events of ads. Cheap to clone.
#[derive(Clone)]
pub struct Backfills {
    units: Units,
    /// The first, which has the catalogue.
    store: Arc<Store>,
    router: Router,
    work: Arc<Notify>,
    /// Held over a change of the catalogue: whoever has it sees what is in force.
    pub(super) changing: Arc<Mutex<()>>,
}

/// Why a pass stopped.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that reads logs ended")]
    Gone,
}

/// The ads that a pass serves, with their keys.
type Served = Arc<HashMap<String, Vec<String>>>;

impl Backfills {
    pub(super) fn new(units: Units) -> Self {
        let (store, router) = (units.first().store.clone(), units.router().clone());
        Self { units, store, router, work: Arc::default(), changing: Arc::default() }
    }

    /// An ad waits.
    pub(super) fn wake(&self) {
        self.work.notify_one();
    }

    /// How far the backfill of an ad is: shards done, and all. Blocks on disk.
    pub(super) fn progress(&self, da: &str) -> Result<Option<(usize, usize)>, StoreError> {
        let Some(row) = self.store.ads().backfill(da)? else { return Ok(None) };
        let total = SHARDS;
        if row.is_done {
            return Ok(Some((total, total)));
        }
        let pass = self.store.ads().pass()?;
        let done = if row.revision <= pass.revision { pass.shards as usize } else { 0 };
        // All are done only once that is stored.
        Ok(Some((done.min(total.saturating_sub(1)), total)))
    }

    /// Runs until `drain`. What is left then goes on with the next run.
    pub async fn run(self, drain: CancellationToken) {
        loop {
            let idle = match self.pass(&drain).await {
                Ok(true) => continue,
                Ok(false) => IDLE,
                Err(error) => {
                    tracing::warn!(%error, "held events could not be counted under new keys; that is tried again");
                    RETRY
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.work.notified() => {}
                () = tokio::time::sleep(idle) => {}
            }
        }
    }

    /// Makes a pass over all logs, or goes on with one. Says whether there may be more to do.
    async fn pass(&self, drain: &CancellationToken) -> Result<bool, PassError> {
        let shards: Vec<ShardId> = ShardId::all().collect();
        let (waiting, mut pass) = {
            // Events of an ad that waits are counted under its keys by now.
            let _changing = self.changing.lock().await;
            self.blocking(|store| Ok((store.ads().backfills()?, store.ads().pass()?))).await?
        };
        let Some(latest) = waiting.iter().map(|(_, row)| row.revision).max() else { return Ok(false) };
        // One that is under way is finished first; what began since waits for the next.
        if pass.shards as usize >= shards.len() || !waiting.iter().any(|(_, row)| row.revision <= pass.revision) {
            pass = BackfillPass { revision: latest, shards: 0 };
        }
        while let Some(&shard) = shards.get(pass.shards as usize) {
            let served = self.served(pass).await?;
            if served.is_empty() {
                break;
            }
            if !self.count_shard(shard, &served, drain).await? {
                return Ok(false);
            }
            pass.shards += 1;
            let is_last = pass.shards as usize == shards.len();
            let _changing = self.changing.lock().await;
            self.blocking(move |store| {
                let done = if is_last { of_pass(store, pass)? } else { Vec::new() };
                store.ads().put_pass(pass, &done)
            })
            .await?;
        }
        Ok(true)
    }

    /// The ads that a pass serves, as the catalogue has them now.
    async fn served(&self, pass: BackfillPass) -> Result<Served, PassError> {
        self.blocking(move |store| {
            let mut served = HashMap::new();
            for (da, _) in of_pass(store, pass)? {
                if let Some(AdRow { keys, .. }) = store.ads().get(&da)? {
                    served.insert(da, keys);
                }
            }
            Ok(Arc::new(served))
        })
        .await
    }

    /// Counts what a shard holds. Says whether that was all of it.
    async fn count_shard(&self, shard: ShardId, served: &Served, drain: &CancellationToken) -> Result<bool, PassError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            if drain.is_cancelled() {
                return Ok(false);
            }
            let (served, from) = (served.clone(), after.clone());
            let held = self.store_of(shard);
            let (page, last) = self.blocking(move |_| read_page(&held, shard, &served, from.as_deref())).await?;
            if !page.is_empty() {
                match self.router.backfill(shard, page).await {
                    Ok(_) => {}
                    Err(Refusal::Stopping) => return Ok(false),
                    // The same page again: what is counted already is not counted again.
                    Err(_) => {
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(true),
            }
        }
    }

    /// The store that has a shard.
    fn store_of(&self, shard: ShardId) -> Arc<Store> {
        let units = self.units.all();
        units[shard.index() % units.len()].store.clone()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PassError> {
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| PassError::Gone)??)
    }
}

/// The backfills that a pass serves.
fn of_pass(store: &Store, pass: BackfillPass) -> Result<Vec<(String, BackfillRow)>, StoreError> {
    let mut waiting = store.ads().backfills()?;
    waiting.retain(|(_, row)| row.revision <= pass.revision);
    Ok(waiting)
}

/// The logs of served ads among the next rows of a shard; and the last row that was read, if there are more.
fn read_page(
    store: &Store,
    shard: ShardId,
    served: &HashMap<String, Vec<String>>,
    after: Option<&[u8]>,
) -> Result<(BackfillPage, Option<Vec<u8>>), StoreError> {
    let (mut page, mut key) = (BackfillPage::default(), String::new());
    let (last, is_last) = store.logs().scan(shard, after, PAGE, |row_key, _| {
        if RowKey::key_into(row_key, &mut key).is_some()
            && let Some(keys) = key.strip_prefix("da:").and_then(|da| served.get(da))
        {
            page.push(row_key, keys.iter().map(String::as_str));
        }
    })?;
    Ok((page, last.filter(|_| !is_last)))
}
