//! Who is never counted: users who opted out, as writers and reads know them.

use crate::model::{Candidate, Refused, ReserveAnswer, Reserved, RuleId, SHARDS, ShardId, TsMs, UserId, Verdict};
use crate::settings::by_name;
use crate::store::{AuditEntry, ChangedBy, RowKey, Store, StoreError, UserMark};
use arc_swap::ArcSwap;
use hashbrown::HashSet;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What a verdict on a user who opted out is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OptedOutVerdict {
    /// Every ad may be shown: nothing is known of the user.
    #[default]
    Allow,
    /// No ad may be shown.
    Deny,
}

by_name!(OptedOutVerdict);

/// What a verdict names as the rule that denies an ad to a user who opted out. No rule has to have this id.
static RULE: LazyLock<Option<RuleId>> = LazyLock::new(|| RuleId::new("opted-out").ok());
/// When that ends: the last instant that there is.
const FOREVER: TsMs = TsMs(100_000_000_000_000);

/// The users who opted out. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct OptOuts(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    by_shard: Box<[ArcSwap<HashSet<UserMark>>]>,
    count: AtomicUsize,
    /// Held over a change.
    changing: Mutex<()>,
    denies: bool,
}

impl OptOuts {
    /// Reads who opted out. Blocks on disk.
    pub(super) fn load(store: Arc<Store>, verdict: OptedOutVerdict) -> Result<Self, StoreError> {
        let mut by_shard = vec![HashSet::new(); SHARDS];
        let all = store.opted_out().all()?;
        let count = all.len();
        for (shard, mark) in all {
            by_shard[shard.index()].insert(mark);
        }
        let by_shard = by_shard.into_iter().map(ArcSwap::from_pointee).collect();
        let denies = verdict == OptedOutVerdict::Deny;
        Ok(Self(Arc::new(Inner { store, by_shard, count: AtomicUsize::new(count), changing: Mutex::new(()), denies })))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Whether a user opted out.
    #[inline]
    pub fn has(&self, user: &str) -> bool {
        self.count() > 0 && self.has_in(ShardId::of_user(user.as_bytes()), user)
    }

    /// The same of the user of a row key.
    #[inline]
    pub(super) fn has_row(&self, row_key: &[u8]) -> bool {
        self.count() > 0 && RowKey::user_of(row_key).is_some_and(|user| self.has_in(ShardId(row_key[0]), user))
    }

    fn has_in(&self, shard: ShardId, user: &str) -> bool {
        let set = self.0.by_shard[shard.index()].load();
        !set.is_empty() && set.contains(&self.0.store.erased().mark(user))
    }

    /// Notes that a user opts out, or (`false`) does so no more. Returns whether that changed anything, once it is durable and in
    /// force: a turn that begins later counts no event of the user. Blocks on disk.
    pub fn set(&self, user: &str, opted_out: bool, now: TsMs, by: ChangedBy) -> Result<bool, StoreError> {
        let changed = self.put_in_force(user, opted_out, now, by)?;
        self.0.store.wait_for_bucket()?;
        Ok(changed)
    }

    fn put_in_force(&self, user: &str, opted_out: bool, now: TsMs, by: ChangedBy) -> Result<bool, StoreError> {
        let Inner { store, by_shard, count, changing, .. } = &*self.0;
        let _changing = changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (shard, mark) = (ShardId::of_user(user.as_bytes()), store.erased().mark(user));
        if self.has(user) == opted_out {
            return Ok(false);
        }
        let told = |opted_out: bool| json!({"user_hash": mark.to_string(), "opted_out": opted_out});
        let line = AuditEntry { by, before: told(!opted_out), after: told(opted_out) };
        store.opted_out().set(shard, mark, opted_out.then_some(now), now, &line)?;
        let mut set: HashSet<UserMark> = (**by_shard[shard.index()].load()).clone();
        if opted_out {
            set.insert(mark);
            count.fetch_add(1, Ordering::Release);
        } else {
            set.remove(&mark);
        }
        by_shard[shard.index()].store(Arc::new(set));
        if !opted_out {
            count.fetch_sub(1, Ordering::Release);
        }
        Ok(true)
    }

    /// Whether no ad may be shown to a user.
    pub(super) fn deny(&self, user: &UserId<'_>) -> bool {
        self.0.denies && self.has(user.as_str())
    }

    /// The verdict on an ad that may not be shown.
    pub(super) fn denied(candidate: &Candidate<'_>, verdict: Verdict) -> Verdict {
        let (rule, key) = (RULE.clone(), Some(format!("da:{}", candidate.da.as_str()).into()));
        Verdict { capped: true, capped_until: Some(FOREVER), rule, key, ..verdict }
    }

    /// The rule that denies and the end of that.
    pub(super) fn denial() -> (Option<&'static RuleId>, TsMs) {
        (RULE.as_ref(), FOREVER)
    }

    /// The answer to `/reserve` for a user who opted out: nothing is reserved, so nothing is stored.
    pub(super) fn reserve(
        &self,
        id: &str,
        candidates: &[Candidate<'_>],
        want: usize,
        expires_at: Option<TsMs>,
    ) -> Vec<u8> {
        let mut answer = ReserveAnswer { id: id.to_owned(), reserved: Vec::new(), refused: Vec::new() };
        if self.0.denies {
            for da in candidates.iter().map(|candidate| candidate.da.as_str()) {
                let Some(rule) = RULE.clone() else { continue };
                let key = format!("da:{da}");
                answer.refused.push(Refused { da: da.to_owned(), rule, key, capped_until: FOREVER });
            }
        } else {
            let taken = candidates.iter().take(want);
            answer.reserved =
                taken.map(|candidate| Reserved { da: candidate.da.as_str().to_owned(), expires_at }).collect();
        }
        // Serializing plain structs to memory cannot fail.
        serde_json::to_vec(&answer).unwrap_or_default()
    }
}
