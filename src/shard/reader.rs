//! Reads: straight from the store, behind no write.

use super::metrics::would_cap;
use crate::clock::Clock;
use crate::engine::{
    Applied, KeyLog, Policy, Question, bind, event_leaves, held_leaves, judge, unbound_count, user_cap,
};
use crate::model::{Candidate, CapKey, Kind, Limit, Log, MAX_SHADOWS, RuleId, TsMs, UserCap, UserId, Verdict, is_zero};
use crate::store::{LogRow, ReadError, ReservationRow, RowKeys, Store, StoreError};
use arc_swap::ArcSwap;
use hashbrown::HashMap;
use serde::Serialize;
use smallvec::SmallVec;
use std::sync::Arc;

/// From so many events on, a page of what is held about a user ends with the key it is at.
const PAGE_ENTRIES: usize = 10_000;
/// So many keys are looked up on the thread that serves others, too; more go to one of their own.
const KEYS_AT_ONCE: usize = 2_000;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the reading thread ended")]
    Gone,
}

/// What is said of one candidate of many.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CandidateVerdict<'a> {
    #[schema(example = "77")]
    pub da: &'a str,
    pub capped: bool,
    #[schema(value_type = Option<u64>)]
    pub capped_until: Option<TsMs>,
    #[schema(value_type = Option<String>, example = "default")]
    pub rule: Option<&'a RuleId>,
    #[schema(example = "da:77")]
    pub key: Option<&'a str>,
    #[schema(example = 2)]
    pub count: u64,
    #[schema(value_type = Option<u64>, example = 5)]
    pub limit: Limit,
    #[schema(value_type = Option<u64>, example = 3)]
    pub remaining: Limit,
    /// The instant asked for lies before what a full log keeps: `count` is a lower bound. Only where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The shadow rules that would have capped, the first 16 of them. Only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub would_cap: Vec<&'a RuleId>,
    /// How many more would have capped. Only where there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub shadow_omitted: usize,
}

/// A page of what is held about a user.
#[derive(Debug, Default)]
pub struct UserPage {
    pub logs: Vec<UserLog>,
    /// After the last log.
    pub calls: Vec<UserCall>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<PageStart>,
}

/// Where a page of what is held about a user begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// After the log of this key.
    Log(String),
    /// After the call with this id; after all logs where it is empty.
    Call(String),
}

/// A call of `/reserve` whose answer is kept.
#[derive(Debug)]
pub struct UserCall {
    pub id: String,
    pub kind: Kind,
    /// The ads that it reserved.
    pub das: Vec<String>,
    pub kept_until: TsMs,
}

/// What is held of a user under one key.
#[derive(Debug)]
pub struct UserLog {
    pub key: String,
    pub kinds: Vec<UserKind>,
}

/// The events of one kind.
#[derive(Debug)]
pub struct UserKind {
    pub kind: Kind,
    /// Events counted since the log was made, kept or not.
    pub lifetime: u64,
    pub events: Vec<UserEvent>,
}

/// An event, or a reservation.
#[derive(Debug)]
pub struct UserEvent {
    pub ts: TsMs,
    /// Of the ad and the event's id, where it had one.
    pub hash: Option<u64>,
    /// Of a reservation: when it lapses.
    pub expires_at: Option<TsMs>,
    pub leaves: Vec<crate::engine::Leave>,
}

/// Answers from what is written, durable or about to be. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Store>,
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
}

/// The candidates of a call with all their logs, each key of the user once.
struct View {
    keys: Vec<CapKey<'static>>,
    logs: Vec<Log>,
    /// The numbers of each candidate's keys, its own first.
    candidates: Vec<SmallVec<[usize; 4]>>,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, policy: Arc<ArcSwap<Policy>>, clock: Clock) -> Self {
        Self { store, policy, clock }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Judges one ad of a user, with what every rule says of it.
    pub async fn ad(
        &self,
        user: &UserId<'_>,
        candidate: &Candidate<'_>,
        question: Question,
    ) -> Result<Verdict, ReaderError> {
        let mut view = self.view(user, std::slice::from_ref(candidate)).await?;
        let (policy, now) = self.refresh(&mut view);
        Ok(judge(&policy, &view.of(0), question, now, would_cap))
    }

    /// Judges many candidates of a user on one consistent view, in their order, and gives the verdicts to `tell`.
    pub async fn check<T>(
        &self,
        user: &UserId<'_>,
        candidates: &[Candidate<'_>],
        question: Question,
        tell: impl FnOnce(&[CandidateVerdict<'_>]) -> T,
    ) -> Result<T, ReaderError> {
        let mut view = self.view(user, candidates).await?;
        let (policy, now) = self.refresh(&mut view);
        let verdict = |(number, candidate)| brief(&policy, &view, number, candidate, question, now);
        let verdicts: Vec<_> = candidates.iter().enumerate().map(verdict).collect();
        Ok(tell(&verdicts))
    }

    /// Reads the logs of candidates: from memory on this thread, or where a row is on disk on one that may block.
    async fn view(&self, user: &UserId<'_>, candidates: &[Candidate<'_>]) -> Result<View, ReaderError> {
        let mut view = View::of_candidates(candidates);
        // Even if it has logs, from before it was known as nobody.
        if self.policy.load().ignores(user.as_str()) {
            view.logs.resize_with(view.keys.len(), Log::default);
            return Ok(view);
        }
        let mut rows = RowKeys::default();
        view.keys.iter().for_each(|key| rows.push(user.as_str(), key.as_str()));
        let logs = match rows.len() {
            0 => Ok(Vec::new()),
            1..=KEYS_AT_ONCE => self.store.logs_at_once_in_memory(&rows),
            _ => Err(ReadError::WouldBlock),
        };
        let logs = match logs {
            Ok(logs) => logs,
            Err(ReadError::Store(error)) => return Err(error.into()),
            Err(ReadError::WouldBlock) => {
                let store = self.store.clone();
                let read = move || store.logs_at_once(&rows);
                tokio::task::spawn_blocking(read).await.map_err(|_| ReaderError::Gone)??
            }
        };
        view.logs = logs.into_iter().map(|row| row.map(|row| row.log).unwrap_or_default()).collect();
        Ok(view)
    }

    /// Makes of the logs as they are stored what reads see now, by the rules in force.
    fn refresh(&self, view: &mut View) -> (Arc<Policy>, TsMs) {
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        for (key, log) in view.keys.iter().zip(&mut view.logs) {
            policy.refresh(key.as_str(), log, now);
        }
        (policy, now)
    }

    /// Every key of a user that is capped now, by key, on one consistent view.
    pub async fn user_caps(&self, user: &UserId<'_>) -> Result<Vec<UserCap>, ReaderError> {
        let (reader, user) = (self.clone(), user.clone().into_owned());
        let read = move || {
            let policy = reader.policy.load_full();
            let now = reader.clock.now();
            let mut caps = Vec::new();
            if policy.ignores(user.as_str()) {
                return Ok(caps);
            }
            reader.store.logs_of_user(user.as_str(), |key, mut log| {
                policy.refresh(key, &mut log, now);
                caps.extend(user_cap(&policy, key, &log, now));
            })?;
            caps.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(caps)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| ReaderError::Gone)?
    }

    /// What is held about a user: at most `max` logs and calls; fewer where the events are many. `tell` gets it on a thread
    /// that may take its time.
    pub async fn user<T: Send + 'static>(
        &self,
        user: &UserId<'_>,
        start: Option<PageStart>,
        max: usize,
        tell: impl FnOnce(UserPage) -> T + Send + 'static,
    ) -> Result<T, ReaderError> {
        let (reader, user) = (self.clone(), user.clone().into_owned());
        let read = move || Ok(tell(reader.user_page(user.as_str(), start, max)?));
        tokio::task::spawn_blocking(read).await.map_err(|_| ReaderError::Gone)?
    }

    fn user_page(&self, user: &str, start: Option<PageStart>, max: usize) -> Result<UserPage, ReaderError> {
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        let mut page = UserPage::default();
        let mut left = max;
        let (after_log, after_call) = match start {
            Some(PageStart::Call(id)) => (None, Some(id)),
            Some(PageStart::Log(key)) => (Some(key), None),
            None => (None, None),
        };
        if after_call.is_none() {
            let rows = self.store.logs_of_user_after(user, after_log.as_deref(), max, PAGE_ENTRIES)?;
            left -= rows.logs.len();
            page.logs = rows.logs.into_iter().filter_map(|(key, row)| user_log(&policy, key, row, now)).collect();
            page.next = rows.next.map(PageStart::Log);
        }
        if page.next.is_none() {
            let rows = self.store.calls_of_user_after(user, after_call.as_deref().unwrap_or_default(), left, now)?;
            let call = |(id, row): (String, ReservationRow)| UserCall {
                id,
                kind: row.kind,
                das: row.das,
                kept_until: row.kept_until,
            };
            page.calls = rows.calls.into_iter().map(call).collect();
            page.next = rows.next.map(PageStart::Call);
        }
        Ok(page)
    }
}

impl View {
    fn of_candidates(candidates: &[Candidate<'_>]) -> Self {
        let mut keys: Vec<CapKey<'static>> = Vec::with_capacity(candidates.len());
        // Campaigns recur from candidate to candidate; what is read once is judged as often as it is named.
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut number = |key: &CapKey<'_>, keys: &mut Vec<CapKey<'static>>| {
            if let Some(&number) = known.get(key.as_str()) {
                return number;
            }
            known.insert(key.as_str().to_owned(), keys.len());
            keys.push(key.clone().into_owned());
            keys.len() - 1
        };
        let mut numbered = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let mut own = SmallVec::with_capacity(1 + candidate.keys.len());
            own.push(keys.len());
            keys.push(CapKey::of_da(&candidate.da));
            own.extend(candidate.keys.iter().map(|key| number(key, &mut keys)));
            numbered.push(own);
        }
        Self { keys, logs: Vec::new(), candidates: numbered }
    }

    /// The keys and logs of a candidate.
    fn of(&self, candidate: usize) -> SmallVec<[KeyLog<'_>; 4]> {
        let key_log = |&number: &usize| KeyLog { key: self.keys[number].as_str(), log: &self.logs[number] };
        self.candidates[candidate].iter().map(key_log).collect()
    }
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
    }
}

/// What is held under a key, as reads see it: nothing of a void log.
fn user_log(policy: &Policy, key: String, row: LogRow, now: TsMs) -> Option<UserLog> {
    let LogRow { mut log, .. } = row;
    policy.refresh(&key, &mut log, now);
    let kind = |section: &crate::model::Section| {
        let events = section.kept(policy.history_limit()).iter().map(|entry| UserEvent {
            ts: entry.ts,
            hash: (entry.hash != 0).then_some(entry.hash),
            expires_at: None,
            leaves: event_leaves(policy, &key, section.kind, &log, entry.ts, now),
        });
        let held = section.held.iter().map(|held| UserEvent {
            ts: held.ts,
            hash: Some(held.hash),
            expires_at: Some(held.expires_at),
            leaves: held_leaves(policy, &key, section.kind, &log, held, now),
        });
        UserKind { kind: section.kind, lifetime: section.lifetime(), events: events.chain(held).collect() }
    };
    let kinds: Vec<_> = log.sections.iter().map(kind).collect();
    (!kinds.is_empty()).then_some(UserLog { key, kinds })
}
