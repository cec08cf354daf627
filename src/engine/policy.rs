//! All that a judgement needs besides the log and the time.

use crate::model::{Log, MAX_KINDS, MAX_LOG_EVENTS, Nobody, RuleSet, TsMs, Window};
use std::sync::Arc;

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
    max_kinds: usize,
    duplicate_window_ms: u64,
    nobody: Arc<Nobody>,
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
        Self {
            rules,
            history_limit,
            settings,
            retention_ms,
            lifetime_retention_ms,
            max_skew_ms,
            revision: 0,
            max_kinds: (MAX_LOG_EVENTS / history_limit.max(1)).clamp(1, MAX_KINDS),
            duplicate_window_ms: u64::MAX,
            nobody: Arc::default(),
        }
    }

    /// With another number of kinds that a log holds.
    pub fn with_max_kinds(self, max_kinds: usize) -> Self {
        Self { max_kinds, ..self }
    }

    /// With an id that is new again once its event lies further back than this.
    pub fn with_duplicate_window_ms(self, duplicate_window_ms: u64) -> Self {
        Self { duplicate_window_ms, ..self }
    }

    /// With users that mean nobody.
    pub fn with_nobody(self, nobody: Nobody) -> Self {
        Self { nobody: Arc::new(nobody), ..self }
    }

    /// The same settings with other rules, which are in force as this revision.
    pub fn with_rules(&self, rules: RuleSet, revision: u64) -> Self {
        let (retention_ms, lifetime_retention_ms) = self.settings;
        let policy = Self::new(rules, self.history_limit, retention_ms, lifetime_retention_ms, self.max_skew_ms);
        let (max_kinds, duplicate_window_ms) = (self.max_kinds, self.duplicate_window_ms);
        Self { revision, max_kinds, duplicate_window_ms, nobody: self.nobody.clone(), ..policy }
    }

    /// Rises whenever the rules change, or anything else by which caps may differ: what a cap was judged by.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The rules in force.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Events of one kind that a log keeps.
    pub fn history_limit(&self) -> usize {
        self.history_limit
    }

    /// Kinds that a log holds at most: 16, or as many as make no more than [`MAX_LOG_EVENTS`] events.
    pub fn max_kinds(&self) -> usize {
        self.max_kinds
    }

    /// How far apart two events with one id may lie and still be one, in ms.
    pub fn duplicate_window_ms(&self) -> u64 {
        self.duplicate_window_ms
    }

    /// Whether a user means nobody: such events are acknowledged and kept nowhere.
    #[inline]
    pub fn ignores(&self, user: &str) -> bool {
        self.nobody.is_meant_by(user)
    }

    /// The retention in force, in ms.
    pub fn retention_ms(&self) -> u64 {
        self.retention_ms
    }

    /// How long a log is kept after its newest event where a lifetime rule applies, in ms.
    pub fn lifetime_retention_ms(&self) -> u64 {
        self.lifetime_retention_ms
    }

    /// How far ahead of the clock an event may be, in milliseconds.
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
