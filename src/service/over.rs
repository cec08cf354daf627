//! Over-delivery: events that were counted although a rule had capped their key, and why.

use crate::api::{OverEntry, OverGroup, OverSummary};
use crate::clock::Clock;
use crate::model::{OverCause, RuleId, TsMs};
use crate::store::{OVER_KEPT, OVER_ROWS, OverRow, Store, StoreError, hour_of};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
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
    /// Older than these.
    pub after: Option<OverCursor>,
    /// The most of a page.
    pub limit: usize,
}

/// Up to where a list of events was read: for each unit, the sequence after the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverCursor(Vec<u64>);

impl FromStr for OverCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split('.').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for OverCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, next) in self.0.iter().enumerate() {
            write!(f, "{}{next}", if number > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum OverError {
    /// It is of another number of units.
    #[error("cursor is none that an answer has had")]
    Cursor,
    /// The rows could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// Of all units.
    stores: Arc<[Arc<Store>]>,
    clock: Clock,
    readers: Arc<Semaphore>,
}

impl Over {
    pub(super) fn new(stores: Arc<[Arc<Store>]>, clock: Clock) -> Self {
        Self { stores, clock, readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// Lets a report begin; `None` while as many are made as may be.
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.try_acquire().ok()
    }

    /// A page of events, newest first, and where older ones go on. Those of several units are ordered by time. Blocks on disk.
    pub fn page(&self, query: &OverQuery) -> Result<(Vec<OverEntry>, Option<OverCursor>), OverError> {
        if query.after.as_ref().is_some_and(|after| after.0.len() != self.stores.len()) {
            return Err(OverError::Cursor);
        }
        let oldest = query.since.max(self.oldest_kept());
        let before = |number: usize| query.after.as_ref().map(|after| after.0[number]);
        let mut cursor: Vec<u64> = (0..self.stores.len()).map(|number| before(number).unwrap_or(u64::MAX)).collect();
        let mut lists = Vec::with_capacity(self.stores.len());
        for (number, store) in self.stores.iter().enumerate() {
            let mut rows = store.over().newest_first(before(number));
            let head = rows.next().transpose()?;
            lists.push((head, rows));
        }
        let (mut entries, mut looked_at) = (Vec::new(), 0);
        loop {
            let heads = lists.iter().enumerate().filter_map(|(number, (head, _))| Some((head.as_ref()?.at, number)));
            let Some((at, number)) = heads.max() else { return Ok((entries, None)) };
            if at < oldest {
                return Ok((entries, None));
            }
            if entries.len() == query.limit || looked_at == LOOKED_AT {
                return Ok((entries, Some(OverCursor(cursor))));
            }
            let (head, rows) = &mut lists[number];
            let row = std::mem::replace(head, rows.next().transpose()?);
            looked_at += 1;
            if let Some(row) = row {
                cursor[number] = row.seq;
                if query.wants(&row) {
                    entries.push(OverEntry::from(row));
                }
            }
        }
    }

    /// How many events of those counted since an instant are over. Blocks on disk, for up to some seconds.
    pub fn summary(&self, since: TsMs, by: OverBy) -> Result<OverSummary, StoreError> {
        let hour = hour_of(since.max(self.oldest_kept()));
        let since = TsMs(u64::from(hour) * HOUR_MS);
        let (mut over, mut other, mut complete_from, mut impressions) = (0, 0, None, 0);
        let mut counts: HashMap<Name, u64> = HashMap::new();
        for store in self.stores.iter() {
            let (mut newest_seq, mut oldest) = (0, (0, since));
            for row in store.over().newest_first(None) {
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
            if oldest.1 >= since && newest_seq >= oldest.0 + OVER_ROWS - 1 {
                complete_from = complete_from.max(Some(oldest.1));
            }
            impressions += store.over().counted_since(hour)?;
        }
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
