//! Whether an event counts, and where.

use super::{Logs, Policy};
use crate::model::{Entry, Kind, Log, TsMs};
use smallvec::SmallVec;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It counts: it is in the logs of all its keys.
    Counted,
    /// Its id is already in the log of its ad: that of an event so far away.
    Duplicate {
        /// Milliseconds between the two events.
        age_ms: u64,
    },
    /// At or before now - retention, or what a full log keeps.
    Late,
    /// At or before the instant up to which its user was erased.
    Erased,
    /// It would be of one kind too many in one of its logs: rejected, and counted in none.
    TooManyKinds,
}

/// The event's time is more than `max_skew` ahead of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ts lies {ahead_ms} ms ahead of this server's clock")]
pub struct TsInFuture {
    /// Milliseconds from the latest possible time to the event's.
    pub ahead_ms: u64,
}

/// The time under which an event counts: its own, or now where it has none or is a little ahead. `latest` is the latest
/// that it may be: now, where the clock is believed.
pub fn admit(policy: &Policy, ts: Option<TsMs>, now: TsMs, latest: TsMs) -> Result<TsMs, TsInFuture> {
    match ts {
        Some(ts) if ts.0 > latest.0.saturating_add(policy.max_skew_ms()) => {
            Err(TsInFuture { ahead_ms: ts.0 - latest.0 })
        }
        Some(ts) => Ok(ts.min(latest)),
        None => Ok(now),
    }
}

/// Counts an event in the logs of its keys, of which the first is its ad's; or says why not. `ts` is what [`admit`]
/// gave; `erased` is up to when the user was erased, if ever.
pub fn count<L: Logs>(
    policy: &Policy,
    logs: &mut L,
    keys: &[L::At],
    (kind, entry): (Kind, Entry),
    erased: Option<TsMs>,
    now: TsMs,
) -> Outcome {
    let Some(&da) = keys.first() else { return Outcome::Late };
    if !takes_kind(policy, logs, keys, kind) {
        return Outcome::TooManyKinds;
    }
    if erased.is_some_and(|until| entry.ts <= until) {
        return Outcome::Erased;
    }
    if entry.hash != 0 && confirm(policy, logs, keys, kind, entry) {
        return Outcome::Counted;
    }
    let outcome = classify(policy, logs.log(da), kind, entry, now);
    if outcome == Outcome::Counted {
        for &at in keys {
            logs.change(at, |log| {
                log.insert(kind, entry, policy.history_limit());
            });
        }
    }
    outcome
}

/// Whether each of these logs has room for events of a kind.
#[inline]
pub fn takes_kind<L: Logs>(policy: &Policy, logs: &L, keys: &[L::At], kind: Kind) -> bool {
    keys.iter().all(|&at| logs.log(at).takes(kind, policy.max_kinds()))
}

/// Judges an event by the log of its ad alone.
fn classify(policy: &Policy, da_log: &Log, kind: Kind, entry: Entry, now: TsMs) -> Outcome {
    let Entry { ts, hash } = entry;
    if let Some(seen) = da_log.seen(kind, hash, ts, policy.duplicate_window_ms()) {
        Outcome::Duplicate { age_ms: ts.0.abs_diff(seen.0) }
    } else if ts <= now.saturating_sub(policy.retention_ms()) || da_log.is_before_kept(kind, ts, policy.history_limit())
    {
        Outcome::Late
    } else {
        Outcome::Counted
    }
}

/// Makes of a reservation that waits for this event an event, in every log that was reserved and, should the event name
/// more, in those too. Says whether there was one.
fn confirm<L: Logs>(policy: &Policy, logs: &mut L, keys: &[L::At], kind: Kind, entry: Entry) -> bool {
    let da = keys[0];
    let Some(held) = logs.log(da).reservation(kind, entry.hash) else { return false };
    let mut reserved: SmallVec<[L::At; 4]> = SmallVec::from_slice(&[da]);
    reserved.extend(held.keys.iter().filter_map(|key| logs.sibling(da, key)));
    for &at in &reserved {
        logs.change(at, |log| {
            log.remove_reservation(kind, entry.hash);
            log.insert(kind, entry, policy.history_limit());
        });
    }
    // What another reservation of the ad has taken there is not this one's.
    for &at in keys.iter().filter(|at| !reserved.contains(at)) {
        logs.change(at, |log| {
            log.insert(kind, entry, policy.history_limit());
        });
    }
    true
}
