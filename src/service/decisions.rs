//! What an ad server asks before it shows an ad: a verdict, verdicts on many candidates, a reservation.

use crate::api::{ReleaseBody, ReserveBody};
use crate::engine::Question;
use crate::model::{Candidate, EventId, UserId, Verdict, Why};
use crate::random::random_id;
use crate::shard::{AdsSeen, CandidateVerdict, ReaderError, Refusal, Reserve, ReserveOutcome, Units};
use crate::store::Room;

/// Answers what ad servers ask.
pub struct Decisions {
    units: Units,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ReserveError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the id is that of an earlier call of this user with another body; nothing was reserved")]
    IdReused,
    #[error("{}; nothing was reserved", super::TOO_MANY_KINDS_DETAIL)]
    TooManyKinds,
    #[error("the ids and keys of the candidates are so long that the answer could exceed 1 MiB; nothing was reserved")]
    TooLong,
    #[error("too many reservations of a key are under way for this user; nothing was reserved")]
    NoRoom,
    #[error("an id could not be made up")]
    NoId,
}

impl Decisions {
    pub(super) fn new(units: Units) -> Self {
        Self { units }
    }

    /// Adds the keys that the catalogue has of the candidates' ads. Says how many were left out, since a candidate has 16 at
    /// most.
    pub fn join_catalogue(&self, candidates: &mut [Candidate<'_>]) -> usize {
        let catalogue = self.units.router().catalogue();
        let mut seen = AdsSeen::default();
        for candidate in candidates.iter_mut().filter(|candidate| candidate.catalogue) {
            seen += catalogue.join_candidate(candidate);
        }
        catalogue.count(seen);
        seen.keys_cut
    }

    /// Judges one ad of a user. `room` is asked for the memory that this takes.
    pub async fn verdict<R: Room>(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
        question: Question,
        room: R,
    ) -> Result<(Verdict, R), ReaderError> {
        self.units.reader(user.as_str()).ad(user, candidate, question, room).await
    }

    /// Judges one ad of a user, and explains the verdict from the same view.
    pub async fn explained_verdict<R: Room>(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
        question: Question,
        room: R,
    ) -> Result<(Verdict, Why, R), ReaderError> {
        self.units.reader(user.as_str()).explained_ad(user, candidate, question, room).await
    }

    /// Judges the ad of an event that is counted: whatever the load, for it must be answered.
    pub async fn verdict_of_counted(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
    ) -> Result<Verdict, ReaderError> {
        self.units.reader(user.as_str()).ad_of_counted(user, candidate).await
    }

    /// Judges many candidates of a user on one consistent view, and gives the verdicts to `tell`.
    pub async fn check<T, R: Room>(
        &self,
        user: &UserId<'_>,
        candidates: &[Candidate<'_>],
        question: Question,
        room: R,
        tell: impl FnOnce(&[CandidateVerdict<'_>], R) -> T,
    ) -> Result<T, ReaderError> {
        self.units.reader(user.as_str()).check(user, candidates, question, room, tell).await
    }

    /// Reserves the first candidates that are not capped. Gives the answer as it is stored: a repeated call gets the same.
    pub async fn reserve(&self, body: ReserveBody<'_>) -> Result<Vec<u8>, ReserveError> {
        let (id, body_hash) = match body.id {
            Some(id) => (id, Some(body.body_hash)),
            // Nobody can repeat a call under an id that is only now made up.
            None => (EventId::new(random_id()).map_err(|_| ReserveError::NoId)?, None),
        };
        let call = Reserve {
            user: body.user,
            candidates: body.candidates,
            want: body.want,
            ttl_ms: body.ttl_ms,
            id,
            body_hash,
            kind: body.kind,
        };
        match self.units.router().reserve(call).await? {
            ReserveOutcome::Answer(answer) => Ok(answer),
            ReserveOutcome::IdReused => Err(ReserveError::IdReused),
            ReserveOutcome::TooManyKinds => Err(ReserveError::TooManyKinds),
            ReserveOutcome::TooLong => Err(ReserveError::TooLong),
            ReserveOutcome::NoRoom => Err(ReserveError::NoRoom),
        }
    }

    /// Gives back what is reserved under an id. Says of how many candidates it was.
    pub async fn release(&self, body: ReleaseBody<'_>) -> Result<usize, Refusal> {
        self.units.router().release(body.user, body.id, body.da).await
    }
}
