//! Reach, frequency and trials of rules, recounted user by user from the oracle's lists.

use crate::model::calendar;
use crate::model::oracle::{Oracle, Settings, kept};
use crate::model::stream::USERS;
use crate::model::world::{Checked, all_keys, same};
use freqcap::engine::{KeyReach, Ledger, Policy, ReachCounter, ReachQuestion, TrialCounter};
use freqcap::model::{
    Histogram, KeyPattern, Mode, Quantiles, Reach, ReachHour, Rule, RuleId, RuleSet, Trial, TsMs, UserEvents, Window,
};
use std::collections::BTreeSet;
use std::sync::Arc;

const HOUR: u64 = 3_600_000;

/// Engine and oracle with the same past.
pub struct Past<'w> {
    pub settings: &'w Settings,
    pub policy: &'w Policy,
    pub ledger: &'w Ledger,
    pub oracle: &'w Oracle,
    pub now: TsMs,
}

impl Past<'_> {
    /// What every key reaches.
    pub fn compare_reach(&self, asked: &ReachQuestion) -> Checked {
        let keys: BTreeSet<String> = all_keys().map(|(_, key)| key).collect();
        for key in keys {
            let mut counter = ReachCounter::new(self.policy, &key, asked.clone(), true, self.now);
            for user in USERS {
                counter.add(self.policy, &self.ledger.log(self.policy, user, &key, self.now));
            }
            same(&format!("what {key} reaches by {asked:?}"), &counter.finish(), &self.reach(&key, asked))?;
        }
        Ok(())
    }

    fn reach(&self, key: &str, asked: &ReachQuestion) -> KeyReach {
        let (settings, now) = (self.settings, self.now);
        let rules = settings.rules_on(key).into_iter();
        let mut limiting: Vec<&Rule> = rules
            .filter(|rule| rule.mode == Mode::Enforce && rule.kind == asked.kind && rule.limit.is_some())
            .collect();
        // "One on the window asked for; of several the one with the lowest limit; of equals the first by id."
        limiting.sort_by_key(|rule| (rule.window != asked.window, rule.limit, rule.id.as_str()));
        let limiting = limiting.first().copied();
        let (mut reach, mut histogram) = (Reach::default(), Histogram::default());
        let mut hours = Box::new([ReachHour::default(); 24]);
        let mut seen_in: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); 24];
        for user in USERS {
            let counted = |window: &Window| {
                let rule = Rule { window: window.clone(), ..unlimited(key, asked) };
                self.oracle.rule_verdict(settings, &rule, user, key, now, asked.at)
            };
            let told = counted(&asked.window);
            if told.count > 0 {
                reach.reached.users += 1;
                reach.reached.impressions += told.count;
                let bin = &mut histogram[told.count.min(10) as usize - 1];
                bin.users += 1;
                bin.impressions += told.count;
                let lifetime = matches!(asked.window, Window::Lifetime);
                let is_full = told.count == settings.history_limit as u64;
                reach.saturated += u64::from(!lifetime && (is_full || told.partial));
            }
            if let Some(rule) = limiting {
                let (count, limit) = (counted(&rule.window).count, rule.limit.unwrap());
                reach.at_limit += u64::from(count == limit);
                if count > limit {
                    reach.over.users += 1;
                    reach.over.impressions += count - limit;
                }
            }
            reach.capped_now += u64::from(self.oracle.user_cap(settings, user, key, now).is_some());
            for ts in self.of_last_day(user, key, asked) {
                let t = asked.at.unwrap_or(now).0;
                let hour = if ts.0 >= t { 23 } else { 23 - ((t - ts.0) / HOUR) as usize };
                hours[hour].reached.impressions += 1;
                seen_in[hour].insert(user);
            }
        }
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (hour, users) in hours.iter_mut().zip(&seen_in) {
            seen.extend(users);
            hour.reached.users = users.len() as u64;
            hour.cumulative = seen.len() as u64;
        }
        KeyReach { limiting: limiting.map(|rule| Arc::new(rule.clone())), reach, histogram, hours: Some(hours) }
    }

    /// The times of the events that are kept, and of reservations, of the 24 hours up to the instant asked for.
    fn of_last_day(&self, user: &'static str, key: &str, asked: &ReachQuestion) -> Vec<TsMs> {
        let log = self.oracle.log(self.settings, user, key, self.now);
        let t = asked.at.unwrap_or(self.now);
        let is_meant = |ts: TsMs| ts.0 + 24 * HOUR > t.0 && asked.at.is_none_or(|at| ts <= at);
        let events = kept(self.settings, log, asked.kind).into_iter().map(|it| it.ts);
        let held = self.oracle.held(user, key, asked.kind, self.now).into_iter().filter(|it| it.expires_at > t);
        events.chain(held.map(|it| it.ts)).filter(|ts| is_meant(*ts)).collect()
    }

    /// What a rule would do.
    pub fn compare_trial(&self, rule: &Rule) -> Checked {
        // Whoever tries a rule reads what is stored, void or not.
        let stored = Policy::new(RuleSet::new([]), self.settings.history_limit, u64::MAX / 2, u64::MAX / 2, 0);
        let policy = Arc::new(self.settings.policy());
        let mut counter = TrialCounter::new(&policy, rule.clone(), self.now);
        for (user, key) in all_keys() {
            let is_wanted = counter.keys().any(|pattern| pattern.names(&key));
            let log = self.ledger.log(&stored, user, &key, self.now);
            if is_wanted && !log.is_empty() {
                counter.add(user, &key, &log);
            }
        }
        same(&format!("what {rule:?} would do"), &counter.finish(), &self.trial(rule))
    }

    fn trial(&self, rule: &Rule) -> Trial {
        let (before, now) = (self.settings, self.now);
        let mut after = before.clone();
        after.rules.retain(|other| other.id != rule.id);
        after.rules.push(rule.clone());
        let (mut trial, mut until) = (Trial::default(), Vec::new());
        let mut users = BTreeSet::new();
        let wildcard = |key: &str| format!("{}:*", key.split(':').next().unwrap());
        let names = |rule: &Rule, key: &str| [key.to_owned(), wildcard(key)].contains(&rule.key.to_string());
        let replaced = before.rules.iter().find(|other| other.id == rule.id);
        for (user, key) in all_keys() {
            // What a longer retention alone would bring back of other keys is not the rule's.
            if !names(rule, &key) && !replaced.is_some_and(|replaced| names(replaced, &key)) {
                continue;
            }
            let was_capped = self.oracle.user_cap(before, user, &key, now).is_some();
            match self.oracle.user_cap(&after, user, &key, now) {
                Some(cap) if !was_capped => {
                    trial.newly_capped += 1;
                    until.push(cap.capped_until);
                }
                None if was_capped => trial.no_longer_capped += 1,
                _ => {}
            }
            if !names(rule, &key) {
                continue;
            }
            let counted = Rule { limit: None, mode: Mode::Enforce, ..rule.clone() };
            let count = self.oracle.rule_verdict(&after, &counted, user, &key, now, None).count;
            if count > 0 {
                users.insert(user);
                let bin = &mut trial.histogram[count.min(10) as usize - 1];
                *bin = UserEvents { users: bin.users + 1, impressions: bin.impressions + count };
            }
            let log = self.oracle.log(&after, user, &key, now);
            let all = log.iter().filter(|it| it.event.kind == rule.kind).count() as u64;
            let times: Vec<TsMs> = kept(&after, log, rule.kind).into_iter().map(|it| it.ts).collect();
            let lifetime = matches!(rule.window, Window::Lifetime);
            trial.held += if lifetime { all } else { times.len() as u64 };
            if let Some(limit) = rule.limit {
                trial.refused += if lifetime { all.saturating_sub(limit) } else { refused(rule, limit, &times) };
            }
        }
        trial.users = users.len() as u64;
        until.sort();
        let nearest_rank = |percent: usize| until[(until.len() * percent).div_ceil(100) - 1];
        trial.until = (!until.is_empty()).then(|| Quantiles { p50: nearest_rank(50), p95: nearest_rank(95) });
        trial
    }
}

/// Each event is shown unless the window at its time has as many that were shown.
fn refused(rule: &Rule, limit: u64, times: &[TsMs]) -> u64 {
    let mut shown: Vec<TsMs> = Vec::new();
    for &t in times {
        let counts = |ts: &&TsMs| match &rule.window {
            Window::Rolling(span) => ts.0 + span.as_millis() > t.0,
            Window::Calendar(window) => **ts >= calendar::period(window.unit(), window.zone(), t).0,
            Window::Lifetime => true,
        };
        if (shown.iter().filter(counts).count() as u64) < limit {
            shown.push(t);
        }
    }
    (times.len() - shown.len()) as u64
}

fn unlimited(key: &str, asked: &ReachQuestion) -> Rule {
    let (id, key) = (RuleId::new("counts").unwrap(), KeyPattern::new(key).unwrap());
    Rule { id, key, kind: asked.kind, limit: None, window: asked.window.clone(), mode: Mode::Enforce }
}
