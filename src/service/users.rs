//! What is held about a user, and how it is erased.

use crate::model::{UserCap, UserId};
use crate::shard::{PageStart, ReaderError, Refusal, Units, UserPage};
use crate::store::{ChangedBy, Erasure, Room, StoreError};
use std::time::Duration;

/// Why an opt-out was not noted, or what is held not erased.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum OptOutError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that notes opt-outs ended")]
    Gone,
}

/// Answers for one user. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    units: Units,
}

impl Users {
    pub(super) fn new(units: Units) -> Self {
        Self { units }
    }

    /// Gives every key of a user that is capped now to `each`, by key, until that has no more room. Gives back the state, and
    /// whether there was room for all.
    pub async fn caps<S: Send + 'static>(
        &self,
        user: &UserId<'_>,
        state: S,
        each: impl Fn(&mut S, &UserCap) -> bool + Send + 'static,
    ) -> Result<(S, bool), ReaderError> {
        self.units.reader(user.as_str()).user_caps(user, state, each).await
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
        self.units.reader(user.as_str()).user(user, start, max, room, tell).await
    }

    /// Notes that a user opts out, and erases what is held; or (`false`) that the user does so no more. Returns whether that
    /// changed anything, and what was erased.
    pub async fn set_opt_out(
        &self,
        key: Option<String>,
        user: UserId<'static>,
        opted_out: bool,
    ) -> Result<(bool, Option<Erasure>), OptOutError> {
        let method = if opted_out { "PUT" } else { "DELETE" };
        let by = ChangedBy { key: key.clone(), call: format!("{method} /users/{{user}}/opt-out") };
        let opt_outs = self.units.reader(user.as_str()).opt_outs().clone();
        let now = self.units.clock().now();
        let named = user.clone();
        let set = tokio::task::spawn_blocking(move || opt_outs.set(named.as_str(), opted_out, now, by));
        let changed = set.await.map_err(|_| OptOutError::Gone)??;
        if !opted_out {
            return Ok((changed, None));
        }
        // No turn that begins from here on counts an event of the user.
        let by = ChangedBy { key, call: "PUT /users/{user}/opt-out".to_owned() };
        Ok((changed, Some(self.units.router().erase(&user, by).await?)))
    }

    /// Erases a user. `key`: who does it.
    pub async fn erase(&self, key: Option<String>, user: &UserId<'_>) -> Result<Erasure, Refusal> {
        self.erase_by(ChangedBy { key, call: "DELETE /users/{user}".to_owned() }, user).await
    }

    /// Erases a user for a call.
    pub(super) async fn erase_by(&self, by: ChangedBy, user: &UserId<'_>) -> Result<Erasure, Refusal> {
        let erasure = self.units.router().erase(user, by).await?;
        // An event without a time that comes after the answer is a new one, so it must get a later millisecond.
        if erasure.until == self.units.clock().now() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(erasure)
    }
}
