//! Over-delivery: events that were counted although a rule had capped their key, and why.

use crate::api::{OverEntry, OverGroup, OverSummary};
use crate::clock::Clock;
use crate::model::{OverCause, RuleId, TsMs};
use crate::store::{OVER_KEPT, OVER_ROWS, OverRow, Store, StoreError, hour_of};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Rows that are looked at for one page.
const LOOKED_AT: usize = 100_000;
/// Groups of a summary.
const GROUPS: usize = 1_000;
/// Keys that are counted apart from each other.
const KEYS_COUNTED: usize = 100_000;
/// Reports that are made at once: they must not keep others from the disk.
const READERS: usize = 2;
const HOUR_MS: u64 = 3_600_000;

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverQuery {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this key.
    pub key: Option<String>,
    /// Of this cause.
    pub cause: Option<OverCause>,
    /// Counted at this instant or later.
    pub since: TsMs,
    /// Older than this one.
    pub before: Option<u64>,
    /// The most of a page.
    pub limit: usize,
}

impl OverQuery {
    fn wants(&self, row: &OverRow) -> bool {
        self.rule.as_ref().is_none_or(|rule| rule == row.rule.as_str())
            && self.key.as_ref().is_none_or(|key| *key == row.key)
            && self.cause.is_none_or(|cause| cause == row.cause)
    }
}

/// What a summary is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverBy {
    /// The rule.
    Rule,
    /// The cause.
    Cause,
    /// The key.
    Key,
    /// The hour in which it was counted.
    Hour,
}

/// What events are counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Rule(RuleId),
    Cause(OverCause),
    Key(String),
    Hour(u64),
}

impl Name {
    fn of(row: &OverRow, by: OverBy) -> Self {
        match by {
            OverBy::Rule => Self::Rule(row.rule.clone()),
            OverBy::Cause => Self::Cause(row.cause),
            OverBy::Key => Self::Key(row.key.clone()),
            OverBy::Hour => Self::Hour(row.at.0 / HOUR_MS * HOUR_MS),
        }
    }

    fn group(self, over: u64) -> OverGroup {
        let nothing = OverGroup { over, ..OverGroup::default() };
        match self {
            Self::Rule(rule) => OverGroup { rule: Some(rule), ..nothing },
            Self::Cause(cause) => OverGroup { cause: Some(cause), ..nothing },
            Self::Key(key) => OverGroup { key: Some(key), ..nothing },
            Self::Hour(hour) => OverGroup { hour: Some(TsMs(hour)), ..nothing },
        }
    }
}

/// Reports over-delivery. Cheap to clone.
#[derive(Clone)]
pub struct Over {
    store: Arc<Store>,
    clock: Clock,
    readers: Arc<Semaphore>,
}

impl Over {
    pub(super) fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self { store, clock, readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// Lets a report begin; `None` while as many are made as may be.
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.try_acquire().ok()
    }

    /// A page of events, newest first, and where older ones go on. Blocks on disk.
    pub fn page(&self, query: &OverQuery) -> Result<(Vec<OverEntry>, Option<u64>), StoreError> {
        let oldest = query.since.max(self.oldest_kept());
        let mut entries = Vec::new();
        for (looked_at, row) in self.store.over().newest_first(query.before).enumerate() {
            let row = row?;
            if row.at < oldest {
                break;
            }
            let seq = row.seq;
            if query.wants(&row) {
                entries.push(OverEntry::from(row));
            }
            if entries.len() == query.limit || looked_at + 1 == LOOKED_AT {
                return Ok((entries, Some(seq)));
            }
        }
        Ok((entries, None))
    }

    /// How many events of those counted since an instant are over. Blocks on disk, for up to some seconds.
    pub fn summary(&self, since: TsMs, by: OverBy) -> Result<OverSummary, StoreError> {
        let hour = hour_of(since.max(self.oldest_kept()));
        let since = TsMs(u64::from(hour) * HOUR_MS);
        let (mut over, mut other) = (0, 0);
        let (mut newest_seq, mut oldest) = (0, (0, since));
        let mut counts: HashMap<Name, u64> = HashMap::new();
        for row in self.store.over().newest_first(None) {
            let row = row?;
            newest_seq = newest_seq.max(row.seq);
            oldest = (row.seq, row.at);
            if row.at < since {
                break;
            }
            over += row.events;
            let name = Name::of(&row, by);
            if counts.len() < KEYS_COUNTED || counts.contains_key(&name) {
                *counts.entry(name).or_default() += row.events;
            } else {
                other += row.events;
            }
        }
        // As many as are kept, and none of them from before: there were more.
        let complete_from = (oldest.1 >= since && newest_seq >= oldest.0 + OVER_ROWS - 1).then_some(oldest.1);
        let impressions = self.store.over().counted_since(hour)?;
        let mut by_count: Vec<(Name, u64)> = counts.into_iter().collect();
        by_count.sort_by(|a, b| match (&a.0, &b.0) {
            (Name::Hour(a), Name::Hour(b)) => a.cmp(b),
            _ => b.1.cmp(&a.1),
        });
        let by: Vec<OverGroup> = by_count.into_iter().map(|(name, over)| name.group(over)).collect();
        other += by.iter().skip(GROUPS).map(|group| group.over).sum::<u64>();
        let by = by.into_iter().take(GROUPS).collect();
        let share = if impressions == 0 { 0.0 } else { over as f64 / impressions as f64 };
        Ok(OverSummary { since, impressions, over, share, by, other, complete_from })
    }

    fn oldest_kept(&self) -> TsMs {
        self.clock.now().saturating_sub(OVER_KEPT.as_millis() as u64)
    }
}
