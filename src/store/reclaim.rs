//! Void logs leave the disk when compaction meets them. Nobody is told: reads already treat them as absent.

use super::codec::newest_of_log;
use super::row::RowKey;
use crate::engine::Policy;
use crate::model::TsMs;
use arc_swap::ArcSwapOption;
use rocksdb::CompactionDecision;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the compaction filter goes by. Nothing is reclaimed until both the policy and a trusted time are set.
#[derive(Debug, Default)]
pub struct Reclaim {
    policy: ArcSwapOption<Policy>,
    /// 0 while the clock is not trusted.
    now_ms: AtomicU64,
    reclaimed: AtomicU64,
}

impl Reclaim {
    /// A log is reclaimed this long after it became void, in ms: a clock may be corrected by less.
    const MARGIN_MS: u64 = 3_600_000;

    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.policy.store(Some(policy));
    }

    /// Tells the time; `None` while the clock cannot be trusted, and then nothing is reclaimed.
    pub fn set_now(&self, now: Option<TsMs>) {
        self.now_ms.store(now.map_or(0, |now| now.0), Ordering::Relaxed);
    }

    /// Logs reclaimed since the start.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    pub(super) fn decide(&self, key: &[u8], value: &[u8]) -> CompactionDecision {
        if self.is_void(key, value).unwrap_or(false) {
            self.reclaimed.fetch_add(1, Ordering::Relaxed);
            CompactionDecision::Remove
        } else {
            CompactionDecision::Keep
        }
    }

    /// A row that cannot be read is kept, for somebody to look at.
    fn is_void(&self, key: &[u8], value: &[u8]) -> Option<bool> {
        let policy = self.policy.load();
        let policy = policy.as_ref()?;
        let before = TsMs(self.now_ms.load(Ordering::Relaxed).checked_sub(Self::MARGIN_MS)?);
        let newest = newest_of_log(value)?;
        if newest > before.saturating_sub(policy.retention_ms()) {
            return Some(false);
        }
        Some(newest <= before.saturating_sub(policy.keep_ms(&RowKey::key_of(key)?)))
    }
}
