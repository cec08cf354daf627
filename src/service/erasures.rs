//! Erasing many users: a call notes them and is answered at once; a component erases them, and goes on after a restart.

use super::Users;
use crate::clock::Clock;
use crate::model::UserId;
use crate::random::random_id;
use crate::shard::{Refusal, Router};
use crate::store::{ChangedBy, Erasure, ErasureReceipt, RECEIPT_MS, Store, StoreError};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Users who are erased at once: they share writes of the disk.
const AT_ONCE: usize = 32;
/// The most users who may wait to be erased.
const WAITING_MAX: u64 = 1_000_000;
/// How long what could not be done waits to be tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Takes calls that erase many users, and tells how far they are. Cheap to clone.
#[derive(Clone)]
pub struct Erasures {
    store: Arc<Store>,
    router: Router,
    users: Users,
    clock: Clock,
    /// Users who wait.
    waiting: Arc<AtomicU64>,
    work: Arc<Notify>,
}

/// Why a call was not taken, or its receipt not read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ErasuresError {
    #[error("there is no erasure {0:?}; a receipt is kept for 35 days")]
    Unknown(String),
    #[error("{WAITING_MAX} users wait to be erased already")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that notes erasures ended")]
    Gone,
}

impl Erasures {
    pub(super) fn new(store: Arc<Store>, router: Router, users: Users, clock: Clock) -> Self {
        Self { store, router, users, clock, waiting: Arc::default(), work: Arc::default() }
    }

    /// Whether calls are taken now.
    pub fn accepts(&self) -> Result<(), Refusal> {
        self.router.health().refusal().map_or(Ok(()), Err)
    }

    /// Notes users who are to be erased. Gives the id of the receipt, once that is durable.
    pub async fn create(&self, users: Vec<String>) -> Result<String, ErasuresError> {
        let count = users.len() as u64;
        if self.waiting.fetch_add(count, Ordering::Relaxed) + count > WAITING_MAX {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return Err(ErasuresError::TooMany);
        }
        let (id, at) = (random_id(), self.clock.now());
        let named = id.clone();
        let noted = self.blocking(move |store| Ok(store.erasures().create(&named, &users, at)?)).await;
        if noted.is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
        }
        noted?;
        self.work.notify_one();
        self.blocking(|store| Ok(store.wait_for_bucket()?)).await?;
        Ok(id)
    }

    /// What became of a call.
    pub async fn get(&self, id: String) -> Result<ErasureReceipt, ErasuresError> {
        self.blocking(move |store| store.erasures().get(&id)?.ok_or(ErasuresError::Unknown(id))).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ErasuresError> + Send + 'static,
    ) -> Result<T, ErasuresError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| ErasuresError::Gone)?
    }

    /// Erases who waits, until `drain`. What is left then goes on with the next run.
    pub async fn run(self, drain: CancellationToken) {
        let known = self.blocking(|store| Ok(store.erasures().all()?)).await.unwrap_or_default();
        let left = known.iter().map(|(_, receipt)| receipt.total - receipt.done.min(receipt.total)).sum();
        self.waiting.fetch_add(left, Ordering::Relaxed);
        loop {
            let idle = match self.erase_all(&drain).await {
                Ok(()) => Duration::from_secs(3_600),
                Err(error) => {
                    tracing::warn!(%error, "users who wait to be erased could not be; they are tried again");
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

    async fn erase_all(&self, drain: &CancellationToken) -> Result<(), ErasuresError> {
        let now = self.clock.now();
        let known = self
            .blocking(move |store| {
                store.erasures().forget_before(now.saturating_sub(RECEIPT_MS))?;
                Ok(store.erasures().all()?)
            })
            .await?;
        for (id, mut receipt) in known.into_iter().filter(|(_, receipt)| receipt.finished_at.is_none()) {
            while !drain.is_cancelled() && !self.erase_some(&id, &mut receipt).await? {}
        }
        Ok(())
    }

    /// Erases some users of a call. Says whether that was all.
    async fn erase_some(&self, id: &str, receipt: &mut ErasureReceipt) -> Result<bool, ErasuresError> {
        let of = id.to_owned();
        let some = self.blocking(move |store| Ok(store.erasures().waiting(&of, AT_ONCE)?)).await?;
        let is_last = some.len() < AT_ONCE;
        let mut under_way = Vec::with_capacity(some.len());
        for (number, user) in some {
            let users = self.users.clone();
            under_way.push(async move {
                let by = ChangedBy { key: None, call: "POST /erasures".to_owned() };
                let done = match UserId::new(user.clone()) {
                    Ok(id) => users.erase_by(by, &id).await,
                    // It was one when it was taken.
                    Err(_) => Ok(Erasure::default()),
                };
                (number, user, done)
            });
        }
        let erased = join_all(under_way).await;
        let (mut numbers, mut user, mut refused) = (Vec::new(), String::new(), false);
        for (number, of, done) in erased {
            let Ok(erasure) = done else {
                refused = true;
                continue;
            };
            receipt.done += 1;
            receipt.logs += erasure.logs;
            receipt.events += erasure.events;
            receipt.caps += erasure.caps;
            numbers.push(number);
            user = of;
        }
        let is_done = is_last && !refused;
        let now = self.clock.now();
        receipt.finished_at = is_done.then_some(now);
        if !numbers.is_empty() || is_done {
            let (id, receipt) = (id.to_owned(), *receipt);
            let count = numbers.len() as u64;
            self.blocking(move |store| Ok(store.note_erased(&id, &numbers, &receipt, &user, now)?)).await?;
            self.waiting.fetch_sub(count.min(self.waiting.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        if refused {
            tokio::time::sleep(RETRY).await;
        }
        Ok(is_done)
    }
}
