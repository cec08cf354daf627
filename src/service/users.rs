//! What is held about a user, and how it is erased.

use super::audit::{Audit, AuditEntry, AuditError};
use crate::model::{UserCap, UserId};
use crate::shard::{PageStart, Reader, ReaderError, Refusal, Router, UserPage};
use crate::store::{Erasure, Room, Store};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Answers for one user.
pub struct Users {
    router: Router,
    reader: Reader,
    store: Arc<Store>,
    audit: Audit,
}

/// Why a user was not erased, or nobody knows who did it.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// Nothing was erased, or what is left goes by itself.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user was erased, but the audit does not say so.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Users {
    pub(super) fn new(router: Router, reader: Reader, store: Arc<Store>, audit: Audit) -> Self {
        Self { router, reader, store, audit }
    }

    /// Gives every key of a user that is capped now to `each`, by key, until that has no more room. Gives back the state, and
    /// whether there was room for all.
    pub async fn caps<S: Send + 'static>(
        &self,
        user: &UserId<'_>,
        state: S,
        each: impl Fn(&mut S, &UserCap) -> bool + Send + 'static,
    ) -> Result<(S, bool), ReaderError> {
        self.reader.user_caps(user, state, each).await
    }

    /// Gives a page of what is held about a user to `tell`, on a thread that may take its time.
    pub async fn page<T: Send + 'static, R: Room>(
        &self,
        user: &UserId<'_>,
        start: Option<PageStart>,
        max: usize,
        room: R,
        tell: impl FnOnce(UserPage, R) -> T + Send + 'static,
    ) -> Result<T, ReaderError> {
        self.reader.user(user, start, max, room, tell).await
    }

    /// Erases a user. `key`: who does it.
    pub async fn erase(&self, key: Option<String>, user: &UserId<'_>) -> Result<Erasure, EraseError> {
        let erasure = self.router.erase(user).await?;
        // The audit outlives the user's bytes, so it knows them as their tombstone does.
        let user_hash = self.store.erased().mark(user.as_str()).to_string();
        let Erasure { until, logs, events, reservations, calls, caps, unreadable: _ } = erasure;
        let held = json!({"logs": logs, "events": events, "reservations": reservations, "calls": calls, "caps": caps});
        let after = json!({"user_hash": user_hash, "erased_until": until.0});
        self.audit.record(AuditEntry { key, call: "DELETE /users/{user}".to_owned(), before: held, after }).await?;
        // An event without a time that comes after the answer is a new one, so it must get a later millisecond.
        if erasure.until == self.reader.clock().now() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(erasure)
    }
}
