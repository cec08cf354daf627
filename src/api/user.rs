//! What is held about a user, and what an erasure removed.

use crate::engine;
use crate::model::{self, Kind, RuleId, Section, TsMs};
use crate::shard::{UserCall, UserEvent, UserLog};
use crate::store::Erasure;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::cell::RefCell;

// The form of an answer that is written key by key.
/// The caps of a user.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
pub struct UserCaps<'a> {
    /// The user.
    #[schema(example = "u1")]
    pub user: &'a str,
    /// By key.
    pub caps: Vec<UserCap<'a>>,
}

/// A key of a user that is capped now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserCap<'a> {
    #[schema(example = "da:77")]
    key: &'a str,
    #[schema(value_type = u64)]
    capped_until: TsMs,
    #[schema(value_type = String, example = "default")]
    rule: &'a RuleId,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
}

impl<'a> From<&'a model::UserCap> for UserCap<'a> {
    fn from(cap: &'a model::UserCap) -> Self {
        Self { key: &cap.key, capped_until: cap.capped_until, rule: &cap.rule, kind: cap.kind }
    }
}

/// What is held about a user, by key.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "user": "u1",
    "logs": [{"key": "da:77", "kinds": [{
        "kind": "impression", "lifetime": 2,
        "events": [
            {"ts": 1732233600000u64, "hash": "00c3f2a1b0d4e5f6", "leaves": [{"rule": "default", "at": 1732665600000u64}]},
            {"ts": 1732237200000u64, "hash": "9f86d081884c7d65", "expires_at": 1732237260000u64, "leaves": [{"rule": "default", "at": 1732237260000u64}]}
        ]
    }]}],
    "calls": [{"id": "req-9", "kind": "impression", "das": ["77"], "kept_until": 1732240860000u64}],
    "cursor": null
}))]
pub struct UserAnswer<'a> {
    /// The user.
    pub user: &'a str,
    /// By key, those of ads first.
    #[schema(value_type = Vec<LogAnswer>)]
    pub logs: Logs<'a>,
    /// Calls of `/reserve` whose answers are kept, by id; after the last log.
    pub calls: Vec<CallAnswer>,
    /// Asks for the next page; null at the end.
    pub cursor: Option<String>,
}

/// A call of `/reserve` whose answer is kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CallAnswer {
    /// The id of the call.
    #[schema(example = "req-9")]
    pub id: String,
    /// The kind of the confirming events.
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    /// The ads that it reserved.
    pub das: Vec<String>,
    /// The same call gets the same answer until then.
    #[schema(value_type = u64)]
    pub kept_until: TsMs,
}

impl From<UserCall> for CallAnswer {
    fn from(UserCall { id, kind, das, kept_until }: UserCall) -> Self {
        Self { id, kind, das, kept_until }
    }
}

/// The logs of a page, each made and written after the other.
pub struct Logs<'a>(RefCell<&'a mut dyn Iterator<Item = UserLog>>);

impl<'a> Logs<'a> {
    /// Of the logs of a page.
    pub fn new(logs: &'a mut dyn Iterator<Item = UserLog>) -> Self {
        Self(RefCell::new(logs))
    }
}

impl Serialize for Logs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut logs = serializer.serialize_seq(None)?;
        for log in &mut **self.0.borrow_mut() {
            let kinds = log.sections().iter().map(|section| KindAnswer {
                kind: section.kind,
                lifetime: section.lifetime(),
                events: Events { log: &log, section },
            });
            logs.serialize_element(&LogAnswer { key: &log.key, kinds: kinds.collect() })?;
        }
        logs.end()
    }
}

/// What is held under one key.
#[derive(Serialize, utoipa::ToSchema)]
pub struct LogAnswer<'a> {
    /// The key.
    #[schema(example = "da:77")]
    pub key: &'a str,
    /// By kind, in the order in which kinds came first.
    pub kinds: Vec<KindAnswer<'a>>,
}

/// The events of one kind.
#[derive(Serialize, utoipa::ToSchema)]
pub struct KindAnswer<'a> {
    /// The kind.
    #[schema(value_type = String, example = "impression")]
    pub kind: Kind,
    /// Events counted since the log was made, kept or not.
    pub lifetime: u64,
    /// The newest `history_limit`, oldest first, and then the reservations.
    #[schema(value_type = Vec<HeldEvent>)]
    pub events: Events<'a>,
}

/// The events of a kind, each made and written after the other: with many rules they say much.
pub struct Events<'a> {
    /// The log.
    pub log: &'a UserLog,
    /// The events of one kind in it.
    pub section: &'a Section,
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut events = serializer.serialize_seq(None)?;
        for event in self.log.events(self.section) {
            events.serialize_element(&HeldEvent::from(&event))?;
        }
        events.end()
    }
}

/// An event, or a reservation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HeldEvent<'a> {
    /// When it happened or was reserved, in ms since 1970.
    #[schema(value_type = u64)]
    pub ts: TsMs,
    /// 64 bits, in hex, of the ad and the event's id: all that is held of an id. Null where it had none.
    pub hash: Option<String>,
    /// Of a reservation: when it lapses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub expires_at: Option<TsMs>,
    /// When it leaves the window of each rule that counts it now.
    #[schema(value_type = Vec<RuleExit>)]
    pub leaves: Leaves<'a>,
}

impl<'a> From<&'a UserEvent> for HeldEvent<'a> {
    fn from(event: &'a UserEvent) -> Self {
        Self {
            ts: event.ts,
            hash: event.hash.map(|hash| format!("{hash:016x}")),
            expires_at: event.expires_at,
            leaves: Leaves(&event.leaves),
        }
    }
}

/// When something held leaves the window of each rule that counts it.
#[derive(Debug)]
pub struct Leaves<'a>(&'a [engine::RuleExit]);

impl Serialize for Leaves<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(RuleExit::from))
    }
}

/// When something held leaves a rule's window.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Leave)]
pub struct RuleExit<'a> {
    #[schema(value_type = String, example = "default")]
    rule: &'a RuleId,
    #[schema(value_type = u64)]
    at: TsMs,
}

impl<'a> From<&'a engine::RuleExit> for RuleExit<'a> {
    fn from(leave: &'a engine::RuleExit) -> Self {
        Self { rule: &leave.rule, at: leave.at }
    }
}

/// What was held of a user, and is held no longer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Receipt<'a> {
    /// The user.
    #[schema(example = "u1")]
    pub user: &'a str,
    /// An event with a time up to here is answered `erased` from now on, for at least 35 days.
    #[schema(value_type = u64, example = 1732233600000u64)]
    pub erased_until: TsMs,
    /// Logs that were removed.
    #[schema(example = 3)]
    pub logs: u64,
    /// In the logs of ads.
    #[schema(example = 7)]
    pub events: u64,
    /// Under way, of ads.
    pub reservations: u64,
    /// Answers of `/reserve` that were kept.
    pub calls: u64,
    /// Caps that were removed.
    #[schema(example = 1)]
    pub caps: u64,
    /// How often something of the user could not be read: it was erased all the same, and is not in the counts. Only where it
    /// was so.
    #[serde(skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

impl<'a> Receipt<'a> {
    /// Of what was erased of a user.
    pub fn new(user: &'a str, erasure: &Erasure) -> Self {
        Self {
            user,
            erased_until: erasure.until,
            logs: erasure.logs,
            events: erasure.events,
            reservations: erasure.reservations,
            calls: erasure.calls,
            caps: erasure.caps,
            unreadable: erasure.unreadable,
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
