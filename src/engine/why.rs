//! Why a verdict is what it is: what the binding rule counts and until when, and which rules do not speak.

use super::Policy;
use super::judge::{Applied, Bound, KeyLog, Question, bind, first_of, last_of, reservations_in};
use super::window_exit::WindowExit;
use crate::model::{CountedEvent, Displaced, MAX_WHY_EVENTS, NextCount, Rule, Section, TsMs, Why, WhyCode, Window};
use jiff::Timestamp;
use std::sync::Arc;

/// Explains the verdict that [`super::judge`] gives on the same logs, question and instant.
pub fn why(policy: &Policy, keys: &[KeyLog<'_>], question: Question, now: TsMs) -> Why {
    let (mut exempting, mut has_shadow) = (None, false);
    let bound = bind(policy, keys, question, now, |number, rule, applied| match applied {
        Applied::Enforced(_) if rule.limit.is_none() => exempting = exempting.or(Some((number, rule))),
        Applied::Enforced(_) => {}
        Applied::Shadow(_) => has_shadow = true,
    });
    let as_of = question.at.unwrap_or(now);
    let mut why = Why {
        code: WhyCode::NoRule,
        text: "no rule speaks for these keys".to_owned(),
        next: None,
        needed: None,
        events: Vec::new(),
        events_omitted: 0,
        displaced: displaced(policy, keys, question),
        as_of,
        revision: policy.revision(),
    };
    if let Some(bound) = bound {
        explain_bound(&mut why, policy, keys[bound.key], &bound, question, as_of);
    } else if let Some((number, rule)) = exempting {
        why.code = WhyCode::Exempt;
        why.text = format!("the rule {} exempts {}", rule.id.as_str(), keys[number].key);
    } else if has_shadow {
        why.code = WhyCode::ShadowOnly;
        why.text = "only shadow rules speak for these keys, and they never cap".to_owned();
    }
    why
}

fn explain_bound(why: &mut Why, policy: &Policy, keyed: KeyLog<'_>, bound: &Bound<'_>, question: Question, t: TsMs) {
    let rule = bound.rule;
    if let Some(section) = keyed.log.section(rule.kind) {
        let exit = WindowExit::of(policy, rule, keyed.log);
        let counted = counted(policy, keyed.key, section, &exit, question.at, t);
        let all = bound.tally.count.max(counted.len() as u64);
        if let Some(at) = counted.iter().map(|event| event.leaves_at).min() {
            let leaving = counted.iter().filter(|event| event.leaves_at == at).count() as u64;
            // What a lifetime counts and no longer keeps leaves together with what it keeps.
            let unkept = all - counted.len() as u64;
            let unkept = if matches!(&exit, WindowExit::Lifetime(end, _) if *end == at) { unkept } else { 0 };
            why.next = Some(NextCount { at, count: all - leaving - unkept });
        }
        let first = counted.len().saturating_sub(MAX_WHY_EVENTS);
        why.events_omitted = all - (counted.len() - first) as u64;
        why.events = counted.into_iter().skip(first).collect();
    }
    why.code = if bound.is_capped() { WhyCode::Capped } else { WhyCode::UnderLimit };
    why.needed = bound.remaining().filter(|left| *left > 0);
    why.text = sentence(rule, keyed.key, bound, why.next);
}

/// What the window holds at `t`: the events, oldest first, and then the reservations.
fn counted(
    policy: &Policy,
    key: &str,
    section: &Section,
    exit: &WindowExit<'_>,
    at: Option<TsMs>,
    t: TsMs,
) -> Vec<CountedEvent> {
    let da: Option<Arc<str>> = key.strip_prefix("da:").map(Arc::from);
    let kept = section.kept(policy.history_limit());
    let entries = match exit {
        // All or nothing: of `at` a lifetime asks only whether it has ended.
        WindowExit::Lifetime(end, _) if *end <= t => &[],
        WindowExit::Lifetime(..) => kept,
        windowed => {
            let first = first_of(windowed, kept, t);
            &kept[first..last_of(kept, first, at)]
        }
    };
    let events = entries.iter().map(|entry| CountedEvent {
        ts: entry.ts,
        da: da.clone(),
        hash: (entry.hash != 0).then_some(entry.hash),
        expires_at: None,
        leaves_at: exit.event(entry.ts),
    });
    let at = if matches!(exit, WindowExit::Lifetime(..)) { None } else { at };
    let reserved = reservations_in(section, exit, t, at).map(|(held, leaves_at)| CountedEvent {
        ts: held.ts,
        da: da.clone(),
        hash: Some(held.hash),
        expires_at: Some(held.expires_at),
        leaves_at,
    });
    events.chain(reserved).collect()
}

fn displaced(policy: &Policy, keys: &[KeyLog<'_>], question: Question) -> Vec<Displaced> {
    let mut displaced = Vec::new();
    for KeyLog { key, .. } in keys {
        let mut named: Option<Arc<str>> = None;
        for it in policy.rules().displaced_of(key) {
            if question.kind.is_none_or(|kind| kind == it.rule.kind) {
                displaced.push(Displaced {
                    rule: it.rule.id.clone(),
                    key: named.get_or_insert_with(|| Arc::from(*key)).clone(),
                    kind: it.rule.kind,
                    by: it.by.id.clone(),
                    reason: it.reason,
                });
            }
        }
    }
    displaced
}

/// `5 of 5 impressions of campaign:42 in 24h; the first leaves at 2026-11-26T10:00:00Z`.
fn sentence(rule: &Rule, key: &str, bound: &Bound<'_>, next: Option<NextCount>) -> String {
    let window = match &rule.window {
        Window::Rolling(span) => format!("in {span}"),
        Window::Calendar(calendar) => format!("in this {} of {}", calendar.unit().name(), calendar.zone().name()),
        Window::Lifetime => "ever".to_owned(),
    };
    let limit = rule.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let mut text = format!("{}{limit} {}s of {key} {window}", bound.tally.count, rule.kind);
    let leaving = match (bound.tally.capped_until, next) {
        (Some(until), Some(next)) if until != next.at => Some((next.at, Some(until))),
        (_, Some(next)) => Some((next.at, None)),
        (until, None) => until.map(|until| (until, None)),
    };
    if let Some((first, until)) = leaving {
        text += &format!("; the first leaves at {}", written(first));
        if let Some(until) = until {
            text += &format!(", and the cap ends at {}", written(until));
        }
    }
    text
}

fn written(t: TsMs) -> String {
    let instant = i64::try_from(t.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(|| t.to_string(), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::judge;
    use crate::model::{Entry, KeyPattern, Kind, Log, Mode, Reservation, RuleId, RuleSet};

    const T: u64 = 1_732_233_600_000;
    const NOW: TsMs = TsMs(T + 10_000);

    fn rule(id: &str, key: &str, limit: Option<u64>, window: &str) -> Rule {
        let window = Window::read_json(&format!("\"{window}\"")).unwrap();
        let (id, key) = (RuleId::new(id).unwrap(), KeyPattern::new(key).unwrap());
        Rule { id, key, kind: Kind::IMPRESSION, limit, window, mode: Mode::Enforce }
    }

    fn policy(rules: impl IntoIterator<Item = Rule>) -> Policy {
        Policy::new(RuleSet::new(rules), 4, 60_000, 600_000, 0).with_rules(RuleSet::new([]), 6)
    }

    fn log(times: &[u64]) -> Log {
        let mut log = Log::default();
        for &at in times {
            log.insert(Kind::IMPRESSION, Entry { ts: TsMs(T + at), hash: at }, 4);
        }
        log
    }

    fn explained(rules: &[Rule], key: &str, log: &Log) -> Why {
        let policy = policy([]).with_rules(RuleSet::new(rules.iter().cloned()), 7);
        let keys = [KeyLog { key, log }];
        let question = Question::default();
        let (verdict, why) = (judge(&policy, &keys, question, NOW, |_| {}), why(&policy, &keys, question, NOW));
        assert_eq!(verdict.capped, why.code == WhyCode::Capped);
        assert_eq!((why.as_of, why.revision), (NOW, 7));
        if verdict.rule.is_some() {
            assert_eq!(verdict.count, why.events.len() as u64 + why.events_omitted);
        }
        why
    }

    #[test]
    fn a_cap_is_explained_by_what_the_rule_counts() {
        let mut held = log(&[0, 5_000, 9_000]);
        let reservation =
            Reservation { ts: TsMs(T + 9_500), expires_at: TsMs(T + 12_000), hash: 8, keys: Box::default() };
        held.add_reservation(Kind::IMPRESSION, reservation);
        let why = explained(&[rule("a", "da:*", Some(2), "10s")], "da:7", &held);
        assert_eq!(why.code, WhyCode::Capped);
        // What happened at 0 has left at 10 s; the reservation lapses before the others leave.
        let told: Vec<_> = why.events.iter().map(|it| (it.ts.0 - T, it.hash, it.leaves_at.0 - T)).collect();
        let expected = [(5_000, Some(5_000), 15_000), (9_000, Some(9_000), 19_000), (9_500, Some(8), 12_000)];
        assert_eq!(told, expected);
        assert_eq!(why.next, Some(NextCount { at: TsMs(T + 12_000), count: 2 }));
        assert_eq!((why.needed, why.events[0].da.as_deref()), (None, Some("7")));
        assert_eq!(
            why.text,
            "3 of 2 impressions of da:7 in 10s; the first leaves at 2024-11-22T00:00:12Z, and the cap ends at 2024-11-22T00:00:15Z"
        );
    }

    #[test]
    fn a_lifetime_counts_what_it_no_longer_keeps_and_all_leaves_at_once() {
        let why = explained(&[rule("a", "c:*", Some(9), "lifetime")], "c:1", &log(&[1, 2, 3, 4, 5, 6]));
        assert_eq!((why.code, why.needed, why.events.len(), why.events_omitted), (WhyCode::UnderLimit, Some(3), 4, 2));
        assert_eq!(why.next, Some(NextCount { at: TsMs(T + 6 + 600_000), count: 0 }));
        assert_eq!(why.events[0].da, None);
        assert!(why.text.starts_with("6 of 9 impressions of c:1 ever; the first leaves at "), "{}", why.text);
    }

    #[test]
    fn what_does_not_cap_is_explained_too() {
        let empty = Log::default();
        assert_eq!(explained(&[], "da:7", &empty).code, WhyCode::NoRule);
        let under = explained(&[rule("a", "da:*", Some(2), "1d")], "da:7", &empty);
        assert_eq!((under.code, under.needed, under.next), (WhyCode::UnderLimit, Some(2), None));
        assert_eq!(under.text, "0 of 2 impressions of da:7 in 1d");
        let shadow = Rule { mode: Mode::Shadow, ..rule("a", "da:*", Some(2), "1d") };
        assert_eq!(explained(&[shadow], "da:7", &empty).code, WhyCode::ShadowOnly);
        let exempt = explained(&[rule("a", "da:*", Some(2), "1d"), rule("b", "da:7", None, "1d")], "da:7", &empty);
        assert_eq!((exempt.code, exempt.text.as_str()), (WhyCode::Exempt, "the rule b exempts da:7"));
        assert_eq!((exempt.displaced.len(), exempt.displaced[0].by.as_str()), (1, "b"));
    }
}
