//! Over-delivery: events of keys that a rule had capped when they happened, and why they came about nevertheless.

use super::Policy;
use super::judge::tally_at;
use crate::model::{Entry, Kind, Log, Mode, OverCause, RuleId, TsMs};

/// An enforced rule that had capped a key when an event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverRule {
    /// The rule; of several the one that capped for longest.
    pub rule: RuleId,
    /// What it counted before the event.
    pub count: u64,
    /// Its limit.
    pub limit: u64,
    /// Until when it capped.
    pub capped_until: TsMs,
}

/// What is known of the cap that an event exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapKnown {
    /// Since an instant.
    Since {
        /// When it was counted: from then on it could be read here.
        at: TsMs,
        /// Whether a rule that changed made it, and no event.
        by_rules: bool,
        /// When outside readers could read it.
        readable: Readable,
    },
    /// Since the turn that counted the event, or after it: nobody could know.
    Now,
    /// By a rule that changed, for keys not judged again yet.
    ByRules,
}

/// When outside readers could read a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Since it was known: there is no mirror.
    AtOnce,
    /// Since Redis has acknowledged it.
    Since(TsMs),
    /// Redis has not acknowledged it yet.
    NotYet,
}

/// An event that is over, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct OverEvent {
    /// When it happened.
    pub ts: TsMs,
    /// When it was counted.
    pub now: TsMs,
    /// Whether it came from Kafka.
    pub from_kafka: bool,
    /// Whether there was a reservation for it, which is gone.
    pub was_reserved: bool,
    /// The cap.
    pub cap: CapKnown,
}

/// The enforced rule that had capped a key at `ts` for events of a kind, by the key's log before the event.
pub fn over(policy: &Policy, key: &str, log: &Log, kind: Kind, ts: TsMs) -> Option<OverRule> {
    let section = log.section(kind)?;
    let mut over: Option<OverRule> = None;
    for rule in policy.rules().of_key(key).iter().filter(|rule| rule.mode == Mode::Enforce && rule.kind == kind) {
        let Some(limit) = rule.limit else { continue };
        let tally = tally_at(policy, rule, log, section, ts);
        if let Some(capped_until) = tally.capped_until
            && over.as_ref().is_none_or(|other| capped_until > other.capped_until)
        {
            over = Some(OverRule { rule: rule.id.clone(), count: tally.count, limit, capped_until });
        }
    }
    over
}

/// Whether a log has so few events of a kind that no rule can have capped its key for them. This spares nearly all events the
/// question.
#[inline]
pub fn is_below_all_limits(policy: &Policy, log: &Log, kind: Kind) -> bool {
    log.section(kind)
        .is_none_or(|section| section.lifetime() + (section.reservations.len() as u64) < policy.rules().least_limit())
}

/// Whether an event takes the place that was reserved for it: then it is not over, whatever came meanwhile.
pub fn has_reservation(ad_log: &Log, kind: Kind, entry: Entry) -> bool {
    entry.hash != 0 && ad_log.reservation(kind, entry.hash).is_some()
}

/// Why an event is over. Each has one cause: the first that holds.
pub fn cause(policy: &Policy, event: &OverEvent) -> OverCause {
    let OverEvent { ts, now, from_kafka, was_reserved, cap } = *event;
    if from_kafka && now.0.saturating_sub(ts.0) > policy.max_skew_ms() {
        return OverCause::Backfill;
    }
    if was_reserved {
        return OverCause::Lapsed;
    }
    match cap {
        CapKnown::Now => OverCause::InFlight,
        CapKnown::ByRules => OverCause::RuleChange,
        CapKnown::Since { at, by_rules: true, .. } if ts < at => OverCause::RuleChange,
        CapKnown::Since { at, .. } if ts < at => OverCause::InFlight,
        CapKnown::Since { readable: Readable::AtOnce, .. } => OverCause::Ignored,
        CapKnown::Since { readable: Readable::Since(readable), .. } if ts >= readable => OverCause::Ignored,
        CapKnown::Since { readable: Readable::Since(_) | Readable::NotYet, .. } => OverCause::Mirror,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyPattern, Reservation, Rule, RuleSet, Window};
    use proptest::prelude::*;

    const DAY: u64 = 86_400_000;

    fn rule(id: &str, limit: Option<u64>, window: &str, mode: Mode, kind: Kind) -> Rule {
        let window = Window::read_json(&format!("\"{window}\"")).unwrap();
        let (id, key) = (RuleId::new(id).unwrap(), KeyPattern::new("da:*").unwrap());
        Rule { id, key, kind, limit, window, mode }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy::new(RuleSet::new(rules), 256, 7 * DAY, 7 * DAY, 60_000)
    }

    fn log(times: &[u64]) -> Log {
        let mut log = Log::default();
        for &ts in times {
            log.insert(Kind::IMPRESSION, Entry { ts: TsMs(ts), hash: ts }, 256);
        }
        log
    }

    #[test]
    fn the_rule_that_capped_for_longest_is_told_and_other_kinds_and_shadows_are_not() {
        let policy = policy(vec![
            rule("long", Some(3), "1h", Mode::Enforce, Kind::IMPRESSION),
            rule("short", Some(1), "1m", Mode::Enforce, Kind::IMPRESSION),
            rule("shadow", Some(1), "7d", Mode::Shadow, Kind::IMPRESSION),
            rule("clicks", Some(1), "7d", Mode::Enforce, Kind::CLICK),
        ]);
        let t = 1_732_233_600_000;
        let told = |log: &Log, at: u64| over(&policy, "da:1", log, Kind::IMPRESSION, TsMs(at)).map(|over| over.rule);
        let is = |id: &str| Some(RuleId::new(id).unwrap());
        assert_eq!(told(&log(&[]), t), None);
        assert_eq!(told(&log(&[t]), t + 1), is("short"));
        assert_eq!(told(&log(&[t, t + 1, t + 2]), t + 3), is("long"));
        assert_eq!(told(&log(&[t]), t + 60_000), None, "it had left the window");
        assert_eq!(told(&log(&[t + 5]), t), None, "it came before it happened");
        assert_eq!(over(&policy, "da:1", &log(&[t]), Kind::CLICK, TsMs(t + 1)), None);
    }

    #[test]
    fn what_is_reserved_caps_others_and_not_itself() {
        let policy = policy(vec![rule("r", Some(1), "1h", Mode::Enforce, Kind::IMPRESSION)]);
        let mut log = Log::default();
        let held = Reservation { ts: TsMs(1_000), expires_at: TsMs(9_000), hash: 7, keys: Box::default() };
        log.add_reservation(Kind::IMPRESSION, held);
        let event = |hash| Entry { ts: TsMs(2_000), hash };
        assert!(
            has_reservation(&log, Kind::IMPRESSION, event(7)) && !has_reservation(&log, Kind::IMPRESSION, event(8))
        );
        assert!(over(&policy, "da:1", &log, Kind::IMPRESSION, TsMs(2_000)).is_some());
        assert!(over(&policy, "da:1", &log, Kind::IMPRESSION, TsMs(9_000)).is_none());
    }

    #[test]
    fn each_event_has_one_cause() {
        let policy = policy(Vec::new());
        let since = |at, by_rules, readable| CapKnown::Since { at: TsMs(at), by_rules, readable };
        let soon =
            OverEvent { ts: TsMs(100), now: TsMs(200), from_kafka: false, was_reserved: false, cap: CapKnown::Now };
        for (cap, expected) in [
            (CapKnown::Now, OverCause::InFlight),
            (CapKnown::ByRules, OverCause::RuleChange),
            (since(101, false, Readable::AtOnce), OverCause::InFlight),
            (since(100, false, Readable::AtOnce), OverCause::Ignored),
            (since(101, true, Readable::AtOnce), OverCause::RuleChange),
            (since(99, true, Readable::AtOnce), OverCause::Ignored),
            (since(99, false, Readable::NotYet), OverCause::Mirror),
            (since(99, false, Readable::Since(TsMs(101))), OverCause::Mirror),
            (since(99, false, Readable::Since(TsMs(100))), OverCause::Ignored),
        ] {
            let event = OverEvent { cap, ..soon };
            assert_eq!(cause(&policy, &event), expected, "{cap:?}");
            assert_eq!(cause(&policy, &OverEvent { was_reserved: true, ..event }), OverCause::Lapsed);
            let late = OverEvent { from_kafka: true, now: TsMs(60_101), ..event };
            assert_eq!(cause(&policy, &OverEvent { was_reserved: true, ..late }), OverCause::Backfill);
            assert_eq!(cause(&policy, &OverEvent { now: TsMs(60_100), ..late }), expected, "it came soon enough");
        }
    }

    proptest! {
        /// Against counting by hand: how many of the events so far lie in the window that ends with this one.
        #[test]
        fn an_event_is_over_where_the_window_before_it_is_full(
            events in prop::collection::vec(0u64..2_000, 1..60),
            limits in prop::collection::vec((1u64..6, 1u64..900), 1..4),
        ) {
            let rules = limits.iter().enumerate().map(|(n, (limit, window))| {
                rule(&format!("r{n}"), Some(*limit), &format!("{window}ms"), Mode::Enforce, Kind::IMPRESSION)
            });
            let policy = policy(rules.collect());
            let t = 1_732_233_600_000;
            for number in 0..events.len() {
                let before: Vec<u64> = events[..number].iter().map(|ts| t + ts).collect();
                let (log, ts) = (log(&before), t + events[number]);
                let is_full = |(limit, window): &(u64, u64)| {
                    before.iter().filter(|&&seen| seen <= ts && seen + window > ts).count() as u64 >= *limit
                };
                let found = over(&policy, "da:1", &log, Kind::IMPRESSION, TsMs(ts));
                prop_assert_eq!(found.is_some(), limits.iter().any(is_full));
                if let Some(found) = &found {
                    prop_assert!(!is_below_all_limits(&policy, &log, Kind::IMPRESSION));
                    prop_assert!(found.count >= found.limit && found.capped_until > TsMs(ts));
                }
            }
        }
    }
}
