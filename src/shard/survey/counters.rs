//! The counters of a pass, and which of them wants which log.

use super::question::{Found, Question};
use super::top::TopCounter;
use crate::engine::{Policy, ReachCounter, ReachQuestion, TrialCounter};
use crate::model::{KeyPattern, Log, TsMs, Window};
use crate::store::{RowKey, as_stored_key, stored_key};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;

enum Counter {
    Reach(Box<ReachCounter>, TsMs),
    Top(TopCounter, TsMs),
    Trial(Box<TrialCounter>),
}

/// Where the counters of a key are.
type Numbers = SmallVec<[u32; 4]>;

/// Which counter wants which key.
#[derive(Default)]
pub(super) struct Wanted {
    of_key: HashMap<Vec<u8>, Numbers>,
    /// By what the keys of a level begin with; there are few.
    of_level: Vec<(Vec<u8>, Numbers)>,
}

impl Wanted {
    fn add_key(&mut self, key: &str, number: u32) {
        self.of_key.entry(as_stored_key(key)).or_default().push(number);
    }

    fn add_level(&mut self, level: &str, number: u32) {
        let prefix = as_stored_key(&format!("{level}:"));
        match self.of_level.iter_mut().find(|(own, _)| *own == prefix) {
            Some((_, numbers)) => numbers.push(number),
            None => self.of_level.push((prefix, SmallVec::from_slice(&[number]))),
        }
    }

    /// Whether any counter wants the log of a row key.
    pub(super) fn has(&self, row_key: &[u8]) -> bool {
        let key = stored_key(row_key);
        self.of_level.iter().any(|(prefix, _)| key.starts_with(prefix)) || self.of_key.contains_key(key)
    }

    fn counters_of(&self, row_key: &[u8]) -> Numbers {
        let key = stored_key(row_key);
        let of_levels = self.of_level.iter().filter(|(prefix, _)| key.starts_with(prefix));
        let mut numbers: Numbers = of_levels.flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        numbers.extend(self.of_key.get(key).into_iter().flatten().copied());
        // A trial may want a key for two reasons.
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// The counters of all questions of a pass.
pub(super) struct Counters {
    policy: Arc<Policy>,
    now: TsMs,
    all: Vec<Counter>,
    key: String,
}

impl Counters {
    /// For questions at `now`, and which logs they want. Since `held_since` nothing was removed before its retention.
    pub(super) fn new(questions: &[Question], policy: Arc<Policy>, held_since: TsMs, now: TsMs) -> (Self, Wanted) {
        let mut wanted = Wanted::default();
        let held = |keep_ms: u64| held_since.max(now.saturating_sub(keep_ms));
        let mut all = Vec::with_capacity(questions.len());
        for (number, question) in (0..).zip(questions) {
            all.push(match question {
                Question::Reach { key, asked, by_hour } => {
                    wanted.add_key(key.as_str(), number);
                    let counter = ReachCounter::new(&policy, key.as_str(), asked.clone(), *by_hour, now);
                    Counter::Reach(Box::new(counter), held(keep_ms(&policy, asked, Some(key.as_str()))))
                }
                Question::Top { level, asked, top } => {
                    wanted.add_level(level.as_str(), number);
                    let counter = TopCounter::new(asked.clone(), *top, now);
                    Counter::Top(counter, held(keep_ms(&policy, asked, None)))
                }
                Question::Trial { rule, .. } => {
                    let counter = TrialCounter::new(&policy, rule.clone(), now);
                    for pattern in counter.keys() {
                        match pattern {
                            KeyPattern::Exact(key) => wanted.add_key(key.as_str(), number),
                            KeyPattern::Level(level) => wanted.add_level(level.as_str(), number),
                        }
                    }
                    Counter::Trial(Box::new(counter))
                }
            });
        }
        (Self { policy, now, all, key: String::new() }, wanted)
    }

    /// Counts a log that is wanted, as it is stored.
    pub(super) fn add(&mut self, wanted: &Wanted, row_key: &[u8], mut log: Log) {
        let numbers = wanted.counters_of(row_key);
        let (Some(user), Some(())) = (RowKey::user_of(row_key), RowKey::key_into(row_key, &mut self.key)) else {
            return;
        };
        log.drop_lapsed(self.now);
        for &number in &numbers {
            if let Counter::Trial(trial) = &mut self.all[number as usize] {
                trial.add(user, &self.key, &log);
            }
        }
        self.policy.refresh(&self.key, &mut log, self.now);
        for &number in &numbers {
            match &mut self.all[number as usize] {
                Counter::Reach(counter, _) => counter.add(&self.policy, &log),
                Counter::Top(counter, _) => counter.add(&self.policy, &self.key, &log),
                Counter::Trial(_) => {}
            }
        }
    }

    /// What was found, in the order of the questions.
    pub(super) fn finish(self) -> Vec<Found> {
        let policy = &self.policy;
        let found = self.all.into_iter().map(|counter| match counter {
            Counter::Reach(counter, complete_from) => Found::Reach { reach: counter.finish(), complete_from },
            Counter::Top(counter, complete_from) => Found::Top { top: counter.finish(policy), complete_from },
            Counter::Trial(counter) => Found::Trial(counter.finish()),
        });
        found.collect()
    }
}

/// For how long everything is held that a question is about.
fn keep_ms(policy: &Policy, asked: &ReachQuestion, key: Option<&str>) -> u64 {
    match (&asked.window, key) {
        (Window::Lifetime, Some(key)) => policy.keep_ms(key),
        _ => policy.retention_ms(),
    }
}
