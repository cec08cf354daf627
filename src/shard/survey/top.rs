//! Which keys of a level reach most users, in bounded memory.

use crate::engine::{Policy, ReachQuestion, add_reach, limiting_rule};
use crate::model::{Limit, Log, Reach, TsMs};
use hashbrown::HashMap;

/// Keys that are counted at a time. With more, half of them are dropped: those that reach fewest users so far.
const KEYS_MAX: usize = 65_536;

/// A key of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopKey {
    /// The key.
    pub key: Box<str>,
    /// What it reaches.
    pub reach: Reach,
    /// The limit that `reach` is held against.
    pub limit: Limit,
    /// At most so many users are missing, since there were too many keys to count all of them from the beginning.
    pub missed: u64,
}

/// The keys of a level that reach most users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopReach {
    /// By users, the most first; then by key.
    pub keys: Vec<TopKey>,
    /// Whether these are they for sure, and no user is missing.
    pub exact: bool,
}

#[derive(Debug, Default)]
struct Counted {
    reach: Reach,
    missed: u64,
}

/// Counts the keys of a level.
#[derive(Debug)]
pub(super) struct TopCounter {
    question: ReachQuestion,
    now: TsMs,
    top: usize,
    keys_max: usize,
    keys: HashMap<Box<str>, Counted>,
    /// No key that was dropped, or is yet to come, has more users than this that were not counted.
    missed: u64,
}

impl TopCounter {
    pub(super) fn new(question: ReachQuestion, top: usize, now: TsMs) -> Self {
        Self { question, now, top, keys_max: KEYS_MAX, keys: HashMap::new(), missed: 0 }
    }

    pub(super) fn add(&mut self, policy: &Policy, key: &str, log: &Log) {
        let limiting = limiting_rule(policy, key, &self.question);
        let mut reach = Reach::default();
        add_reach(&mut reach, policy, (key, limiting.map(|rule| &**rule)), log, &self.question, self.now);
        if reach == Reach::default() {
            return;
        }
        if let Some(counted) = self.keys.get_mut(key) {
            counted.reach.merge(&reach);
            return;
        }
        if self.keys.len() >= self.keys_max {
            self.drop_half();
        }
        self.keys.insert(key.into(), Counted { reach, missed: self.missed });
    }

    fn drop_half(&mut self) {
        let mut users: Vec<u64> = self.keys.values().map(|counted| counted.reach.reached.users).collect();
        let half = users.len() / 2;
        let (_, &mut bound, _) = users.select_nth_unstable(half);
        // Of those with just as many, as many as it takes.
        let mut left = half + 1;
        let missed = &mut self.missed;
        self.keys.retain(|_, counted| {
            let users = counted.reach.reached.users;
            let is_dropped = users <= bound && left > 0;
            if is_dropped {
                left -= 1;
                *missed = (*missed).max(users + counted.missed);
            }
            !is_dropped
        });
    }

    pub(super) fn finish(self, policy: &Policy) -> TopReach {
        let mut keys: Vec<TopKey> = self
            .keys
            .into_iter()
            .filter(|(_, counted)| counted.reach.reached.users > 0)
            .map(|(key, Counted { reach, missed })| TopKey { key, reach, limit: None, missed })
            .collect();
        keys.sort_unstable_by(|a, b| b.reach.reached.users.cmp(&a.reach.reached.users).then_with(|| a.key.cmp(&b.key)));
        let is_cut = keys.len() > self.top;
        keys.truncate(self.top);
        for key in &mut keys {
            key.limit = limiting_rule(policy, &key.key, &self.question).and_then(|rule| rule.limit);
        }
        let least = keys.last().map_or(0, |last| last.reach.reached.users);
        let none_is_missing = self.missed == 0 || is_cut && self.missed <= least;
        let exact = none_is_missing && keys.iter().all(|key| key.missed == 0);
        TopReach { keys, exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, Kind, RuleSet, UserEvents, Window};

    const NOW: TsMs = TsMs(1_732_233_600_000);

    fn counted(keys_max: usize, top: usize, shown: impl IntoIterator<Item = u64>) -> TopReach {
        let policy = Policy::new(RuleSet::new([]), 8, 86_400_000, 0, 0);
        let question = ReachQuestion { kind: Kind::IMPRESSION, window: Window::Lifetime, at: None };
        let mut counter = TopCounter { keys_max, ..TopCounter::new(question, top, NOW) };
        for key in shown {
            let mut log = Log::default();
            log.insert(Kind::IMPRESSION, Entry { ts: NOW, hash: 0 }, 8);
            counter.add(&policy, &format!("c:{key:04}"), &log);
        }
        counter.finish(&policy)
    }

    #[test]
    fn the_keys_with_most_users_come_first() {
        let top = counted(100, 2, [3, 1, 2, 2, 1, 2]);
        let told: Vec<_> = top.keys.iter().map(|it| (&*it.key, it.reach.reached)).collect();
        let users = |users| UserEvents { users, impressions: users };
        assert_eq!(told, [("c:0002", users(3)), ("c:0001", users(2))]);
        assert!(top.exact);
    }

    #[test]
    fn with_too_many_keys_it_says_what_may_be_missing() {
        // Every tenth user sees one of the first ten keys, all others one of their own.
        let shown: Vec<u64> = (0..10_000u64).map(|n| if n % 2 == 0 { n / 2 % 10 } else { 100 + n }).collect();
        let top = counted(64, 10, shown.iter().copied());
        assert_eq!(top.keys.len(), 10);
        assert!(top.exact, "{top:?}");
        assert!(top.keys.iter().all(|key| key.reach.reached.users == 500));
        // Keys that come late may have been there before.
        let top = counted(64, 10, shown.iter().rev().copied().chain((0..20).map(|_| 7_777)));
        let late = top.keys.iter().find(|key| &*key.key == "c:7777");
        assert!(late.is_none_or(|late| late.reach.reached.users + late.missed >= 20));
        let all_alike = counted(64, 10, 0..10_000);
        assert!(!all_alike.exact && all_alike.keys.len() == 10);
    }
}
