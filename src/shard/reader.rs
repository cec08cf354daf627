//! Reads, straight from the store. They never wait for a write.

use super::metrics::would_cap;
use super::opt_outs::OptOuts;
use crate::clock::Clock;
use crate::engine::{Applied, KeyLog, Policy, Question, bind, judge, unbound_count, why};
use crate::model::{Candidate, CapKey, Limit, Log, MAX_SHADOWS, RuleId, TsMs, UserId, Verdict, Why};
use crate::store::{ReadError, Room, RowKeys, Store, StoreError, Unbounded};
use arc_swap::ArcSwap;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Threads of the runtime on which reads may wait for the disk.
pub const BLOCKING_THREADS: usize = 32;
/// Reads that block, running or waiting for a thread. One more is refused at once.
const BLOCKING_READS: usize = 16 * BLOCKING_THREADS;
/// Up to this many keys are looked up on the HTTP thread; more go to a blocking thread.
const KEYS_AT_ONCE: usize = 2_000;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ReaderError {
    #[error(transparent)]
    Store(StoreError),
    #[error("the reading thread ended")]
    Gone,
    #[error("too many reads wait for the disk")]
    Busy,
    #[error("what is read changes faster than it can be read")]
    Overtaken,
    #[error("there is no room for what would be read")]
    NoRoom,
    #[error("there is not so much room for reads in all")]
    TooLarge,
}

impl ReaderError {
    /// The error of a read that wanted this memory.
    pub(super) fn in_room(error: ReadError, room: &impl Room) -> Self {
        match error {
            ReadError::NoRoom if !room.could_fit() => Self::TooLarge,
            error => error.into(),
        }
    }
}

impl From<StoreError> for ReaderError {
    fn from(error: StoreError) -> Self {
        if error == StoreError::Overtaken { Self::Overtaken } else { Self::Store(error) }
    }
}

impl From<ReadError> for ReaderError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::NoRoom => Self::NoRoom,
            ReadError::WouldBlock => Self::Busy,
        }
    }
}

/// What a read does if no place is free to wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    Refuse,
    /// Waits for one, since it must have an answer.
    Wait,
}

/// The verdict of one candidate of many.
#[derive(Debug)]
pub struct CandidateVerdict<'a> {
    /// The ad.
    pub da: &'a str,
    /// Whether an enforced rule caps it.
    pub capped: bool,
    /// When the last cap ends.
    pub capped_until: Option<TsMs>,
    /// The rule that binds.
    pub rule: Option<&'a RuleId>,
    /// The key that the rule counts.
    pub key: Option<&'a str>,
    /// Events in the window.
    pub count: u64,
    /// The limit of the rule.
    pub limit: Limit,
    /// Events left until the rule caps.
    pub remaining: Limit,
    /// The instant asked for is before what a full log keeps: `count` is a lower bound.
    pub partial: bool,
    /// The shadow rules that would have capped, the first 16 of them.
    pub would_cap: Vec<&'a RuleId>,
    /// How many more would have capped.
    pub shadow_omitted: usize,
    /// Why, where the call asks for it.
    pub why: Option<Box<Why>>,
}

/// Answers from what is written, durable or about to be. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pub(super) store: Arc<Store>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) clock: Clock,
    opt_outs: OptOuts,
    /// Places for reads that block, running or waiting for a thread.
    blocking: Arc<Semaphore>,
    /// Threads for them. The runtime's other threads are for other work.
    threads: Arc<Semaphore>,
}

/// The candidates of a call with their logs; each key of the user once.
struct View {
    keys: Vec<CapKey<'static>>,
    logs: Vec<Log>,
    /// The numbers of each candidate's keys, its own first.
    candidates: Vec<SmallVec<[usize; 4]>>,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, policy: Arc<ArcSwap<Policy>>, clock: Clock, opt_outs: OptOuts) -> Self {
        Self { store, policy, clock, opt_outs, blocking: places(BLOCKING_READS), threads: places(BLOCKING_THREADS) }
    }

    /// Runs a read on a thread that may wait for the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        no_place: NoPlace,
        read: impl FnOnce() -> Result<T, ReaderError> + Send + 'static,
    ) -> Result<T, ReaderError> {
        let places = self.blocking.clone();
        let place = match no_place {
            NoPlace::Refuse => places.try_acquire_owned().map_err(|_| ReaderError::Busy)?,
            NoPlace::Wait => places.acquire_owned().await.map_err(|_| ReaderError::Gone)?,
        };
        let thread = self.threads.clone().acquire_owned().await.map_err(|_| ReaderError::Gone)?;
        let answer = tokio::task::spawn_blocking(move || {
            // Held to the end, even if the caller is gone.
            let _held = (place, thread);
            read()
        });
        answer.await.map_err(|_| ReaderError::Gone)?
    }

    /// The clock that reads go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Judges one ad of a user. The logs take memory from `room`, which is returned.
    pub async fn ad<R: Room>(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
        question: Question,
        room: R,
    ) -> Result<(Verdict, R), ReaderError> {
        let (mut view, room) = self.view(user, std::slice::from_ref(candidate), room, NoPlace::Refuse).await?;
        let (policy, now) = self.refresh(&mut view);
        Ok((self.allowed(user, candidate, judge(&policy, &view.of(0), question, now, would_cap)), room))
    }

    /// Judges one ad of a user as [`Reader::ad`] does, and explains the verdict from the same logs and rules.
    pub async fn explained_ad<R: Room>(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
        question: Question,
        room: R,
    ) -> Result<(Verdict, Why, R), ReaderError> {
        let (mut view, mut room) = self.view(user, std::slice::from_ref(candidate), room, NoPlace::Refuse).await?;
        let (policy, now) = self.refresh(&mut view);
        let keys = view.of(0);
        let why = explained(&policy, &keys, question, now, &mut room)?;
        Ok((self.allowed(user, candidate, judge(&policy, &keys, question, now, would_cap)), why, room))
    }

    /// Judges the ad of an event that is counted. No load refuses it, since a counted event must be answered. The
    /// writes under way bound its few rows.
    pub async fn ad_of_counted(&self, user: &UserId<'_>, candidate: &Candidate<'_>) -> Result<Verdict, ReaderError> {
        let (mut view, _) = self.view(user, std::slice::from_ref(candidate), Unbounded, NoPlace::Wait).await?;
        let (policy, now) = self.refresh(&mut view);
        Ok(self.allowed(user, candidate, judge(&policy, &view.of(0), Question::default(), now, would_cap)))
    }

    /// The verdict, unless no ad may be shown to a user who opted out.
    fn allowed(&self, user: &UserId<'_>, candidate: &Candidate<'_>, verdict: Verdict) -> Verdict {
        if self.opt_outs.deny(user) { OptOuts::denied(candidate, verdict) } else { verdict }
    }

    /// Judges many candidates of a user in one consistent view, in order, and passes the verdicts to `tell`. The logs
    /// take memory from `room`.
    pub async fn check<T, R: Room>(
        &self,
        user: &UserId<'_>,
        candidates: &[Candidate<'_>],
        question: Question,
        room: R,
        tell: impl FnOnce(&[CandidateVerdict<'_>], R) -> T,
    ) -> Result<T, ReaderError> {
        let (mut view, mut room) = self.view(user, candidates, room, NoPlace::Refuse).await?;
        if !room.take(candidates.len() * size_of::<CandidateVerdict<'_>>()) {
            return Err(ReaderError::in_room(ReadError::NoRoom, &room));
        }
        let (policy, now) = self.refresh(&mut view);
        let mut verdicts = Vec::with_capacity(candidates.len());
        let is_denied = self.opt_outs.deny(user);
        for (number, candidate) in candidates.iter().enumerate() {
            let mut verdict = brief(&policy, &view, number, candidate, question, now);
            if question.explain {
                verdict.why = Some(Box::new(explained(&policy, &view.of(number), question, now, &mut room)?));
            }
            if is_denied {
                let (rule, until) = OptOuts::denial();
                (verdict.capped, verdict.capped_until, verdict.rule) = (true, Some(until), rule);
            }
            verdicts.push(verdict);
        }
        Ok(tell(&verdicts, room))
    }

    /// Reads the logs of candidates: from memory on this thread or, if a row is on disk, on a blocking thread.
    async fn view<R: Room>(
        &self,
        user: &UserId<'_>,
        candidates: &[Candidate<'_>],
        mut room: R,
        no_place: NoPlace,
    ) -> Result<(View, R), ReaderError> {
        let view = View::of_candidates(user, candidates, &mut room);
        let mut view = view.ok_or_else(|| ReaderError::in_room(ReadError::NoRoom, &room))?;
        // Even if it has logs from before it meant nobody.
        if self.policy.load().ignores(user.as_str()) || self.opt_outs.has(user.as_str()) {
            view.logs.resize_with(view.keys.len(), Log::default);
            return Ok((view, room));
        }
        let mut rows = RowKeys::default();
        view.keys.iter().for_each(|key| rows.push(user.as_str(), key.as_str()));
        let logs = match rows.len() {
            0 => Ok(Vec::new()),
            1..=KEYS_AT_ONCE => self.store.logs().at_once_in_memory(&rows, &mut room),
            _ => Err(ReadError::WouldBlock),
        };
        let logs = match logs {
            Err(ReadError::WouldBlock) => {
                let store = self.store.clone();
                let read = move || match store.logs().at_once(&rows, &mut room) {
                    Ok(logs) => Ok((logs, room)),
                    Err(error) => Err(ReaderError::in_room(error, &room)),
                };
                let (logs, back) = self.blocking(no_place, read).await?;
                room = back;
                logs
            }
            logs => logs.map_err(|error| ReaderError::in_room(error, &room))?,
        };
        view.logs = logs.into_iter().map(|row| row.map(|row| row.log).unwrap_or_default()).collect();
        Ok((view, room))
    }

    /// Turns stored logs into what reads see now, by the rules in force.
    fn refresh(&self, view: &mut View) -> (Arc<Policy>, TsMs) {
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        for (key, log) in view.keys.iter().zip(&mut view.logs) {
            policy.refresh(key.as_str(), log, now);
        }
        (policy, now)
    }
}

impl View {
    /// Takes memory for itself and for the row keys; `None` if there is not enough.
    fn of_candidates(user: &UserId<'_>, candidates: &[Candidate<'_>], room: &mut impl Room) -> Option<Self> {
        let mut keys: Vec<CapKey<'static>> = Vec::with_capacity(candidates.len());
        // Campaigns recur among candidates: each key is read once and judged as often as it is named.
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut numbered = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let mut own = SmallVec::with_capacity(1 + candidate.keys.len());
            let da = CapKey::of_da(&candidate.da);
            let mut bytes = key_bytes(user, &da) + size_of_val(&own) + own.capacity() * size_of::<usize>();
            own.push(keys.len());
            keys.push(da);
            for key in &candidate.keys {
                if let Some(&number) = known.get(key.as_str()) {
                    own.push(number);
                    continue;
                }
                bytes += key_bytes(user, key);
                known.insert(key.as_str().to_owned(), keys.len());
                own.push(keys.len());
                keys.push(key.clone().into_owned());
            }
            numbered.push(own);
            if !room.take(bytes) {
                return None;
            }
        }
        Some(Self { keys, logs: Vec::new(), candidates: numbered })
    }

    /// The keys and logs of a candidate.
    fn of(&self, candidate: usize) -> SmallVec<[KeyLog<'_>; 4]> {
        let numbers = self.candidates[candidate].iter();
        numbers.map(|&number| KeyLog { key: self.keys[number].as_str(), log: &self.logs[number] }).collect()
    }
}

/// Bytes that a key takes: as a key, in `known`, and as a row key, each with its overhead.
fn key_bytes(user: &UserId<'_>, key: &CapKey<'_>) -> usize {
    size_of::<CapKey<'_>>() + size_of::<(String, usize)>() + 3 * key.as_str().len() + user.as_str().len() + 8
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

fn brief<'a>(
    policy: &'a Policy,
    view: &'a View,
    number: usize,
    candidate: &'a Candidate<'_>,
    question: Question,
    now: TsMs,
) -> CandidateVerdict<'a> {
    let keys = view.of(number);
    let mut would: Vec<&RuleId> = Vec::new();
    let mut shadow_omitted = 0;
    let bound = bind(policy, &keys, question, now, |_, rule, applied| {
        let Applied::Shadow(shadow) = applied else { return };
        if shadow.would_cap() {
            would_cap(&rule.id);
            if would.len() < MAX_SHADOWS {
                would.push(&rule.id);
            } else {
                shadow_omitted += 1;
            }
        }
    });
    let tally = bound.map_or_else(|| unbound_count(policy, &keys, question, now), |bound| bound.tally);
    CandidateVerdict {
        da: candidate.da.as_str(),
        capped: tally.capped_until.is_some(),
        capped_until: tally.capped_until,
        rule: bound.map(|bound| &bound.rule.id),
        key: bound.map(|bound| keys[bound.key].key),
        count: tally.count,
        limit: bound.and_then(|bound| bound.rule.limit),
        remaining: bound.and_then(|bound| bound.remaining()),
        partial: tally.partial,
        would_cap: would,
        shadow_omitted,
        why: None,
    }
}

/// Explains a verdict. What it lists takes memory from `room`.
fn explained(
    policy: &Policy,
    keys: &[KeyLog<'_>],
    question: Question,
    now: TsMs,
    room: &mut impl Room,
) -> Result<Why, ReaderError> {
    let why = why(policy, keys, question, now);
    let bytes = size_of::<Why>() + size_of_val(&*why.events) + size_of_val(&*why.displaced);
    if room.take(bytes) { Ok(why) } else { Err(ReaderError::in_room(ReadError::NoRoom, room)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DaId, RuleSet};
    use crate::store::StoreOptions;
    use std::time::Duration;

    /// A room without memory.
    struct Nothing;

    impl Room for Nothing {
        fn take(&mut self, _bytes: usize) -> bool {
            false
        }

        fn could_fit(&self) -> bool {
            true
        }

        fn mark(&self) -> usize {
            0
        }

        fn back_to(&mut self, _mark: usize) {}
    }

    fn reader(dir: &std::path::Path) -> Reader {
        let store = Store::open(&StoreOptions { data_dir: dir.to_owned(), ..StoreOptions::default() }).unwrap();
        let policy = Policy::new(RuleSet::new([]), 256, 1_000, 1_000, 0);
        let store = Arc::new(store);
        let opt_outs = OptOuts::load(store.clone(), Default::default()).unwrap();
        Reader::new(store, Arc::new(ArcSwap::from_pointee(policy)), Clock::system(), opt_outs)
    }

    #[tokio::test]
    async fn a_counted_event_waits_for_a_place_where_a_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let held = reader.blocking.clone().acquire_many_owned(BLOCKING_READS as u32).await.unwrap();
        let refused = reader.blocking(NoPlace::Refuse, || Ok(())).await;
        assert!(matches!(refused, Err(ReaderError::Busy)));
        let waits = reader.blocking(NoPlace::Wait, || Ok(7));
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_millis(20), waits.as_mut()).await.is_err());
        drop(held);
        assert_eq!(waits.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_counted_event_is_judged_where_reads_have_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let user = UserId::new("u").unwrap();
        let candidate = Candidate { da: DaId::new("1").unwrap(), keys: Default::default(), catalogue: true };
        let refused = reader.ad(&user, &candidate, Question::default(), Nothing).await;
        assert!(matches!(refused, Err(ReaderError::NoRoom)));
        assert_eq!(reader.ad_of_counted(&user, &candidate).await.unwrap().count, 0);
    }

    #[tokio::test]
    async fn the_keys_of_a_check_take_room_before_anything_waits() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let user = UserId::new("u").unwrap();
        let candidate =
            |n: usize| Candidate { da: DaId::new(n.to_string()).unwrap(), keys: Default::default(), catalogue: true };
        let candidates: Vec<_> = (0..KEYS_AT_ONCE + 1).map(candidate).collect();
        let _all = reader.blocking.clone().acquire_many_owned(BLOCKING_READS as u32).await.unwrap();
        let refused = reader.check(&user, &candidates, Question::default(), Nothing, |_, _| ()).await;
        assert!(matches!(refused, Err(ReaderError::NoRoom)), "{refused:?}");
    }
}
