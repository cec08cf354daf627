//! All that a judgement needs besides the log and the time.

use crate::model::{Log, RuleSet, TsMs, Window};

/// The rules in force and the limits of what is held.
#[derive(Debug)]
pub struct Policy {
    rules: RuleSet,
    history_limit: usize,
    /// As they were asked for.
    settings: (u64, u64),
    retention_ms: u64,
    lifetime_retention_ms: u64,
    max_skew_ms: u64,
    revision: u64,
}

impl Policy {
    /// `retention_ms` is what was asked for; in force is the longest of it and of every rule's window.
    pub fn new(
        rules: RuleSet,
        history_limit: usize,
        retention_ms: u64,
        lifetime_retention_ms: u64,
        max_skew_ms: u64,
    ) -> Self {
        let settings = (retention_ms, lifetime_retention_ms);
        let retention_ms = retention_ms.max(rules.retention_ms());
        let lifetime_retention_ms = lifetime_retention_ms.max(retention_ms);
        Self { rules, history_limit, settings, retention_ms, lifetime_retention_ms, max_skew_ms, revision: 0 }
    }

    /// The same settings with other rules, which are in force as this revision.
    pub fn with_rules(&self, rules: RuleSet, revision: u64) -> Self {
        let (retention_ms, lifetime_retention_ms) = self.settings;
        let policy = Self::new(rules, self.history_limit, retention_ms, lifetime_retention_ms, self.max_skew_ms);
        Self { revision, ..policy }
    }

    /// Rises whenever the rules change, or anything else by which caps may differ: what a cap was judged by.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Events of one kind that a log keeps.
    pub fn history_limit(&self) -> usize {
        self.history_limit
    }

    /// The retention in force, in ms.
    pub fn retention_ms(&self) -> u64 {
        self.retention_ms
    }

    /// How long a log is kept after its newest event where a lifetime rule applies, in ms.
    pub fn lifetime_retention_ms(&self) -> u64 {
        self.lifetime_retention_ms
    }

    pub fn max_skew_ms(&self) -> u64 {
        self.max_skew_ms
    }

    /// Tells policies apart by which caps may differ. Not part of any format: another version may tell another.
    pub fn fingerprint(&self) -> u64 {
        let rules: Vec<_> = self.rules.iter().collect();
        let text = format!("{rules:?} {} {} {}", self.history_limit, self.retention_ms, self.lifetime_retention_ms);
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// How long a log of this key is kept after its newest event, in ms.
    pub fn keep_ms(&self, key: &str) -> u64 {
        let lifetime = self.rules.of_key(key).iter().any(|rule| matches!(rule.window, Window::Lifetime));
        if lifetime { self.lifetime_retention_ms } else { self.retention_ms }
    }

    /// Makes of a log as it is stored the log as reads and writes see it: without reservations that have lapsed, and
    /// without events where it is void.
    pub fn refresh(&self, key: &str, log: &mut Log, now: TsMs) {
        log.drop_lapsed(now);
        if !log.is_empty() && self.is_void(key, log, now) {
            log.drop_events();
        }
    }

    /// Whether the events of a log are so old that reads and writes treat them as absent.
    pub fn is_void(&self, key: &str, log: &Log, now: TsMs) -> bool {
        match log.newest() {
            None => true,
            Some(newest) => {
                // Most logs are younger than the shorter retention: no rule need be looked up.
                newest <= now.saturating_sub(self.retention_ms) && newest <= now.saturating_sub(self.keep_ms(key))
            }
        }
    }
}
