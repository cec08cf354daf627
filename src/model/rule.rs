//! Rules, and which of them speak for a key.

use super::{KeyPattern, Kind, Window};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// At most this many events; `None` exempts the key from every other rule of the kind.
pub type Limit = Option<u64>;

/// What a rule that caps does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It caps.
    #[default]
    Enforce,
    /// Evaluated, reported and measured; never caps.
    Shadow,
}

/// A rule's id: 1..=64 of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// The id of the rule that the flags make.
    pub const DEFAULT: &'static str = "default";

    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, RuleError> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'));
        if fits { Ok(Self(text.into())) } else { Err(RuleError::Id) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RuleError {
    #[error("a rule id is 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`")]
    Id,
    #[error("limit must be 1 to {0}, or null")]
    LimitOutOfRange(u64),
    #[error("limit null exempts, which mode shadow cannot")]
    ShadowExemption,
}

/// At most `limit` events of `kind` per user in `window`, for the keys that `key` names.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// The keys whose events it counts.
    pub key: KeyPattern,
    /// The kind of events that it counts.
    pub kind: Kind,
    /// At most this many events in the window.
    pub limit: Limit,
    /// The window.
    pub window: Window,
    /// Whether it caps.
    pub mode: Mode,
}

impl Rule {
    /// Checks what depends on the configuration: a window's count cannot be told beyond what a log keeps.
    pub fn check(&self, history_limit: usize) -> Result<(), RuleError> {
        let most = if matches!(self.window, Window::Lifetime) { i64::MAX as u64 } else { history_limit as u64 };
        match self.limit {
            None if self.mode == Mode::Shadow => Err(RuleError::ShadowExemption),
            Some(limit) if !(1..=most).contains(&limit) => Err(RuleError::LimitOutOfRange(most)),
            _ => Ok(()),
        }
    }

    /// Whether it caps by events of this kind.
    fn enforces(&self, kind: Kind) -> bool {
        self.mode == Mode::Enforce && self.kind == kind
    }
}

/// All rules, with those that speak for each key worked out beforehand.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    exact: HashMap<String, Vec<Arc<Rule>>>,
    levels: HashMap<String, Vec<Arc<Rule>>>,
    /// The enforced rules that do not speak for a key, though they are on it or its level. Only where there are any.
    displaced: HashMap<String, Vec<DisplacedRule>>,
    displaced_on_level: HashMap<String, Vec<DisplacedRule>>,
    least_limit: Option<u64>,
}

/// Why a rule takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplacedBy {
    /// It is on the key itself, the other on the key's level.
    ExactOverWildcard,
    /// It exempts the key.
    Exempt,
}

/// An enforced rule whose place another takes.
#[derive(Debug, Clone)]
pub struct DisplacedRule {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The one that took its place.
    pub by: Arc<Rule>,
    /// Why.
    pub reason: DisplacedBy,
}

impl RuleSet {
    /// Takes the rules in any order; of two with one id the later stands.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut by_id = std::collections::BTreeMap::new();
        for rule in rules {
            by_id.insert(rule.id.clone(), Arc::new(rule));
        }
        let rules: Vec<Arc<Rule>> = by_id.into_values().collect();
        let mut on_level: HashMap<&str, Vec<&Arc<Rule>>> = HashMap::new();
        let mut on_key: HashMap<&str, Vec<&Arc<Rule>>> = HashMap::new();
        for rule in &rules {
            match &rule.key {
                KeyPattern::Level(level) => on_level.entry(level.as_str()).or_default().push(rule),
                KeyPattern::Exact(key) => on_key.entry(key.as_str()).or_default().push(rule),
            }
        }
        let (mut exact, mut displaced) = (HashMap::new(), HashMap::new());
        for (key, on_key) in &on_key {
            let level = key.split_once(':').and_then(|(level, _)| on_level.get(level));
            let (applied, without) = resolve(on_key, level.map_or(&[][..], Vec::as_slice));
            exact.insert((*key).to_owned(), applied);
            if !without.is_empty() {
                displaced.insert((*key).to_owned(), without);
            }
        }
        let (mut levels, mut displaced_on_level) = (HashMap::new(), HashMap::new());
        for (level, on_level) in &on_level {
            let (applied, without) = resolve(&[], on_level);
            levels.insert((*level).to_owned(), applied);
            if !without.is_empty() {
                displaced_on_level.insert((*level).to_owned(), without);
            }
        }
        // What borrows the rules goes before they move.
        drop((on_level, on_key));
        let enforced = rules.iter().filter(|rule| rule.mode == Mode::Enforce);
        let least_limit = enforced.filter_map(|rule| rule.limit).min();
        Self { rules, exact, levels, displaced, displaced_on_level, least_limit }
    }

    /// The enforced rules on a key or its level that do not speak for it, by id, with those that do instead.
    pub fn displaced_of(&self, key: &str) -> &[DisplacedRule] {
        if self.exact.contains_key(key) {
            return self.displaced.get(key).map_or(&[], Vec::as_slice);
        }
        let level = key.split_once(':').map_or("", |(level, _)| level);
        self.displaced_on_level.get(level).map_or(&[], Vec::as_slice)
    }

    /// Every rule, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }

    /// The rules that speak for a key, by id: of each kind the enforced ones on the exact key, or if there are none
    /// those on its level, or the exempting one alone; and every shadow rule on either.
    pub fn of_key(&self, key: &str) -> &[Arc<Rule>] {
        if let Some(rules) = self.exact.get(key) {
            return rules;
        }
        let level = key.split_once(':').map_or("", |(level, _)| level);
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// The least limit of an enforced rule; as many as no log has where there is none.
    #[inline]
    pub fn least_limit(&self) -> u64 {
        self.least_limit.unwrap_or(u64::MAX)
    }

    /// How long the rules want events held, in ms: the longest of their windows.
    pub fn retention_ms(&self) -> u64 {
        self.rules.iter().filter_map(|rule| rule.window.retention_ms()).max().unwrap_or(0)
    }
}

/// Of the rules on one key and of those on its level, which speak for it, and which would if others did not.
fn resolve(exact: &[&Arc<Rule>], level: &[&Arc<Rule>]) -> (Vec<Arc<Rule>>, Vec<DisplacedRule>) {
    let mut candidates: Vec<&Arc<Rule>> = exact.to_vec();
    let mut displaced = Vec::new();
    for &rule in level {
        let on_key = || exact.iter().filter(|other| other.enforces(rule.kind));
        // Of several on the key, the one that is told is the exempting one, or else the first.
        let by = on_key().find(|other| other.limit.is_none()).or_else(|| on_key().next());
        match by {
            Some(&by) if rule.mode == Mode::Enforce => displaced.push(displaced_by(rule, by, true)),
            _ => candidates.push(rule),
        }
    }
    candidates.sort_by(|a, b| a.id.cmp(&b.id));
    let mut applied = Vec::with_capacity(candidates.len());
    for &rule in &candidates {
        // An exemption silences every other enforced rule of its kind.
        let exemption = candidates.iter().find(|other| other.enforces(rule.kind) && other.limit.is_none());
        match exemption {
            Some(&by) if rule.mode == Mode::Enforce && !Arc::ptr_eq(by, rule) => {
                displaced.push(displaced_by(rule, by, false));
            }
            _ => applied.push(rule.clone()),
        }
    }
    displaced.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
    (applied, displaced)
}

fn displaced_by(rule: &Arc<Rule>, by: &Arc<Rule>, is_exact: bool) -> DisplacedRule {
    let reason = match by.limit {
        Some(_) if is_exact => DisplacedBy::ExactOverWildcard,
        _ => DisplacedBy::Exempt,
    };
    DisplacedRule { rule: rule.clone(), by: by.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, key: &str, limit: Limit) -> Rule {
        Rule {
            id: RuleId::new(id).unwrap(),
            key: KeyPattern::new(key).unwrap(),
            kind: Kind::IMPRESSION,
            limit,
            window: Window::Lifetime,
            mode: Mode::Enforce,
        }
    }

    fn shadow(id: &str, key: &str) -> Rule {
        Rule { mode: Mode::Shadow, ..rule(id, key, Some(1)) }
    }

    fn click(id: &str, key: &str) -> Rule {
        Rule { kind: Kind::CLICK, ..rule(id, key, Some(1)) }
    }

    fn ids<'a>(set: &'a RuleSet, key: &str) -> Vec<&'a str> {
        set.of_key(key).iter().map(|rule| rule.id.as_str()).collect()
    }

    #[test]
    fn exact_rules_displace_those_of_the_level_kind_by_kind() {
        let set = RuleSet::new([
            rule("a", "da:*", Some(5)),
            click("b", "da:*"),
            rule("c", "da:7", Some(2)),
            rule("d", "da:7", Some(9)),
        ]);
        assert_eq!(ids(&set, "da:7"), ["b", "c", "d"]);
        assert_eq!(ids(&set, "da:8"), ["a", "b"]);
        assert_eq!(ids(&set, "campaign:7"), [""; 0]);
    }

    #[test]
    fn an_exemption_stands_alone_but_for_shadows_and_other_kinds() {
        let set = RuleSet::new([
            rule("a", "da:*", Some(5)),
            rule("b", "da:7", None),
            rule("c", "da:7", Some(1)),
            click("d", "da:7"),
            shadow("e", "da:*"),
        ]);
        assert_eq!(ids(&set, "da:7"), ["b", "d", "e"]);
    }

    #[test]
    fn which_rule_takes_the_place_of_another_is_known() {
        let set = RuleSet::new([
            rule("a", "da:*", Some(5)),
            click("b", "da:*"),
            rule("c", "da:7", Some(2)),
            rule("d", "da:8", None),
            rule("e", "da:8", Some(1)),
            shadow("f", "da:*"),
            rule("g", "ad:*", None),
            rule("h", "ad:*", Some(1)),
        ]);
        let told = |key| {
            let displaced = set.displaced_of(key).iter();
            displaced.map(|it| (it.rule.id.as_str(), it.by.id.as_str(), it.reason)).collect::<Vec<_>>()
        };
        assert_eq!(told("da:7"), [("a", "c", DisplacedBy::ExactOverWildcard)]);
        assert_eq!(told("da:8"), [("a", "d", DisplacedBy::Exempt), ("e", "d", DisplacedBy::Exempt)]);
        assert_eq!(told("da:9"), []);
        assert_eq!(told("ad:1"), [("h", "g", DisplacedBy::Exempt)]);
    }

    #[test]
    fn shadows_displace_nothing_and_are_displaced_by_nothing() {
        let set = RuleSet::new([rule("a", "da:*", Some(5)), shadow("b", "da:7"), shadow("c", "da:*")]);
        assert_eq!(ids(&set, "da:7"), ["a", "b", "c"]);
    }

    #[test]
    fn a_limit_is_bounded_by_what_a_log_keeps_save_for_a_lifetime() {
        let window = Window::Rolling("1d".parse().unwrap());
        assert!(rule("a", "da:*", Some(1_000)).check(256).is_ok());
        assert_eq!(
            Rule { window: window.clone(), ..rule("a", "da:*", Some(257)) }.check(256),
            Err(RuleError::LimitOutOfRange(256))
        );
        assert!(Rule { window, ..rule("a", "da:*", Some(256)) }.check(256).is_ok());
        assert!(rule("a", "da:*", Some(0)).check(256).is_err());
        assert_eq!(Rule { limit: None, ..shadow("a", "da:*") }.check(256), Err(RuleError::ShadowExemption));
    }
}
