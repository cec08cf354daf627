//! What a rule that is not in force would do to what is held: which caps would come and go, and what it would have refused.

use super::Policy;
use super::judge::capped_until;
use super::quantiles::QuantileSketch;
use super::reach::count_in;
use crate::model::{Entry, KeyPattern, Limit, Log, Quantiles, Rule, RuleSet, Trial, TsMs, Window, add_to_histogram};
use std::collections::VecDeque;
use std::sync::Arc;

/// Counts what a rule would do.
#[derive(Debug)]
pub struct TrialCounter {
    rule: Rule,
    /// The rule of the same id, in whose place it would come.
    replaced: Option<Arc<Rule>>,
    before: Arc<Policy>,
    after: Policy,
    now: TsMs,
    trial: Trial,
    until: QuantileSketch,
    /// The user who was counted last.
    user: Option<String>,
}

/// The rules in force with another one, in the place of that of the same id if there is one.
fn with_rule(policy: &Policy, rule: &Rule) -> Policy {
    let others = policy.rules().iter().filter(|other| other.id != rule.id).map(|other| (**other).clone());
    policy.with_rules(RuleSet::new(others.chain([rule.clone()])), policy.revision())
}

impl TrialCounter {
    /// For a rule beside, or instead of one of, the rules in force at `now`.
    pub fn new(policy: &Arc<Policy>, rule: Rule, now: TsMs) -> Self {
        Self {
            replaced: policy.rules().iter().find(|other| other.id == rule.id).cloned(),
            after: with_rule(policy, &rule),
            before: policy.clone(),
            rule,
            now,
            trial: Trial::default(),
            until: QuantileSketch::default(),
            user: None,
        }
    }

    /// The keys whose logs are wanted.
    pub fn keys(&self) -> impl Iterator<Item = &KeyPattern> {
        std::iter::once(&self.rule.key).chain(self.replaced.as_ref().map(|replaced| &replaced.key))
    }

    /// Adds the log of a key as it is held, without reservations that have lapsed. The logs of one user come together.
    pub fn add(&mut self, user: &str, key: &str, log: &Log) {
        // The rules say how long a log is kept, too.
        let is_void = [&*self.before, &self.after].map(|policy| policy.is_void(key, log, self.now));
        let mut without_events = Log::default();
        if is_void.contains(&true) {
            without_events = log.clone();
            without_events.drop_events();
        }
        let [before, after] = is_void.map(|is_void| if is_void { &without_events } else { log });
        let is_capped = capped_until(&self.before, key, before, self.now).is_some();
        let until = capped_until(&self.after, key, after, self.now);
        match until {
            Some(until) if !is_capped => {
                self.trial.newly_capped += 1;
                self.until.add(until.0.saturating_sub(self.now.0));
            }
            None if is_capped => self.trial.no_longer_capped += 1,
            _ => {}
        }
        if self.rule.key.names(key) {
            self.add_events(user, key, after);
        }
    }

    fn add_events(&mut self, user: &str, key: &str, log: &Log) {
        let Rule { kind, window, limit, .. } = &self.rule;
        let Some(section) = log.section(*kind) else { return };
        let count = count_in(&self.after, (key, window), (*kind, log), self.now, None).count;
        if count > 0 {
            add_to_histogram(&mut self.trial.histogram, count);
            if self.user.as_deref() != Some(user) {
                self.trial.users += 1;
                self.user = Some(user.to_owned());
            }
        }
        let kept = section.kept(self.after.history_limit());
        let (held, refused) = match window {
            Window::Lifetime => {
                let held = section.lifetime();
                (held, limit.map_or(0, |limit| held.saturating_sub(limit)))
            }
            windowed => (kept.len() as u64, refused_of(windowed, *limit, kept)),
        };
        self.trial.held = self.trial.held.saturating_add(held);
        self.trial.refused = self.trial.refused.saturating_add(refused);
    }

    /// The sums.
    pub fn finish(mut self) -> Trial {
        let at = |after: u64| self.now.saturating_add(after);
        let quantiles = self.until.percentile(50).zip(self.until.percentile(95));
        self.trial.until = quantiles.map(|(p50, p95)| Quantiles { p50: at(p50), p95: at(p95) });
        self.trial
    }
}

/// How many of the events a limit over the window would have refused, one after the other. What is refused does not count.
fn refused_of(window: &Window, limit: Limit, events: &[Entry]) -> u64 {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return 0 };
    if events.len() <= limit {
        return 0;
    }
    let mut shown: VecDeque<TsMs> = VecDeque::with_capacity(limit);
    let mut refused = 0;
    for Entry { ts, .. } in events {
        while shown.front().is_some_and(|first| has_left(window, *first, *ts)) {
            shown.pop_front();
        }
        if shown.len() >= limit {
            refused += 1;
        } else {
            shown.push_back(*ts);
        }
    }
    refused
}

/// Whether an event has left the window at a later instant.
fn has_left(window: &Window, ts: TsMs, at: TsMs) -> bool {
    match window {
        Window::Rolling(span) => ts.saturating_add(span.as_millis()) <= at,
        Window::Calendar(calendar) => ts < calendar.period(at).start,
        Window::Lifetime => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Mode, RuleId, UserEvents};

    const T: u64 = 1_732_233_600_000;
    const NOW: TsMs = TsMs(T);

    fn rule(id: &str, key: &str, limit: Option<u64>, window: &str) -> Rule {
        let window = Window::read_json(&format!("\"{window}\"")).unwrap();
        let (id, key) = (RuleId::new(id).unwrap(), KeyPattern::new(key).unwrap());
        Rule { id, key, kind: Kind::IMPRESSION, limit, window, mode: Mode::Enforce }
    }

    fn log(ages: &[u64]) -> Log {
        let mut log = Log::default();
        for &age in ages {
            log.insert(Kind::IMPRESSION, Entry { ts: TsMs(T - age), hash: 0 }, 16);
        }
        log
    }

    fn tried(rules: impl IntoIterator<Item = Rule>, rule: Rule) -> Trial {
        let policy = Arc::new(Policy::new(RuleSet::new(rules), 16, 1_000_000, 1_000_000, 0));
        let mut counter = TrialCounter::new(&policy, rule, NOW);
        let logs = [("u1", "da:1", &[1u64, 2, 3][..]), ("u1", "da:2", &[1]), ("u2", "da:1", &[5_000, 8_000, 15_000])];
        for (user, key, ages) in logs {
            if counter.keys().any(|pattern| pattern.names(key)) {
                counter.add(user, key, &log(ages));
            }
        }
        counter.finish()
    }

    #[test]
    fn a_tighter_rule_caps_more_and_says_until_when() {
        let trial = tried([rule("a", "da:*", Some(4), "1d")], rule("b", "da:*", Some(2), "10s"));
        assert_eq!((trial.users, trial.newly_capped, trial.no_longer_capped), (2, 2, 0));
        // The first leaves 10 s after it was.
        let until = Quantiles { p50: TsMs(T + 2_000), p95: TsMs(T + 9_998) };
        assert_eq!(trial.until, Some(until));
        assert_eq!((trial.held, trial.refused), (7, 1));
        assert_eq!(trial.histogram[0], UserEvents { users: 1, impressions: 1 });
        assert_eq!(trial.histogram[1], UserEvents { users: 1, impressions: 2 });
    }

    #[test]
    fn a_rule_takes_the_place_of_the_one_of_its_id_and_of_those_of_the_level() {
        let capping = || rule("a", "da:*", Some(1), "1d");
        let exact = tried([capping()], rule("b", "da:1", Some(9), "1d"));
        assert_eq!((exact.no_longer_capped, exact.newly_capped, exact.users), (2, 0, 2));
        let replaced = tried([capping()], rule("a", "da:2", Some(1), "1d"));
        assert_eq!((replaced.no_longer_capped, replaced.users, replaced.until), (2, 1, None));
        let exempt = tried([capping()], rule("b", "da:*", None, "1d"));
        assert_eq!((exempt.no_longer_capped, exempt.refused, exempt.held), (3, 0, 7));
    }

    #[test]
    fn what_is_refused_does_not_count_against_what_comes_after() {
        let refused = |window: &str, limit, ages: &[u64]| {
            let window = Window::read_json(window).unwrap();
            refused_of(&window, limit, &log(ages).sections[0].entries)
        };
        assert_eq!(refused(r#""10s""#, Some(1), &[30_000, 21_000, 19_999, 12_000]), 2);
        assert_eq!(refused(r#""10s""#, None, &[3, 2, 1]), 0);
        let day = r#"{"calendar":"day","tz":"UTC"}"#;
        assert_eq!(refused(day, Some(1), &[86_400_001, 86_400_000, 1, 0]), 1);
    }
}
