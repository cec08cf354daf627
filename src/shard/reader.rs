//! Reads: straight from the store, behind no write.

use crate::clock::Clock;
use crate::engine::{KeyLog, Policy, Question, judge, user_cap};
use crate::model::{CapKey, DaId, UserCap, UserId, Verdict};
use crate::store::{LogRow, ReadError, RowKey, Store, StoreError};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What is asked: may this user see this ad?
#[derive(Debug, Clone)]
pub struct AdQuery<'a> {
    pub user: UserId<'a>,
    pub da: DaId<'a>,
    /// Keys besides the ad's own, each once.
    pub keys: Vec<CapKey<'a>>,
    pub question: Question,
}

impl AdQuery<'_> {
    fn into_owned(self) -> AdQuery<'static> {
        AdQuery {
            user: self.user.into_owned(),
            da: self.da.into_owned(),
            keys: self.keys.into_iter().map(CapKey::into_owned).collect(),
            question: self.question,
        }
    }
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the reading thread ended")]
    Gone,
}

/// Answers from what is written, durable or about to be. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Store>,
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, policy: Arc<ArcSwap<Policy>>, clock: Clock) -> Self {
        Self { store, policy, clock }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Judges an ad: from memory on this thread, or where a row is on disk on one that may block.
    pub async fn ad(&self, query: AdQuery<'_>) -> Result<Verdict, ReaderError> {
        let read = |rows: &[&[u8]]| self.store.logs_in_memory(rows.iter().copied());
        match self.judge(&query, read) {
            Ok(verdict) => Ok(verdict),
            Err(ReadError::Store(error)) => Err(error.into()),
            Err(ReadError::WouldBlock) => {
                let (reader, query) = (self.clone(), query.into_owned());
                let read = move || {
                    let read = |rows: &[&[u8]]| Ok(reader.store.logs(rows.iter().copied())?);
                    reader.judge(&query, read)
                };
                match tokio::task::spawn_blocking(read).await.map_err(|_| ReaderError::Gone)? {
                    Ok(verdict) => Ok(verdict),
                    Err(ReadError::Store(error)) => Err(error.into()),
                    Err(ReadError::WouldBlock) => Err(ReaderError::Gone),
                }
            }
        }
    }

    fn judge(
        &self,
        query: &AdQuery<'_>,
        read: impl FnOnce(&[&[u8]]) -> Result<Vec<Option<LogRow>>, ReadError>,
    ) -> Result<Verdict, ReadError> {
        let da = CapKey::of_da(&query.da);
        let keys: Vec<&CapKey<'_>> = std::iter::once(&da).chain(&query.keys).collect();
        let rows: Vec<RowKey> = keys.iter().map(|key| RowKey::new(&query.user, key)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(RowKey::as_bytes).collect();
        let logs = read(&rows)?;
        let policy = self.policy.load();
        let now = self.clock.now();
        let live = |(key, row): (&&'_ CapKey<'_>, Option<LogRow>)| {
            let log = row.map(|row| row.log).filter(|log| !policy.is_void(key.as_str(), log, now));
            log.unwrap_or_default()
        };
        let logs: Vec<_> = keys.iter().zip(logs).map(live).collect();
        let keys: Vec<_> = keys.iter().zip(logs).map(|(key, log)| KeyLog { key: key.as_str(), log }).collect();
        Ok(judge(&policy, &keys, query.question, now))
    }

    /// Every key of a user that is capped now, by key, on one consistent view.
    pub async fn user_caps(&self, user: UserId<'_>) -> Result<Vec<UserCap>, ReaderError> {
        let (reader, user) = (self.clone(), user.into_owned());
        let read = move || {
            let policy = reader.policy.load_full();
            let now = reader.clock.now();
            let mut caps = Vec::new();
            reader.store.logs_of_user(user.as_str(), |key, log| {
                if !policy.is_void(key, &log, now) {
                    caps.extend(user_cap(&policy, key, &log, now));
                }
            })?;
            caps.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(caps)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| ReaderError::Gone)?
    }
}
