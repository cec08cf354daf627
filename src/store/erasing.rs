//! Users whose erasure takes more than one commit. Its first commit leaves a tombstone and a row here; from then on nobody
//! sees what is left of the user, and the last commit removes the row.
//!
//! What is left is known by its time: it is from before the erasure, and everything counted since is from after it.

use super::codec::{put_bytes, put_varint, take_text, take_varint};
use super::db::Db;
use super::error::StoreError;
use super::row::{RowKey, ShardPrefix};
use super::table::Table;
use super::tables::audit::{AuditEntry, ChangedBy};
use super::tables::erased::UserMark;
use crate::model::{Log, ShardId, ShardSet, TsMs};
use arc_swap::{ArcSwap, Guard};
use hashbrown::HashMap;
use rocksdb::WriteBatch;
use serde_json::json;
use std::sync::Arc;

/// What was held of a user, and is held no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erasure {
    /// Events up to here are refused from now on.
    pub until: TsMs,
    /// Rows of logs.
    pub logs: u64,
    /// Events held in the logs of ads.
    pub events: u64,
    /// Reservations under way, likewise.
    pub reservations: u64,
    /// Calls of `/reserve` with their answers.
    pub calls: u64,
    /// Rows of `caps`.
    pub caps: u64,
    /// How often something could not be read: it was erased all the same, and is not in the counts.
    pub unreadable: u64,
}

impl Erasure {
    /// The line of the audit. That outlives the user's bytes, so it knows the user as the tombstone does.
    pub fn audited(&self, user: UserMark, by: ChangedBy) -> AuditEntry {
        let Self { until, logs, events, reservations, calls, caps, unreadable: _ } = self;
        let held = json!({"logs": logs, "events": events, "reservations": reservations, "calls": calls, "caps": caps});
        let after = json!({"user_hash": user.to_string(), "erased_until": until.0});
        AuditEntry { by, before: held, after }
    }

    /// Counts a log that is erased.
    pub fn add_log(&mut self, row_key: &[u8], log: &Log, now: TsMs) {
        self.logs += 1;
        if !RowKey::key_of(row_key).is_some_and(|key| key.starts_with("da:")) {
            return;
        }
        for section in &log.sections {
            self.events += section.entries.len() as u64;
            self.reservations += section.reservations.iter().filter(|held| held.expires_at > now).count() as u64;
        }
    }

    /// Counts what another part of the same erasure removed.
    pub fn add(&mut self, more: &Self) {
        self.until = self.until.max(more.until);
        for (sum, more) in self.counts().into_iter().zip({ *more }.counts()) {
            *sum += *more;
        }
    }

    fn counts(&mut self) -> [&mut u64; 6] {
        let Self { until: _, logs, events, reservations, calls, caps, unreadable } = self;
        [logs, events, reservations, calls, caps, unreadable]
    }
}

/// The latest time in a log, of an event or of a reservation.
pub(in crate::store) fn latest(log: &Log) -> TsMs {
    let held = log.sections.iter().flat_map(|section| &section.reservations).map(|held| held.ts);
    held.chain(log.newest()).max().unwrap_or_default()
}

/// Users by name, with the instant up to which each is erased.
type Users = HashMap<Box<str>, TsMs>;

/// An erasure that was not finished.
pub struct Unfinished {
    /// Who is erased.
    pub user: Box<str>,
    /// What was erased so far.
    pub so_far: Erasure,
    /// Who asked for it.
    pub by: ChangedBy,
}

/// The users who are being erased.
pub struct Erasing {
    db: Arc<Db>,
    users: ArcSwap<Users>,
}

/// The users who are being erased at an instant.
pub struct ErasingUsers(Guard<Arc<Users>>);

impl ErasingUsers {
    /// Up to when the user of a row key is being erased.
    #[inline]
    pub fn until(&self, row_key: &[u8]) -> Option<TsMs> {
        if self.0.is_empty() { None } else { self.0.get(RowKey::user_of(row_key)?).copied() }
    }
}

/// Whether a log of a user who is being erased is from before the erasure.
pub fn is_from_before(log: &Log, until: TsMs) -> bool {
    latest(log) <= until
}

impl Erasing {
    /// Finds the erasures that an earlier run did not finish. Blocks on disk.
    pub(in crate::store) fn load(db: &Arc<Db>, shards: ShardSet) -> Result<Self, StoreError> {
        let erasing = Self { db: db.clone(), users: ArcSwap::default() };
        let mut users = Users::new();
        for shard in shards.iter() {
            users.extend(erasing.unfinished(shard)?.into_iter().map(|it| (it.user, it.so_far.until)));
        }
        erasing.users.store(Arc::new(users));
        Ok(erasing)
    }

    /// The users who are being erased now.
    #[inline]
    pub fn users(&self) -> ErasingUsers {
        ErasingUsers(self.users.load())
    }

    /// Whether no erasure began or ended since. Two reads between which this holds saw the same users.
    pub(in crate::store) fn are_still(&self, users: &ErasingUsers) -> bool {
        Arc::ptr_eq(&self.users.load(), &users.0)
    }

    /// The unfinished erasures of a shard: who, and what was erased so far. Blocks on disk.
    pub fn unfinished(&self, shard: ShardId) -> Result<Vec<Unfinished>, StoreError> {
        let mut range = ShardPrefix(shard).rows();
        range.start = key(shard, "");
        let mut found = Vec::new();
        for row in self.db.rows(Table::Meta, range, "reading who is being erased") {
            let (key, value) = row?;
            let Some(user) = key.strip_prefix(&[shard.0, MARK]) else { break };
            let user = std::str::from_utf8(user).map_err(|_| CORRUPT)?;
            let (erasure, by) = decode(&value).ok_or(CORRUPT)?;
            found.push(Unfinished { user: user.into(), so_far: erasure, by });
        }
        Ok(found)
    }

    /// Writes that a user is being erased, what was erased so far, and who asked for it.
    pub(in crate::store) fn put(&self, batch: &mut WriteBatch, user: &str, erasure: &Erasure, by: &ChangedBy) {
        let mut value = Vec::new();
        put_varint(&mut value, erasure.until.0);
        { *erasure }.counts().into_iter().for_each(|count| put_varint(&mut value, *count));
        put_bytes(&mut value, by.call.as_bytes());
        if let Some(key) = &by.key {
            put_bytes(&mut value, key.as_bytes());
        }
        batch.put_cf(self.db.cf(Table::Meta), key(ShardId::of_user(user.as_bytes()), user), value);
    }

    pub(in crate::store) fn delete(&self, batch: &mut WriteBatch, user: &str) {
        batch.delete_cf(self.db.cf(Table::Meta), key(ShardId::of_user(user.as_bytes()), user));
    }

    /// From here on nobody sees what is left of the user.
    pub(in crate::store) fn begun(&self, user: &str, until: TsMs) {
        self.users.rcu(|users| {
            let mut users = Users::clone(users);
            users.insert(user.into(), until);
            users
        });
    }

    /// Nothing is left of the user.
    pub(in crate::store) fn ended(&self, user: &str) {
        self.users.rcu(|users| {
            let mut users = Users::clone(users);
            users.remove(user);
            users
        });
    }
}

/// Follows the shard; no number of a shard has it.
const MARK: u8 = b'u';
const CORRUPT: StoreError = StoreError::Corrupt { table: "meta", what: "an unfinished erasure cannot be read" };

fn key(shard: ShardId, user: &str) -> Vec<u8> {
    [&[shard.0, MARK], user.as_bytes()].concat()
}

fn decode(mut value: &[u8]) -> Option<(Erasure, ChangedBy)> {
    let mut erasure = Erasure { until: TsMs(take_varint(&mut value)?), ..Erasure::default() };
    for count in erasure.counts() {
        *count = take_varint(&mut value)?;
    }
    let call = take_text(&mut value)?.to_owned();
    let key = if value.is_empty() { None } else { Some(take_text(&mut value)?.to_owned()) };
    value.is_empty().then_some((erasure, ChangedBy { key, call }))
}
