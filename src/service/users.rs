//! What is held about a user, and how it is erased.

use crate::model::{UserCap, UserId};
use crate::shard::{PageStart, ReaderError, Refusal, Units, UserPage};
use crate::store::{ChangedBy, Erasure, Room};
use std::time::Duration;

/// Answers for one user.
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

    /// Erases a user. `key`: who does it.
    pub async fn erase(&self, key: Option<String>, user: &UserId<'_>) -> Result<Erasure, Refusal> {
        let by = ChangedBy { key, call: "DELETE /users/{user}".to_owned() };
        let erasure = self.units.router().erase(user, by).await?;
        // An event without a time that comes after the answer is a new one, so it must get a later millisecond.
        if erasure.until == self.units.clock().now() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(erasure)
    }
}
