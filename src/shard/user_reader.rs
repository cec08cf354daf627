//! Reads all data of a user, by pages or key by key, so that memory stays bounded.

use super::reader::{NoPlace, Reader, ReaderError};
use crate::engine::{Policy, RuleExit, event_exits, reservation_exits, user_cap};
use crate::model::{Kind, Log, Section, TsMs, UserCap, UserId};
use crate::store::{LogRow, ReadError, ReservationRow, Room};
use std::sync::Arc;

/// A page of a user's logs ends with the key at which it has this many events.
const PAGE_ENTRIES: usize = 10_000;

/// A page of a user's data.
pub struct UserPage {
    rows: Vec<(String, LogRow)>,
    policy: Arc<Policy>,
    now: TsMs,
    /// After the last log.
    pub calls: Vec<UserCall>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<PageStart>,
}

/// Where a page of a user's data begins.
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
    /// The id of the call.
    pub id: String,
    /// The kind of the confirming events.
    pub kind: Kind,
    /// The ads that it reserved.
    pub das: Vec<String>,
    /// Until when a repetition gets the same answer.
    pub kept_until: TsMs,
}

/// The log of a user under one key, as reads see it.
pub struct UserLog {
    /// The key.
    pub key: String,
    log: Log,
    policy: Arc<Policy>,
    now: TsMs,
}

/// An event, or a reservation.
#[derive(Debug)]
pub struct UserEvent {
    /// When it happened, or was reserved.
    pub ts: TsMs,
    /// Hash of the ad and the event's id, if it had one.
    pub hash: Option<u64>,
    /// When a reservation lapses; `None` for an event.
    pub expires_at: Option<TsMs>,
    /// When it leaves the window of each rule that counts it.
    pub leaves: Vec<RuleExit>,
}

impl UserPage {
    /// The logs of the page, each made on demand.
    pub fn logs(&mut self) -> impl Iterator<Item = UserLog> + use<> {
        let (policy, now) = (self.policy.clone(), self.now);
        std::mem::take(&mut self.rows).into_iter().filter_map(move |(key, LogRow { mut log, .. })| {
            policy.refresh(&key, &mut log, now);
            (!log.is_empty()).then(|| UserLog { key, log, policy: policy.clone(), now })
        })
    }
}

impl UserLog {
    /// The events of each kind.
    pub fn sections(&self) -> &[Section] {
        &self.log.sections
    }

    /// The events of a kind that are kept, then the reservations, each made on demand: with many rules, each has many
    /// exits.
    pub fn events<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = UserEvent> + 'a {
        let Self { key, log, policy, now } = self;
        let events = section.kept(policy.history_limit()).iter().map(|entry| UserEvent {
            ts: entry.ts,
            hash: (entry.hash != 0).then_some(entry.hash),
            expires_at: None,
            leaves: event_exits(policy, key, section.kind, log, entry.ts, *now),
        });
        let held = section.reservations.iter().map(|held| UserEvent {
            ts: held.ts,
            hash: Some(held.hash),
            expires_at: Some(held.expires_at),
            leaves: reservation_exits(policy, key, section.kind, log, held, *now),
        });
        events.chain(held)
    }
}

impl Reader {
    /// Passes every capped key of a user to `each`, in the order of keys, in one consistent view, on a blocking thread.
    /// `each` returns whether it has memory for it. Returns `state`, and whether there was memory for all.
    pub async fn user_caps<S: Send + 'static>(
        &self,
        user: &UserId<'_>,
        mut state: S,
        each: impl Fn(&mut S, &UserCap) -> bool + Send + 'static,
    ) -> Result<(S, bool), ReaderError> {
        let (reader, user) = (self.clone(), user.clone().into_owned());
        self.blocking(NoPlace::Refuse, move || {
            let (policy, now) = (reader.policy.load_full(), reader.clock.now());
            if policy.ignores(user.as_str()) {
                return Ok((state, true));
            }
            let mut has_room = true;
            reader.store.logs().of_user(user.as_str(), |key, mut log| {
                policy.refresh(key, &mut log, now);
                has_room = user_cap(&policy, key, &log, now).is_none_or(|cap| each(&mut state, &cap));
                has_room
            })?;
            Ok((state, has_room))
        })
        .await
    }

    /// A page of a user's data: at most `max` logs and calls, fewer if the events are many. `tell` gets it on a
    /// blocking thread, with the memory that is left.
    pub async fn user<T: Send + 'static, R: Room>(
        &self,
        user: &UserId<'_>,
        start: Option<PageStart>,
        max: usize,
        mut room: R,
        tell: impl FnOnce(UserPage, R) -> T + Send + 'static,
    ) -> Result<T, ReaderError> {
        let (reader, user) = (self.clone(), user.clone().into_owned());
        self.blocking(NoPlace::Refuse, move || {
            let page = reader.user_page(user.as_str(), start, max, &mut room);
            let page = page.map_err(|error| ReaderError::in_room(error, &room))?;
            Ok(tell(page, room))
        })
        .await
    }

    fn user_page(
        &self,
        user: &str,
        start: Option<PageStart>,
        max: usize,
        room: &mut impl Room,
    ) -> Result<UserPage, ReadError> {
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        let mut page = UserPage { rows: Vec::new(), policy, now, calls: Vec::new(), next: None };
        let mut left = max;
        let (after_log, after_call) = match start {
            Some(PageStart::Call(id)) => (None, Some(id)),
            Some(PageStart::Log(key)) => (Some(key), None),
            None => (None, None),
        };
        if after_call.is_none() {
            let rows = self.store.logs().of_user_after(user, after_log.as_deref(), max, PAGE_ENTRIES, room)?;
            left -= rows.logs.len();
            page.rows = rows.logs;
            page.next = rows.next.map(PageStart::Log);
        }
        if page.next.is_none() {
            let after = after_call.as_deref().unwrap_or_default();
            let rows = self.store.reservations().of_user_after(user, after, left, now, room)?;
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
