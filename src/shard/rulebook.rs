//! The rules in force, from three sources: the flags, the settings file, and the API, whose rules are in the store.

use super::precondition::Precondition;
use super::progress::Progress;
use super::router::Router;
use super::rule_lines::{ToldRules, line, lines_of_start, told};
use super::rule_source::Source;
use crate::clock::Clock;
use crate::engine::Policy;
use crate::model::{KeyPattern, Kind, Limit, Mode, Rule, RuleError, RuleId, RuleSet, TsMs, Window};
use crate::store::{AuditEntry, ChangedBy, Keep, RulesChange, RulesMark, Store, StoreError};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of rules.
pub const MAX_RULES: usize = 10_000;

/// A rule with what is known about it.
#[derive(Debug, Clone)]
pub struct RuleView {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Who made it.
    pub source: Source,
    /// Differs after every change.
    pub etag: String,
    /// From here on its counts are whole. Older events may have been removed before the rule came.
    pub complete_from: Option<TsMs>,
    /// Shards whose caps were judged since it changed, with all resulting changes in Redis, if there is one.
    pub done: usize,
    /// Shards of the process.
    pub total: usize,
}

/// Why a rule was not read or changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RulebookError {
    #[error("there is no rule {0:?}")]
    Unknown(String),
    #[error("rule {0:?} is kept by the flags --limit and --window: change those")]
    FromFlags(String),
    #[error("rule {0:?} is kept by the settings file: change it there")]
    FromFile(String),
    #[error("the rule is not, or no longer, as the request expects it")]
    Precondition,
    #[error("there are {MAX_RULES} rules already")]
    TooMany,
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "rule {id:?}, made by the API, cannot be kept: {why}. Start with a --history-limit that holds it, change the \
         rule, and lower the limit then"
    )]
    Stored { id: String, why: RuleError },
    #[error(
        "the rule is in force and on disk, but the bucket has not taken the change in time (--durability bucket, --bucket-wait): \
         repeat it"
    )]
    NotInBucket,
    #[error("rule {id:?} cannot be read from the store: {why}")]
    Unreadable { id: String, why: String },
}

/// A rule as the store has it.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    key: String,
    kind: Kind,
    limit: Limit,
    window: Window,
    mode: Mode,
    revision: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    rule: Arc<Rule>,
    source: Source,
    /// The revision of the rules when this one came or changed.
    revision: u64,
}

impl Entry {
    fn told(&self) -> Value {
        told(&self.rule, self.source.name())
    }
}

/// By id.
type Entries = BTreeMap<RuleId, Entry>;

/// The rules. Cheap to clone.
#[derive(Clone)]
pub struct Rulebook(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
    entries: ArcSwap<Entries>,
    /// Identifies the rules in force. A change holds this lock during its write.
    changing: Mutex<RulesMark>,
    held_since: AtomicU64,
    progress: Arc<Progress>,
}

impl Rulebook {
    /// Joins the rules of the flags and the file (`fixed`) with those of the store, with the settings of `base`. What those
    /// have changed since the last start is told in the audit. Blocks on disk.
    pub(super) fn open(
        store: Arc<Store>,
        base: &Policy,
        fixed: Vec<(Rule, Source)>,
        clock: Clock,
    ) -> Result<Self, RulebookError> {
        let before = store.rules().in_force()?;
        let revision = before.map_or(0, |mark| mark.revision);
        let mut entries = Entries::new();
        for (id, value) in store.rules().all()? {
            let entry = read(&id, &value)?;
            entry.rule.check(base.history_limit()).map_err(|why| RulebookError::Stored { id, why })?;
            entries.insert(entry.rule.id.clone(), entry);
        }
        let of_settings = FixedRules::read(&store, &fixed, &entries)?;
        for (rule, source) in fixed {
            let entry = Entry { rule: Arc::new(rule), source, revision };
            if let Some(shadowed) = entries.insert(entry.rule.id.clone(), entry)
                && shadowed.source == Source::Api
            {
                let id = shadowed.rule.id.as_str();
                tracing::warn!(rule = id, "a rule of the flags or the file stands before the API's of the same id");
            }
        }
        let mut policy = base.with_rules(rule_set(&entries), revision);
        let mut mark = before.unwrap_or_default();
        // Other things than the API's rules may have changed since the last start: then everything is judged again.
        if before.is_none_or(|before| before.fingerprint != policy.fingerprint()) {
            policy = policy.with_rules(rule_set(&entries), revision + 1);
            mark = next_mark(before, &policy, clock.now());
            let fixed = entries.values_mut().filter(|entry| entry.source != Source::Api);
            fixed.for_each(|entry| entry.revision = mark.revision);
        }
        if before != Some(mark) || of_settings.are_new {
            let FixedRules { stored, lines, .. } = &of_settings;
            let at = clock.now();
            store.rules().put_in_force(RulesChange { mark, rules: &[], fixed: Some(stored), at, lines })?;
        }
        let inner = Inner {
            store,
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            clock,
            entries: ArcSwap::from_pointee(entries),
            changing: Mutex::new(mark),
            held_since: AtomicU64::new(mark.held_since.0),
            progress: Arc::default(),
        };
        inner.keep();
        Ok(Self(Arc::new(inner)))
    }

    pub(super) fn policy(&self) -> &Arc<ArcSwap<Policy>> {
        &self.0.policy
    }

    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.0.progress
    }

    /// The policy: rules in force, and limits of a log.
    pub fn in_force(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// The same, and since when nothing was removed before the retention in force.
    pub(super) fn in_force_and_held_since(&self) -> (Arc<Policy>, TsMs) {
        // In this order: of a change in between, the later instant.
        let policy = self.in_force();
        (policy, TsMs(self.0.held_since.load(Ordering::Relaxed)))
    }

    /// Every rule, by id.
    pub fn list(&self) -> Vec<RuleView> {
        self.0.entries.load().values().map(|entry| self.0.view(entry)).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.entries.load().len()
    }

    /// A rule by its id.
    pub fn get(&self, id: &str) -> Result<RuleView, RulebookError> {
        let entries = self.0.entries.load();
        let entry = RuleId::new(id).ok().and_then(|id| entries.get(&id));
        entry.map(|entry| self.0.view(entry)).ok_or_else(|| RulebookError::Unknown(id.to_owned()))
    }

    /// Whether [`Rulebook::put`] would take a rule now; the rule in whose place it would come.
    pub fn preview(&self, rule: &Rule, expect: &Precondition) -> Result<Option<Arc<Rule>>, RulebookError> {
        let entries = self.0.entries.load();
        Ok(self.0.may_put(&entries, rule, expect)?.map(|held| held.rule.clone()))
    }

    /// Puts a rule in force. Returns whether it is new, once it is durable, with its line of the audit, and in force for every
    /// read. Blocks on disk.
    pub fn put(
        &self,
        rule: Rule,
        expect: &Precondition,
        by: ChangedBy,
        router: &Router,
    ) -> Result<(bool, RuleView), RulebookError> {
        let mut put = self.change(vec![rule], &[], expect, by, router)?;
        // One for each.
        put.pop().ok_or_else(|| RulebookError::Unknown(String::new()))
    }

    /// Puts rules in force and removes others, where they are there, all at once. `expect` is of the first of `put`. Returns which
    /// are new, once all is durable, with its lines of the audit, and in force for every read. Blocks on disk.
    pub fn change(
        &self,
        put: Vec<Rule>,
        remove: &[RuleId],
        expect: &Precondition,
        by: ChangedBy,
        router: &Router,
    ) -> Result<Vec<(bool, RuleView)>, RulebookError> {
        let inner = &self.0;
        let history_limit = inner.policy.load().history_limit();
        put.iter().try_for_each(|rule| rule.check(history_limit))?;
        let mut mark = inner.changing();
        let entries = inner.entries.load_full();
        let (mut next, mut stored, mut lines, mut views) = ((*entries).clone(), Vec::new(), Vec::new(), Vec::new());
        for (number, rule) in put.into_iter().enumerate() {
            let held = entries.get(&rule.id);
            let expect = if number == 0 { expect } else { &Precondition::Anything };
            inner.may_change(rule.id.as_str(), held, expect)?;
            if let Some(held) = held.filter(|held| *held.rule == rule) {
                views.push((false, held.clone()));
                continue;
            }
            let id = rule.id.clone();
            let entry = Entry { rule: Arc::new(rule), source: Source::Api, revision: mark.revision + 1 };
            // Serializing plain structs to memory cannot fail.
            stored.push((id.clone(), Some(serde_json::to_vec(&Stored::of(&entry)).unwrap_or_default())));
            lines.push(line(by.clone(), held.map(Entry::told).unwrap_or_default(), entry.told()));
            views.push((held.is_none(), entry.clone()));
            next.insert(id, entry);
        }
        for id in remove {
            let Some(held) = entries.get(id) else { continue };
            inner.may_change(id.as_str(), Some(held), &Precondition::Anything)?;
            lines.push(line(by.clone(), held.told(), Value::Null));
            stored.push((id.clone(), None));
            next.remove(id);
        }
        if next.len() > MAX_RULES && next.len() > entries.len() {
            return Err(RulebookError::TooMany);
        }
        if !stored.is_empty() {
            inner.bring_into_force(next, &mut mark, &stored, &lines, router)?;
        }
        Ok(views.into_iter().map(|(is_new, entry)| (is_new, inner.view(&entry))).collect())
    }

    /// Removes a rule. Returns once that is durable, with its line of the audit, and in force for every read. Blocks on disk.
    pub fn delete(&self, id: &str, expect: &Precondition, by: ChangedBy, router: &Router) -> Result<(), RulebookError> {
        let inner = &self.0;
        let mut mark = inner.changing();
        let entries = inner.entries.load_full();
        let rule_id = RuleId::new(id).map_err(|_| RulebookError::Unknown(id.to_owned()))?;
        let held = entries.get(&rule_id).ok_or_else(|| RulebookError::Unknown(id.to_owned()))?;
        inner.may_change(id, Some(held), expect)?;
        let line = line(by, held.told(), Value::Null);
        let mut next = (*entries).clone();
        next.remove(&rule_id);
        inner.bring_into_force(next, &mut mark, &[(rule_id, None)], std::slice::from_ref(&line), router)
    }

    /// With `--durability bucket`: waits until the bucket has every change that was made before. Blocks.
    pub fn wait_for_bucket(&self) -> Result<(), RulebookError> {
        self.0.store.wait_for_bucket().map_err(|_| RulebookError::NotInBucket)
    }

    /// Has every cap judged again by the unchanged rules, for when rows of `caps` may be wrong, such as after a wrong
    /// clock. Begins within a second; continues after a restart. Blocks on disk.
    pub fn judge_anew(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let mut mark = inner.changing();
        let policy = inner.policy.load().with_rules(rule_set(&inner.entries.load()), mark.revision + 1);
        let next_mark = next_mark(Some(*mark), &policy, inner.clock.now());
        inner.store.rules().put_in_force(RulesChange { mark: next_mark, ..RulesChange::default() })?;
        *mark = next_mark;
        inner.policy.store(Arc::new(policy));
        Ok(())
    }
}

impl Inner {
    fn changing(&self) -> MutexGuard<'_, RulesMark> {
        // A panic left the mark unchanged, or as it was written.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_change(&self, id: &str, held: Option<&Entry>, expect: &Precondition) -> Result<(), RulebookError> {
        match held.map(|held| held.source) {
            Some(Source::Flags) => return Err(RulebookError::FromFlags(id.to_owned())),
            Some(Source::File) => return Err(RulebookError::FromFile(id.to_owned())),
            _ => {}
        }
        let holds = expect.holds(held.map(etag).as_deref());
        if holds { Ok(()) } else { Err(RulebookError::Precondition) }
    }

    /// Whether a rule may come into force beside the others; the one in whose place it comes.
    fn may_put<'e>(
        &self,
        entries: &'e Entries,
        rule: &Rule,
        expect: &Precondition,
    ) -> Result<Option<&'e Entry>, RulebookError> {
        rule.check(self.policy.load().history_limit())?;
        let held = entries.get(&rule.id);
        self.may_change(rule.id.as_str(), held, expect)?;
        if held.is_none() && entries.len() >= MAX_RULES {
            return Err(RulebookError::TooMany);
        }
        Ok(held)
    }

    /// First the store, then everything else: what is in force survives a crash.
    fn bring_into_force(
        &self,
        next: Entries,
        mark: &mut RulesMark,
        rules: &[(RuleId, Option<Vec<u8>>)],
        lines: &[AuditEntry],
        router: &Router,
    ) -> Result<(), RulebookError> {
        let (policy, at) = (self.policy.load().with_rules(rule_set(&next), mark.revision + 1), self.clock.now());
        let next_mark = next_mark(Some(*mark), &policy, at);
        let rules: Vec<_> = rules.iter().map(|(id, rule)| (id.as_str(), rule.as_deref())).collect();
        self.store.rules().put_in_force(RulesChange { mark: next_mark, rules: &rules, fixed: None, at, lines })?;
        *mark = next_mark;
        self.held_since.store(next_mark.held_since.0, Ordering::Relaxed);
        self.policy.store(Arc::new(policy));
        self.entries.store(Arc::new(next));
        self.keep();
        router.wake();
        Ok(())
    }

    /// Tells the store how long to keep logs.
    fn keep(&self) {
        let policy = self.policy.load_full();
        let least_ms = policy.retention_ms();
        self.store.compaction_filter().set_keep(Keep { least_ms, of_key_ms: Box::new(move |key| policy.keep_ms(key)) });
    }

    fn view(&self, entry: &Entry) -> RuleView {
        let held_since = TsMs(self.held_since.load(Ordering::Relaxed));
        let complete_from = entry.rule.window.retention_ms().map(|window| held_since.saturating_add(window));
        RuleView {
            rule: entry.rule.clone(),
            source: entry.source,
            etag: etag(entry),
            complete_from: complete_from.filter(|from| *from > self.clock.now()),
            done: self.progress.since(entry.revision, &self.store),
            total: self.store.shards().len(),
        }
    }
}

/// The rules of the flags and the file, as a start has them.
struct FixedRules {
    /// As the store notes them.
    stored: Vec<u8>,
    /// Whether the store has others, or none.
    are_new: bool,
    lines: Vec<AuditEntry>,
}

impl FixedRules {
    /// Compares them with those of the last start; `api` has the rules that they stand before. Blocks on disk.
    fn read(store: &Store, fixed: &[(Rule, Source)], api: &Entries) -> Result<Self, RulebookError> {
        let id_of = |rule: &Rule| rule.id.as_str().to_owned();
        let now: ToldRules = fixed.iter().map(|(rule, source)| (id_of(rule), told(rule, source.name()))).collect();
        // Serializing text and numbers to memory cannot fail.
        let stored = serde_json::to_vec(&now).unwrap_or_default();
        let noted = store.rules().fixed()?;
        // A new store, or one of a version that noted none, has none before.
        let lines = match noted.as_deref().map(serde_json::from_slice::<ToldRules>) {
            Some(Ok(before)) => {
                let api = api.values().map(|entry| (id_of(&entry.rule), entry.told())).collect();
                lines_of_start(&before, &now, &api)
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "which rules the settings had before cannot be read");
                Vec::new()
            }
            None => Vec::new(),
        };
        Ok(Self { are_new: noted.as_deref() != Some(&stored), stored, lines })
    }
}

/// The mark of rules that come into force now. If they need a longer retention than those before, only what those kept
/// is certain to be there.
fn next_mark(before: Option<RulesMark>, policy: &Policy, now: TsMs) -> RulesMark {
    let mut held_since = before.map_or(TsMs(0), |before| before.held_since);
    if let Some(before) = before.filter(|before| policy.retention_ms() > before.retention_ms) {
        held_since = held_since.max(now.saturating_sub(before.retention_ms));
    }
    RulesMark {
        revision: policy.revision(),
        fingerprint: policy.fingerprint(),
        retention_ms: policy.retention_ms(),
        held_since,
    }
}

fn rule_set(entries: &Entries) -> RuleSet {
    RuleSet::new(entries.values().map(|entry| (*entry.rule).clone()))
}

fn etag(entry: &Entry) -> String {
    match entry.source {
        // No two sets of rules share a revision.
        Source::Api => format!("\"{}\"", entry.revision),
        _ => format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(format!("{:?}", entry.rule).as_bytes())),
    }
}

impl Stored {
    fn of(entry: &Entry) -> Self {
        let rule = &entry.rule;
        Self {
            key: rule.key.to_string(),
            kind: rule.kind,
            limit: rule.limit,
            window: rule.window.clone(),
            mode: rule.mode,
            revision: entry.revision,
        }
    }
}

fn read(id: &str, value: &[u8]) -> Result<Entry, RulebookError> {
    let unreadable =
        |why: &dyn std::fmt::Display| RulebookError::Unreadable { id: id.to_owned(), why: why.to_string() };
    let stored: Stored = serde_json::from_slice(value).map_err(|why| unreadable(&why))?;
    let rule = Rule {
        id: RuleId::new(id).map_err(|why| unreadable(&why))?,
        key: KeyPattern::new(&stored.key).map_err(|why| unreadable(&why))?,
        kind: stored.kind,
        limit: stored.limit,
        window: stored.window,
        mode: stored.mode,
    };
    Ok(Entry { rule: Arc::new(rule), source: Source::Api, revision: stored.revision })
}

/// For the fuzzers (see [`crate::fuzzing`]): a rule that is read from the store can be written there and read again.
#[cfg(any(test, fuzzing))]
pub(crate) fn stored_rule(value: &[u8]) {
    let Ok(entry) = read("r", value) else { return };
    let written = serde_json::to_vec(&Stored::of(&entry)).unwrap_or_default();
    let again = read("r", &written).map(|again| (again.rule, again.revision)).ok();
    assert_eq!(again, Some((entry.rule, entry.revision)), "{written:?}");
}
