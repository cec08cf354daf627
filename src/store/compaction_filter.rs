//! Removes void logs, stored answers and old tombstones from disk when compaction reads them. Nothing else changes:
//! reads treat them as absent already.

use super::codec::newest_of_log;
use super::row::RowKey;
use super::tables::erased::{TOMBSTONE_MS, erased_until};
use super::tables::reservations::kept_until;
use crate::model::TsMs;
use arc_swap::ArcSwapOption;
use rocksdb::CompactionDecision;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long logs are kept after their newest event.
pub struct Keep {
    /// The minimum of all keys, in ms. Most logs are younger, and need no further check.
    pub least_ms: u64,
    /// For one key, in ms.
    pub of_key_ms: Box<dyn Fn(&str) -> u64 + Send + Sync>,
}

/// The filter and its inputs. It removes nothing until it knows both the retention and a trusted time.
#[derive(Default)]
pub struct CompactionFilter {
    keep: ArcSwapOption<Keep>,
    /// 0 while the clock is not trusted.
    now_ms: AtomicU64,
    reclaimed: AtomicU64,
}

impl CompactionFilter {
    /// A log is removed this long after it became void, in ms, since the clock may be corrected by less.
    const MARGIN_MS: u64 = 3_600_000;

    /// Sets what compactions keep from now on.
    pub fn set_keep(&self, keep: Keep) {
        self.keep.store(Some(Arc::new(keep)));
    }

    /// Sets the time; `None` while the clock is not trusted, and then nothing is removed.
    pub fn set_now(&self, now: Option<TsMs>) {
        self.now_ms.store(now.map_or(0, |now| now.0), Ordering::Relaxed);
    }

    /// Logs removed since the start.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    pub(in crate::store) fn decide(&self, key: &[u8], value: &[u8]) -> CompactionDecision {
        if self.is_void(key, value).unwrap_or(false) {
            self.reclaimed.fetch_add(1, Ordering::Relaxed);
            CompactionDecision::Remove
        } else {
            CompactionDecision::Keep
        }
    }

    pub(in crate::store) fn decide_reservation(&self, value: &[u8]) -> CompactionDecision {
        remove_if(self.before().zip(kept_until(value)).is_some_and(|(before, until)| until <= before))
    }

    pub(in crate::store) fn decide_tombstone(&self, value: &[u8]) -> CompactionDecision {
        let keep = self.keep.load();
        let keep_ms = keep.as_ref().map(|keep| keep.least_ms.max(TOMBSTONE_MS));
        let stands = |(until, keep_ms): (TsMs, u64)| until.saturating_add(keep_ms);
        let until = erased_until(value).zip(keep_ms).map(stands);
        remove_if(self.before().zip(until).is_some_and(|(before, until)| until <= before))
    }

    /// Rows that were void before this instant are removed; `None` while the clock is not trusted.
    fn before(&self) -> Option<TsMs> {
        Some(TsMs(self.now_ms.load(Ordering::Relaxed).checked_sub(Self::MARGIN_MS)?))
    }

    /// A row that cannot be decoded is kept for inspection.
    fn is_void(&self, key: &[u8], value: &[u8]) -> Option<bool> {
        let keep = self.keep.load();
        let keep = keep.as_ref()?;
        let before = self.before()?;
        let newest = newest_of_log(value)?;
        if newest > before.saturating_sub(keep.least_ms) {
            return Some(false);
        }
        Some(newest <= before.saturating_sub((keep.of_key_ms)(&RowKey::key_of(key)?)))
    }
}

fn remove_if(remove: bool) -> CompactionDecision {
    if remove { CompactionDecision::Remove } else { CompactionDecision::Keep }
}
