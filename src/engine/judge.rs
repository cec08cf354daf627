//! Verdicts: logs, the rules and an instant in; capped or not, until when, by which rule, out.

use super::Policy;
use super::window_exit::WindowExit;
use crate::model::{
    Entry, Kind, Log, MAX_SHADOWS, Mode, Reservation, Rule, RuleId, RuleVerdict, Section, TsMs, UserCap, Verdict,
    Window,
};
use smallvec::SmallVec;
use std::sync::Arc;

/// A key asked about, with its log as reads see it (empty where there is none).
#[derive(Debug, Clone, Copy)]
pub struct KeyLog<'a> {
    /// The key, `<level>:<id>`.
    pub key: &'a str,
    /// Its log.
    pub log: &'a Log,
}

/// What is asked about the keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question {
    /// Only rules of this kind; `None` judges those of every kind.
    pub kind: Option<Kind>,
    /// The instant asked for; `None` is now, and then a window has no upper bound.
    pub at: Option<TsMs>,
    /// Whether each verdict is to be explained.
    pub explain: bool,
}

/// What one rule counts in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Events in the window, reservations among them.
    pub count: u64,
    /// When the window has fewer events than the limit again; `None` if the rule does not cap.
    pub capped_until: Option<TsMs>,
    /// Whether `count` is a lower bound: events in the window may have been given up.
    pub partial: bool,
}

impl Tally {
    const NOTHING: Tally = Tally { count: 0, capped_until: None, partial: false };
}

/// Counts the events of `section` that the window holds, and the reservations.
///
/// Entries are sorted by time and leave a window in that order, so with `count` of them from `first` on, the cap ends
/// when entry `first + count - limit` leaves: then `limit - 1` are left. Reservations leave when they like.
fn tally(policy: &Policy, rule: &Rule, log: &Log, section: &Section, now: TsMs, at: Option<TsMs>) -> Tally {
    let t = at.unwrap_or(now);
    let exit = WindowExit::of(policy, rule, log);
    if let WindowExit::Lifetime(end, _) = exit {
        return lifetime(rule, section, &exit, end, t);
    }
    let kept = section.kept(policy.history_limit());
    let first = first_of(&exit, kept, t);
    let last = last_of(kept, first, at);
    let entries = &kept[first..last];
    let held = held_in(section, &exit, t, at);
    let all = (entries.len() + held.len()) as u64;
    let capped_until = match rule.limit {
        Some(limit) if all >= limit => Some(nth_to_leave(entries, held, &exit, (all - limit) as usize)),
        _ => None,
    };
    // What a full log no longer keeps might have been in a window that reaches behind its oldest entry.
    let partial = first == 0 && last < kept.len() && section.is_full(policy.history_limit());
    Tally { count: all.min(policy.history_limit() as u64), capped_until, partial }
}

/// The first entry that the window holds at `t`.
pub(super) fn first_of(exit: &WindowExit<'_>, kept: &[Entry], t: TsMs) -> usize {
    match exit {
        WindowExit::Calendar(calendar) => {
            let start = calendar.period(t).start;
            kept.partition_point(|entry| entry.ts < start)
        }
        rolling => kept.partition_point(|entry| rolling.event(entry.ts) <= t),
    }
}

/// One past the last entry that counts: all of them, unless an instant was asked for.
pub(super) fn last_of(kept: &[Entry], first: usize, at: Option<TsMs>) -> usize {
    at.map_or(kept.len(), |at| kept.partition_point(|entry| entry.ts <= at).max(first))
}

/// When the reservations leave that the window holds at `t`.
fn held_in(section: &Section, exit: &WindowExit<'_>, t: TsMs, at: Option<TsMs>) -> SmallVec<[TsMs; 4]> {
    reservations_in(section, exit, t, at).map(|(_, leaves)| leaves).collect()
}

/// The reservations that the window holds at `t`, and when they leave.
pub(super) fn reservations_in<'s>(
    section: &'s Section,
    exit: &'s WindowExit<'_>,
    t: TsMs,
    at: Option<TsMs>,
) -> impl Iterator<Item = (&'s Reservation, TsMs)> {
    let made = section.reservations.iter().filter(move |held| at.is_none_or(|at| held.ts <= at));
    let begun = made.filter(move |held| match exit {
        WindowExit::Calendar(calendar) => held.ts >= calendar.period(t).start,
        _ => true,
    });
    begun.map(move |held| (held, exit.reservation(held))).filter(move |(_, leaves)| *leaves > t)
}

/// When the `nth` (from 0) of the entries and reservations leaves.
fn nth_to_leave(entries: &[Entry], mut held: SmallVec<[TsMs; 4]>, exit: &WindowExit<'_>, nth: usize) -> TsMs {
    if held.is_empty() {
        return exit.event(entries[nth].ts);
    }
    held.extend(entries.iter().map(|entry| exit.event(entry.ts)));
    held.sort_unstable();
    held[nth]
}

/// Every event counted since the log was made, kept or not: all leave at `end`. Of `at` only the end is asked.
fn lifetime(rule: &Rule, section: &Section, exit: &WindowExit<'_>, end: TsMs, t: TsMs) -> Tally {
    let events = if end <= t { 0 } else { section.lifetime() };
    let mut held = held_in(section, exit, t, None);
    let count = events + held.len() as u64;
    let capped_until = rule.limit.filter(|limit| count >= *limit).map(|limit| {
        held.sort_unstable();
        let nth = count - limit;
        let before_end = held.iter().filter(|leave| **leave <= end).count() as u64;
        match nth.checked_sub(before_end) {
            None => held[nth as usize],
            Some(after) if after < events => end,
            Some(after) => held[(before_end + after - events) as usize],
        }
    });
    Tally { count, capped_until, partial: false }
}

fn tally_log(policy: &Policy, rule: &Rule, log: &Log, now: TsMs, at: Option<TsMs>) -> Tally {
    log.section(rule.kind).map_or(Tally::NOTHING, |section| tally(policy, rule, log, section, now, at))
}

/// Until when the enforced rules cap a key now; `None` where they do not. The log is as reads see it.
pub fn capped_until(policy: &Policy, key: &str, log: &Log, now: TsMs) -> Option<TsMs> {
    let enforced = policy.rules().of_key(key).iter().filter(|rule| rule.mode == Mode::Enforce);
    enforced.filter_map(|rule| tally_log(policy, rule, log, now, None).capped_until).max()
}

/// The cap of one key now and the rule that makes it last: of several, the first by id.
pub fn user_cap(policy: &Policy, key: &str, log: &Log, now: TsMs) -> Option<UserCap> {
    let enforced = policy.rules().of_key(key).iter().filter(|rule| rule.mode == Mode::Enforce);
    let caps = enforced.filter_map(|rule| Some((tally_log(policy, rule, log, now, None).capped_until?, rule)));
    let (capped_until, rule) = caps.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    Some(UserCap { key: key.into(), capped_until, rule: rule.id.clone(), kind: rule.kind })
}

/// The enforced rule that speaks for an ad, and what it counts.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Which of the keys it is about.
    pub key: usize,
    /// What the rule counts in the log of the key.
    pub tally: Tally,
}

impl Bound<'_> {
    /// Whether the rule caps the key.
    pub fn is_capped(&self) -> bool {
        self.tally.capped_until.is_some()
    }

    /// Events that are left until the rule caps; `None` for an exemption.
    pub fn remaining(&self) -> Option<u64> {
        self.rule.limit.map(|limit| limit.saturating_sub(self.tally.count))
    }

    /// Whether it binds more than the one found so far: it caps for longer, or where none caps it leaves less.
    fn binds_more_than(&self, other: &Self) -> bool {
        match (self.tally.capped_until, other.tally.capped_until) {
            (None, None) => self.remaining() < other.remaining(),
            (own, other) => own > other,
        }
    }
}

/// A rule that speaks for one of the keys.
#[derive(Debug, Clone, Copy)]
pub enum Applied<'a> {
    /// An enforced rule.
    Enforced(Tally),
    /// A shadow rule.
    Shadow(Shadow<'a>),
}

/// A shadow rule and the log that it is about. There may be thousands: nothing is counted until somebody asks.
#[derive(Debug, Clone, Copy)]
pub struct Shadow<'a> {
    policy: &'a Policy,
    rule: &'a Rule,
    log: &'a Log,
    now: TsMs,
    at: Option<TsMs>,
}

impl Shadow<'_> {
    /// What it counts.
    pub fn tally(&self) -> Tally {
        tally_log(self.policy, self.rule, self.log, self.now, self.at)
    }

    /// Whether it would have capped.
    pub fn would_cap(&self) -> bool {
        let (Some(section), Some(limit)) = (self.log.section(self.rule.kind), self.rule.limit) else { return false };
        // Most logs hold fewer events than the limit, whatever the window.
        let held = (section.entries.len() + section.reservations.len()) as u64;
        let has_enough = held >= limit || matches!(self.rule.window, Window::Lifetime);
        has_enough && tally(self.policy, self.rule, self.log, section, self.now, self.at).capped_until.is_some()
    }
}

/// Finds the enforced rule that binds an ad: of those that cap, the one that does so for longest; else the one with the
/// least remaining; of equals, the first by the keys' order, then by id. `keys` are the ad's own key first, then those
/// asked for besides, in the order asked. `each` is told of every rule with the number of its key.
pub fn bind<'p>(
    policy: &'p Policy,
    keys: &[KeyLog<'_>],
    question: Question,
    now: TsMs,
    mut each: impl FnMut(usize, &'p Rule, Applied<'_>),
) -> Option<Bound<'p>> {
    let mut best: Option<Bound<'p>> = None;
    for (number, KeyLog { key, log }) in keys.iter().enumerate() {
        for rule in policy.rules().of_key(key) {
            if question.kind.is_some_and(|kind| kind != rule.kind) {
                continue;
            }
            if rule.mode == Mode::Shadow {
                each(number, rule, Applied::Shadow(Shadow { policy, rule, log, now, at: question.at }));
                continue;
            }
            let tally = tally_log(policy, rule, log, now, question.at);
            each(number, rule, Applied::Enforced(tally));
            if rule.limit.is_some() {
                let bound = Bound { rule, key: number, tally };
                if best.as_ref().is_none_or(|best| bound.binds_more_than(best)) {
                    best = Some(bound);
                }
            }
        }
    }
    best
}

/// Judges an ad, with what the rules say; `keys` as in [`bind`]. `would_cap` is told of every shadow rule that would have
/// capped, listed or not.
pub fn judge<'p>(
    policy: &'p Policy,
    keys: &[KeyLog<'_>],
    question: Question,
    now: TsMs,
    mut would_cap: impl FnMut(&'p RuleId),
) -> Verdict {
    let mut rules: Vec<RuleVerdict> = Vec::new();
    let mut named: Option<(usize, Arc<str>)> = None;
    let mut shadows = 0usize;
    let binding = bind(policy, keys, question, now, |number, rule, applied| {
        let tally = match applied {
            Applied::Enforced(tally) => tally,
            Applied::Shadow(shadow) => {
                shadows += 1;
                if shadows > MAX_SHADOWS {
                    if shadow.would_cap() {
                        would_cap(&rule.id);
                    }
                    return;
                }
                let tally = shadow.tally();
                if tally.capped_until.is_some() {
                    would_cap(&rule.id);
                }
                tally
            }
        };
        let key = match &named {
            Some((last, key)) if *last == number => key.clone(),
            _ => named.insert((number, Arc::from(keys[number].key))).1.clone(),
        };
        rules.push(rule_verdict(rule, key, tally));
    });
    let shadow_omitted = shadows.saturating_sub(MAX_SHADOWS);
    match binding {
        Some(bound) => Verdict {
            capped: bound.is_capped(),
            capped_until: bound.tally.capped_until,
            rule: Some(bound.rule.id.clone()),
            key: Some(Arc::from(keys[bound.key].key)),
            kind: bound.rule.kind,
            window: Some(bound.rule.window.clone()),
            count: bound.tally.count,
            limit: bound.rule.limit,
            remaining: bound.remaining(),
            partial: bound.tally.partial,
            rules,
            shadow_omitted,
        },
        None => {
            let tally = unbound_count(policy, keys, question, now);
            Verdict {
                capped: false,
                capped_until: None,
                rule: None,
                key: None,
                kind: question.kind.unwrap_or_default(),
                window: None,
                count: tally.count,
                limit: None,
                remaining: None,
                partial: tally.partial,
                rules,
                shadow_omitted,
            }
        }
    }
}

fn rule_verdict(rule: &Rule, key: Arc<str>, tally: Tally) -> RuleVerdict {
    RuleVerdict {
        rule: rule.id.clone(),
        key,
        kind: rule.kind,
        mode: rule.mode,
        limit: rule.limit,
        window: rule.window.clone(),
        count: tally.count,
        remaining: rule.limit.map(|limit| limit.saturating_sub(tally.count)),
        capped: tally.capped_until.is_some(),
        capped_until: tally.capped_until,
        partial: tally.partial,
    }
}

/// With no enforced rule the answer tells how often the ad itself was seen within retention.
pub fn unbound_count(policy: &Policy, keys: &[KeyLog<'_>], question: Question, now: TsMs) -> Tally {
    let kind = question.kind.unwrap_or_default();
    let Some(section) = keys.first().and_then(|ad| ad.log.section(kind)) else { return Tally::NOTHING };
    let t = question.at.unwrap_or(now);
    let exit = WindowExit::Rolling(policy.retention_ms());
    let kept = section.kept(policy.history_limit());
    let first = first_of(&exit, kept, t);
    let last = last_of(kept, first, question.at);
    let all = last - first + held_in(section, &exit, t, question.at).len();
    let partial = first == 0 && last < kept.len() && section.is_full(policy.history_limit());
    Tally { count: all.min(policy.history_limit()) as u64, capped_until: None, partial }
}
