//! Whether an event counts.

use super::Policy;
use crate::model::{Kind, Log, TsMs};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Counted,
    /// Its id is already in the log of its ad.
    Duplicate,
    /// At or before now - retention, or what a full log keeps.
    Late,
}

/// The event's time is more than `max_skew` ahead of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ts lies {ahead_ms} ms ahead of this server's clock")]
pub struct TsInFuture {
    pub ahead_ms: u64,
}

/// The time under which an event counts: its own, or now where it has none or is a little ahead.
pub fn admit(policy: &Policy, ts: Option<TsMs>, now: TsMs) -> Result<TsMs, TsInFuture> {
    match ts {
        Some(ts) if ts.0 > now.0.saturating_add(policy.max_skew_ms()) => Err(TsInFuture { ahead_ms: ts.0 - now.0 }),
        Some(ts) => Ok(ts.min(now)),
        None => Ok(now),
    }
}

/// Judges an event by the log of its ad (empty where that is void). An event counted here is counted in the logs of
/// its other keys too, by [`Log::insert`].
pub fn classify(policy: &Policy, da_log: &Log, kind: Kind, ts: TsMs, hash: u64, now: TsMs) -> Outcome {
    if da_log.contains(kind, hash) {
        Outcome::Duplicate
    } else if ts <= now.saturating_sub(policy.retention_ms()) || da_log.is_before_kept(kind, ts, policy.history_limit())
    {
        Outcome::Late
    } else {
        Outcome::Counted
    }
}
