//! Verdicts: a log, the rules and an instant in; capped or not, until when, by which rule, out.

use super::Policy;
use crate::model::{Kind, Limit, Log, Mode, Rule, RuleVerdict, Section, TsMs, UserCap, Verdict, Window};
use std::cmp::Reverse;
use std::sync::Arc;

/// A key asked about, with its log (empty where there is none).
#[derive(Debug)]
pub struct KeyLog<'a> {
    pub key: &'a str,
    pub log: Log,
}

/// What is asked about the keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question {
    /// Only rules of this kind; `None` judges those of every kind.
    pub kind: Option<Kind>,
    /// The instant asked for; `None` is now, and then a window has no upper bound.
    pub at: Option<TsMs>,
}

/// What one rule counts in one log.
struct Tally {
    count: u64,
    capped_until: Option<TsMs>,
    partial: bool,
}

impl Tally {
    const NOTHING: Tally = Tally { count: 0, capped_until: None, partial: false };
}

/// Counts the events of `section` that the window holds.
///
/// Entries are sorted by time and leave a window in that order, so with `count` of them from `first` on, the cap ends
/// when entry `first + count - limit` leaves: then `limit - 1` are left.
fn tally(policy: &Policy, rule: &Rule, log: &Log, section: &Section, now: TsMs, at: Option<TsMs>) -> Tally {
    let t = at.unwrap_or(now);
    if let Window::Lifetime = rule.window {
        return lifetime(policy, rule.limit, log, section, t);
    }
    let kept = section.kept(policy.history_limit());
    let (first, leaves): (usize, &dyn Fn(TsMs) -> TsMs) = match &rule.window {
        Window::Rolling(span) => {
            let width = span.as_millis();
            let first = kept.partition_point(|entry| entry.ts.saturating_add(width) <= t);
            (first, &move |ts: TsMs| ts.saturating_add(width))
        }
        Window::Calendar(calendar) => {
            let period = calendar.period(t);
            let first = kept.partition_point(|entry| entry.ts < period.start);
            // An entry past the period's end is there only where the clock stepped back: it leaves with its own.
            (first, &move |ts: TsMs| if ts < period.end { period.end } else { calendar.period(ts).end })
        }
        Window::Lifetime => unreachable!("answered above"),
    };
    let last = match at {
        Some(at) => kept.partition_point(|entry| entry.ts <= at).max(first),
        None => kept.len(),
    };
    let count = (last - first) as u64;
    let capped_until = match rule.limit {
        Some(limit) if count >= limit => Some(leaves(kept[first + (count - limit) as usize].ts)),
        _ => None,
    };
    // What a full log no longer keeps might have been in a window that reaches behind its oldest entry.
    let partial = first == 0 && last < kept.len() && section.is_full(policy.history_limit());
    Tally { count, capped_until, partial }
}

fn lifetime(policy: &Policy, limit: Limit, log: &Log, section: &Section, t: TsMs) -> Tally {
    let end = log.newest().unwrap_or_default().saturating_add(policy.lifetime_retention_ms());
    if end <= t {
        return Tally::NOTHING;
    }
    let count = section.lifetime();
    Tally { count, capped_until: limit.filter(|limit| count >= *limit).map(|_| end), partial: false }
}

fn tally_log(policy: &Policy, rule: &Rule, log: &Log, now: TsMs, at: Option<TsMs>) -> Tally {
    log.section(rule.kind).map_or(Tally::NOTHING, |section| tally(policy, rule, log, section, now, at))
}

/// Until when the enforced rules cap a key now; `None` where they do not. `log` must not be void.
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

/// Judges an ad: `keys` are its own key first, then those asked for besides, in the order asked. No log is void.
pub fn judge(policy: &Policy, keys: &[KeyLog<'_>], question: Question, now: TsMs) -> Verdict {
    let mut rules = Vec::new();
    for KeyLog { key, log } in keys {
        let mut shared: Option<Arc<str>> = None;
        for rule in policy.rules().of_key(key) {
            if question.kind.is_none_or(|kind| kind == rule.kind) {
                let key = shared.get_or_insert_with(|| Arc::from(*key));
                rules.push(rule_verdict(policy, rule, key.clone(), log, question.at, now));
            }
        }
    }
    let enforced = |verdict: &&RuleVerdict| verdict.mode == Mode::Enforce && verdict.limit.is_some();
    // `rules` stands in the order that breaks ties, and both searches give the first of equals.
    let capping = rules.iter().filter(enforced).filter(|v| v.capped).min_by_key(|v| Reverse(v.capped_until));
    let binding = capping.or_else(|| rules.iter().filter(enforced).min_by_key(|v| v.remaining));
    match binding {
        Some(binding) => Verdict {
            capped: binding.capped,
            capped_until: binding.capped_until,
            rule: Some(binding.rule.clone()),
            key: Some(binding.key.clone()),
            kind: binding.kind,
            window: Some(binding.window.clone()),
            count: binding.count,
            limit: binding.limit,
            remaining: binding.remaining,
            partial: binding.partial,
            rules,
        },
        None => without_rule(policy, keys, question, now, rules),
    }
}

fn rule_verdict(policy: &Policy, rule: &Rule, key: Arc<str>, log: &Log, at: Option<TsMs>, now: TsMs) -> RuleVerdict {
    let tally = tally_log(policy, rule, log, now, at);
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
fn without_rule(
    policy: &Policy,
    keys: &[KeyLog<'_>],
    question: Question,
    now: TsMs,
    rules: Vec<RuleVerdict>,
) -> Verdict {
    let kind = question.kind.unwrap_or_default();
    let (mut count, mut partial) = (0, false);
    if let Some(section) = keys.first().and_then(|ad| ad.log.section(kind)) {
        let t = question.at.unwrap_or(now);
        let kept = section.kept(policy.history_limit());
        let first = kept.partition_point(|entry| entry.ts <= t.saturating_sub(policy.retention_ms()));
        let last = question.at.map_or(kept.len(), |at| kept.partition_point(|entry| entry.ts <= at).max(first));
        count = (last - first) as u64;
        partial = first == 0 && last < kept.len() && section.is_full(policy.history_limit());
    }
    Verdict {
        capped: false,
        capped_until: None,
        rule: None,
        key: None,
        kind,
        window: None,
        count,
        limit: None,
        remaining: None,
        partial,
        rules,
    }
}
