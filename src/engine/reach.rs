//! Reach and frequency: how many users a key reaches, how often, and how many of them are at their limit. A log in, sums out:
//! a user has one log of a key, so the sums over all logs are exact, and no set of users is needed.

use super::Policy;
use super::judge::{Tally, capped_until, first_of, last_of, reservations_in, tally};
use super::window_exit::WindowExit;
use crate::model::{
    HOUR_MS, Histogram, Kind, Log, Mode, REACH_HOURS, Reach, ReachHour, Rule, Section, TsMs, Window, add_to_histogram,
};
use std::sync::Arc;

/// What is asked about keys.
#[derive(Debug, Clone, PartialEq)]
pub struct ReachQuestion {
    /// The kind of events that are counted.
    pub kind: Kind,
    /// The window in which they are counted.
    pub window: Window,
    /// The instant asked for; `None` is now, and then the window has no upper bound.
    pub at: Option<TsMs>,
}

/// The enforced rule whose limit is held against what a key reaches: of those of the kind, one on the window asked for; of
/// several the one with the lowest limit; of equals the first by id. An exempt key has none.
pub fn limiting_rule<'p>(policy: &'p Policy, key: &str, question: &ReachQuestion) -> Option<&'p Arc<Rule>> {
    let rules = policy.rules().of_key(key).iter();
    let limiting =
        rules.filter(|rule| rule.mode == Mode::Enforce && rule.kind == question.kind && rule.limit.is_some());
    limiting.min_by_key(|rule| (rule.window != question.window, rule.limit))
}

/// What a window counts of a log, whether a rule on the key has such a window or not.
pub(super) fn count_in(
    policy: &Policy,
    (key, window): (&str, &Window),
    (kind, log): (Kind, &Log),
    now: TsMs,
    at: Option<TsMs>,
) -> Tally {
    let Some(section) = log.section(kind) else { return Tally::NOTHING };
    tally(policy, (&WindowExit::while_held(policy, key, window, log), None), section, now, at)
}

/// What a log adds to what its key reaches. Returns how many events it has in the window.
pub fn add_reach(
    reach: &mut Reach,
    policy: &Policy,
    (key, limiting): (&str, Option<&Rule>),
    log: &Log,
    question: &ReachQuestion,
    now: TsMs,
) -> u64 {
    let ReachQuestion { kind, window, at } = question;
    let counted = count_in(policy, (key, window), (*kind, log), now, *at);
    if counted.count > 0 {
        reach.reached.add(counted.count);
        let is_whole = matches!(window, Window::Lifetime) || counted.count < policy.history_limit() as u64;
        reach.saturated += u64::from(!is_whole || counted.partial);
    }
    if let Some(rule) = limiting
        && let Some(limit) = rule.limit
    {
        let is_same = rule.window == *window;
        let count = if is_same { counted } else { count_in(policy, (key, &rule.window), (*kind, log), now, *at) }.count;
        reach.at_limit += u64::from(count == limit);
        if count > limit {
            reach.over.add(count - limit);
        }
    }
    reach.capped_now += u64::from(capped_until(policy, key, log, now).is_some());
    counted.count
}

/// Counts what one key reaches.
#[derive(Debug)]
pub struct ReachCounter {
    key: String,
    question: ReachQuestion,
    now: TsMs,
    limiting: Option<Arc<Rule>>,
    reach: Reach,
    histogram: Histogram,
    hours: Option<Box<[ReachHour; REACH_HOURS]>>,
}

/// What one key reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyReach {
    /// The rule whose limit is meant.
    pub limiting: Option<Arc<Rule>>,
    /// The sums.
    pub reach: Reach,
    /// By frequency.
    pub histogram: Histogram,
    /// By hour, where it was asked for: the last one ends at the instant asked for.
    pub hours: Option<Box<[ReachHour; REACH_HOURS]>>,
}

impl ReachCounter {
    /// For a key at `now`, by the rules in force; `by_hour` for the curve of the 24 hours before the instant asked for, too.
    pub fn new(policy: &Policy, key: &str, question: ReachQuestion, by_hour: bool, now: TsMs) -> Self {
        Self {
            key: key.to_owned(),
            limiting: limiting_rule(policy, key, &question).cloned(),
            question,
            now,
            reach: Reach::default(),
            histogram: Histogram::default(),
            hours: by_hour.then(Box::default),
        }
    }

    /// Adds the log of a user, as reads see it at that instant.
    pub fn add(&mut self, policy: &Policy, log: &Log) {
        let limiting = self.limiting.as_deref();
        let count = add_reach(&mut self.reach, policy, (&self.key, limiting), log, &self.question, self.now);
        if count > 0 {
            add_to_histogram(&mut self.histogram, count);
        }
        if let Some(hours) = &mut self.hours
            && let Some(section) = log.section(self.question.kind)
        {
            add_hours(hours, policy, log, section, self.question.at, self.now);
        }
    }

    /// The sums.
    pub fn finish(self) -> KeyReach {
        let Self { limiting, reach, histogram, mut hours, .. } = self;
        if let Some(hours) = &mut hours {
            let mut cumulative = 0;
            for hour in hours.iter_mut() {
                cumulative += hour.cumulative;
                hour.cumulative = cumulative;
            }
        }
        KeyReach { limiting, reach, histogram, hours }
    }
}

/// Adds a log to the hours of the day that ends at `at`, or now. Until [`ReachCounter::finish`], `cumulative` has the users of
/// whom the hour is the first.
fn add_hours(
    hours: &mut [ReachHour; REACH_HOURS],
    policy: &Policy,
    log: &Log,
    section: &Section,
    at: Option<TsMs>,
    now: TsMs,
) {
    const DAY_MS: u64 = REACH_HOURS as u64 * HOUR_MS;
    let t = at.unwrap_or(now);
    let day = Window::rolling_ms(DAY_MS);
    let exit = WindowExit::of(policy, &day, log);
    let kept = section.kept(policy.history_limit());
    let first = first_of(&exit, kept, t);
    let entries = kept[first..last_of(kept, first, at)].iter().map(|entry| entry.ts);
    let held = reservations_in(section, &exit, t, at).map(|(held, _)| held.ts);
    let mut counts = [0u64; REACH_HOURS];
    for ts in entries.chain(held) {
        // What is ahead of the clock is in the last hour.
        let back = usize::try_from(t.0.saturating_sub(ts.0) / HOUR_MS).unwrap_or(usize::MAX);
        counts[REACH_HOURS - 1 - back.min(REACH_HOURS - 1)] += 1;
    }
    let mut is_first = true;
    for (hour, count) in hours.iter_mut().zip(counts) {
        if count > 0 {
            hour.reached.add(count);
            hour.cumulative += u64::from(std::mem::take(&mut is_first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, KeyPattern, Reservation, RuleId, RuleSet, UserEvents};

    const T: u64 = 1_732_233_600_000;
    const NOW: TsMs = TsMs(T);

    fn rule(id: &str, limit: Option<u64>, window: &str) -> Rule {
        let window = Window::read_json(&format!("\"{window}\"")).unwrap();
        let (id, key) = (RuleId::new(id).unwrap(), KeyPattern::new("da:*").unwrap());
        Rule { id, key, kind: Kind::IMPRESSION, limit, window, mode: Mode::Enforce }
    }

    fn policy(rules: impl IntoIterator<Item = Rule>) -> Policy {
        Policy::new(RuleSet::new(rules), 4, 40 * 86_400_000, 0, 0)
    }

    fn log(ages: &[u64]) -> Log {
        let mut log = Log::default();
        for &age in ages {
            log.insert(Kind::IMPRESSION, Entry { ts: TsMs(T - age), hash: 0 }, 4);
        }
        log
    }

    fn asked(window: &str) -> ReachQuestion {
        let window = Window::read_json(&format!("\"{window}\"")).unwrap();
        ReachQuestion { kind: Kind::IMPRESSION, window, at: None }
    }

    #[test]
    fn the_limit_is_that_of_the_window_asked_for_and_else_the_lowest() {
        let policy = policy([rule("a", Some(9), "1d"), rule("b", Some(3), "5d"), rule("c", Some(2), "7d")]);
        let chosen = |window| limiting_rule(&policy, "da:1", &asked(window)).map(|rule| rule.id.as_str());
        assert_eq!([chosen("1d"), chosen("5d"), chosen("2d")], [Some("a"), Some("b"), Some("c")]);
        assert_eq!(limiting_rule(&policy, "campaign:1", &asked("1d")), None);
    }

    #[test]
    fn users_are_counted_by_how_often_they_see_it() {
        let policy = policy([rule("a", Some(2), "1d")]);
        let mut counter = ReachCounter::new(&policy, "da:1", asked("10s"), true, NOW);
        for ages in [&[1][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4], &[10_000], &[9_999, 20_000, 30_000]] {
            counter.add(&policy, &log(ages));
        }
        let KeyReach { reach, histogram, limiting, hours } = counter.finish();
        assert_eq!(limiting.unwrap().id.as_str(), "a");
        assert_eq!(reach.reached, UserEvents { users: 5, impressions: 11 });
        // In the day of the rule the last has three.
        assert_eq!((reach.at_limit, reach.over), (1, UserEvents { users: 3, impressions: 4 }));
        assert_eq!((reach.capped_now, reach.saturated), (4, 1));
        assert_eq!(histogram[0], UserEvents { users: 2, impressions: 2 });
        assert_eq!(histogram[3], UserEvents { users: 1, impressions: 4 });
        let hours = hours.unwrap();
        assert_eq!(hours[23], ReachHour { reached: UserEvents { users: 6, impressions: 14 }, cumulative: 6 });
        assert_eq!(hours[22], ReachHour::default());
    }

    #[test]
    fn a_reservation_counts_like_an_event_until_it_lapses() {
        let policy = policy([]);
        let mut held = log(&[HOUR_MS]);
        for expires_at in [TsMs(T + 1), TsMs(T)] {
            let reservation = Reservation { ts: TsMs(T - 5), expires_at, hash: 1, keys: Box::default() };
            held.add_reservation(Kind::IMPRESSION, reservation);
        }
        policy.refresh("da:1", &mut held, NOW);
        let mut counter = ReachCounter::new(&policy, "da:1", asked("1d"), true, NOW);
        counter.add(&policy, &held);
        let KeyReach { reach, hours, limiting, .. } = counter.finish();
        assert_eq!((reach.reached, limiting), (UserEvents { users: 1, impressions: 2 }, None));
        let told: Vec<_> = hours.unwrap()[21..].iter().map(|it| (it.reached.users, it.cumulative)).collect();
        assert_eq!(told, [(0, 0), (1, 1), (1, 1)]);
    }
}
