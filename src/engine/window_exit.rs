//! When what a log holds leaves the windows that count it.

use super::Policy;
use crate::model::{Calendar, Kind, Log, Reservation, Rule, RuleId, TsMs, Window};

/// The instants at which the events of a log leave a rule's window.
pub(super) enum WindowExit<'r> {
    /// In ms after their time.
    Rolling(u64),
    Calendar(&'r Calendar),
    /// All at once, at this instant; a reservation so long after its own.
    Lifetime(TsMs, u64),
}

impl<'r> WindowExit<'r> {
    pub(super) fn of(policy: &Policy, rule: &'r Rule, log: &Log) -> Self {
        match &rule.window {
            Window::Rolling(span) => Self::Rolling(span.as_millis()),
            Window::Calendar(calendar) => Self::Calendar(calendar),
            Window::Lifetime => {
                let keep = policy.lifetime_retention_ms();
                Self::Lifetime(log.newest().unwrap_or_default().saturating_add(keep), keep)
            }
        }
    }

    /// When an event of this time leaves.
    pub(super) fn event(&self, ts: TsMs) -> TsMs {
        match self {
            Self::Rolling(width) => ts.saturating_add(*width),
            Self::Calendar(calendar) => calendar.period(ts).end,
            Self::Lifetime(end, _) => *end,
        }
    }

    /// When a reservation leaves: as an event of its time would, or when it lapses.
    pub(super) fn reservation(&self, held: &Reservation) -> TsMs {
        let leaves = match self {
            Self::Lifetime(_, keep) => held.ts.saturating_add(*keep),
            windowed => windowed.event(held.ts),
        };
        leaves.min(held.expires_at)
    }
}

/// When something held leaves a rule's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExit {
    /// The rule.
    pub rule: RuleId,
    /// The first instant at which its window no longer has the event.
    pub at: TsMs,
}

/// When something of a log that counts under a kind leaves each window that still counts it; `leave` is asked for each
/// rule. Rules stand by id.
fn each_rule<'p>(
    policy: &'p Policy,
    key: &str,
    kind: Kind,
    log: &Log,
    now: TsMs,
    leave: impl Fn(&WindowExit<'p>) -> TsMs,
) -> Vec<RuleExit> {
    let rules = policy.rules().of_key(key).iter().filter(|rule| rule.kind == kind && rule.limit.is_some());
    let leaves = rules.map(|rule| RuleExit { rule: rule.id.clone(), at: leave(&WindowExit::of(policy, rule, log)) });
    leaves.filter(|leave| leave.at > now).collect()
}

/// When an event of a log, of this kind and time, leaves each window that counts it now.
pub fn event_exits(policy: &Policy, key: &str, kind: Kind, log: &Log, ts: TsMs, now: TsMs) -> Vec<RuleExit> {
    each_rule(policy, key, kind, log, now, |exit| exit.event(ts))
}

/// The same of a reservation.
pub fn reservation_exits(
    policy: &Policy,
    key: &str,
    kind: Kind,
    log: &Log,
    held: &Reservation,
    now: TsMs,
) -> Vec<RuleExit> {
    each_rule(policy, key, kind, log, now, |exit| exit.reservation(held))
}
