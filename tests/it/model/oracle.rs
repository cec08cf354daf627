//! The contract in its plainest form: lists of events, and every answer recounted from them.
//!
//! Nothing is cleverer than the sentence that it comes from, and nothing but plain types is shared with the engine.

use crate::model::calendar;
use freqcap::engine::Policy;
use freqcap::model::{CalendarUnit, Kind, Mode, Rule, RuleSet, RuleVerdict, TsMs, UserCap, Verdict, Window};
use std::collections::{BTreeMap, BTreeSet};

const HOUR: u64 = 3_600_000;

/// The settings and rules that a policy is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// By id, each id once.
    pub rules: Vec<Rule>,
    pub history_limit: usize,
    pub retention_ms: u64,
    pub lifetime_retention_ms: u64,
    pub max_skew_ms: u64,
    /// `None` is as far as the log goes.
    pub duplicate_window_ms: Option<u64>,
    pub max_kinds: usize,
}

impl Settings {
    /// The same settings as the engine takes them.
    pub fn policy(&self) -> Policy {
        Policy::new(
            RuleSet::new(self.rules.iter().cloned()),
            self.history_limit,
            self.retention_ms,
            self.lifetime_retention_ms,
            self.max_skew_ms,
        )
        .with_max_kinds(self.max_kinds)
        .with_duplicate_window_ms(self.duplicate_window_ms.unwrap_or(u64::MAX))
    }

    /// "The longest of `--retention` and every rule's window (day 25 h, week 7 d 1 h, month 31 d 1 h)."
    pub fn retention_in_force(&self) -> u64 {
        let windows = self.rules.iter().map(|rule| match &rule.window {
            Window::Rolling(span) => span.as_millis(),
            Window::Calendar(calendar) => match calendar.unit() {
                CalendarUnit::Day => 25 * HOUR,
                CalendarUnit::Week => (7 * 24 + 1) * HOUR,
                CalendarUnit::Month => (31 * 24 + 1) * HOUR,
            },
            Window::Lifetime => 0,
        });
        windows.max().unwrap_or(0).max(self.retention_ms)
    }

    /// How long a key's log is kept after its newest event. A lifetime rule never shortens it.
    pub fn keep(&self, key: &str) -> u64 {
        if self.rules_on(key).iter().any(|rule| matches!(rule.window, Window::Lifetime)) {
            self.lifetime_retention_ms.max(self.retention_in_force())
        } else {
            self.retention_in_force()
        }
    }

    /// The rules that apply to a key, by id.
    pub fn rules_on(&self, key: &str) -> Vec<&Rule> {
        let wildcard = format!("{}:*", key.split(':').next().unwrap_or_default());
        let exact = |rule: &Rule| rule.key.to_string() == key;
        let level = |rule: &Rule| rule.key.to_string() == wildcard;
        let of_mode = |mode| self.rules.iter().filter(move |rule| rule.mode == mode);

        let mut applying: Vec<&Rule> = of_mode(Mode::Shadow).filter(|rule| exact(rule) || level(rule)).collect();
        for kind in self.rules.iter().map(|rule| rule.kind).collect::<BTreeSet<Kind>>() {
            let enforced = || of_mode(Mode::Enforce).filter(move |rule| rule.kind == kind);
            let mut chosen: Vec<&Rule> = enforced().filter(|rule| exact(rule)).collect();
            if chosen.is_empty() {
                chosen = enforced().filter(|rule| level(rule)).collect();
            }
            if let Some(exempting) = chosen.iter().find(|rule| rule.limit.is_none()) {
                chosen = vec![exempting];
            }
            applying.append(&mut chosen);
        }
        applying.sort_by_key(|rule| rule.id.as_str());
        applying
    }
}

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub user: &'static str,
    pub da: &'static str,
    pub kind: Kind,
    pub ts: Option<TsMs>,
    pub id: Option<&'static str>,
    /// Besides `da:<da>`; each once.
    pub keys: Vec<&'static str>,
}

impl Sent {
    /// Every key in whose log the event counts, that of its ad first.
    pub fn all_keys(&self) -> Vec<String> {
        std::iter::once(format!("da:{}", self.da)).chain(self.keys.iter().map(|&key| key.to_owned())).collect()
    }
}

/// What is answered to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    TsInFuture,
    TooManyKinds,
    Erased,
    Duplicate,
    Late,
    Counted,
}

/// An event in the log of one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub ts: TsMs,
    pub event: Sent,
    /// Not among the newest when it came, in a log other than its ad's: it raises the lifetime count alone.
    pub only_counted: bool,
}

/// A reservation that nobody has confirmed or released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    pub user: &'static str,
    pub da: &'static str,
    pub kind: Kind,
    pub id: &'static str,
    /// Besides `da:<da>`.
    pub keys: Vec<&'static str>,
    pub ts: TsMs,
    pub expires_at: TsMs,
    /// Keys whose logs were written after it had lapsed: it is in them no more, even where the time goes back.
    gone_from: BTreeSet<String>,
}

impl Reserved {
    fn is_in(&self, key: &str) -> bool {
        !self.gone_from.contains(key) && self.all_keys().iter().any(|own| own == key)
    }

    fn all_keys(&self) -> Vec<String> {
        std::iter::once(format!("da:{}", self.da)).chain(self.keys.iter().map(|&key| key.to_owned())).collect()
    }

    fn is_for(&self, event: &Sent) -> bool {
        (self.user, self.da, self.kind, Some(self.id)) == (event.user, event.da, event.kind, event.id)
    }
}

/// What is asked about an ad of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub user: &'static str,
    pub da: &'static str,
    pub keys: Vec<&'static str>,
    pub kind: Option<Kind>,
    pub at: Option<TsMs>,
}

/// Everything counted since each log was made, in the order in which it came.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    logs: BTreeMap<(&'static str, String), Vec<Counted>>,
    /// In the order in which they were made; what has lapsed is still here.
    reserved: Vec<Reserved>,
    erased: BTreeMap<&'static str, TsMs>,
}

/// The newest `history_limit` events of a kind, oldest first, those of one instant as they came.
pub fn kept<'a>(settings: &Settings, log: &'a [Counted], kind: Kind) -> Vec<&'a Counted> {
    let mut kept: Vec<&Counted> = log.iter().filter(|it| it.event.kind == kind && !it.only_counted).collect();
    kept.sort_by_key(|it| it.ts);
    kept.split_off(kept.len().saturating_sub(settings.history_limit))
}

/// The oldest event kept of a kind, where there are as many as are kept.
fn oldest_of_full(settings: &Settings, log: &[Counted], kind: Kind) -> Option<TsMs> {
    let kept = kept(settings, log, kind);
    if kept.len() == settings.history_limit { Some(kept[0].ts) } else { None }
}

impl Oracle {
    /// The log of a key as reads and writes see it: a void one is absent.
    pub fn log(&self, settings: &Settings, user: &'static str, key: &str, now: TsMs) -> &[Counted] {
        let log = self.logs.get(&(user, key.to_owned())).map_or(&[][..], Vec::as_slice);
        let newest = log.iter().map(|it| it.ts.0).max().unwrap_or(0);
        if newest + settings.keep(key) <= now.0 { &[] } else { log }
    }

    /// Takes an event at `now` and answers it.
    pub fn post(&mut self, settings: &Settings, event: &Sent, now: TsMs) -> Answer {
        self.post_in_doubt(settings, event, now, now)
    }

    /// The same where it is later than `now`, perhaps, and `latest` at most.
    pub fn post_in_doubt(&mut self, settings: &Settings, event: &Sent, now: TsMs, latest: TsMs) -> Answer {
        let ts = event.ts.unwrap_or(now);
        if ts.0 > latest.0 + settings.max_skew_ms {
            return Answer::TsInFuture;
        }
        let ts = ts.min(latest);
        if !self.takes_kind(settings, event, now) {
            return Answer::TooManyKinds;
        }
        if self.erased.get(event.user).is_some_and(|until| ts <= *until) {
            return Answer::Erased;
        }
        let waits = |it: &Reserved| it.is_for(event) && now < it.expires_at && it.is_in(&format!("da:{}", it.da));
        if let Some(at) = self.reserved.iter().position(waits) {
            let mut keys = event.all_keys();
            keys.extend(self.reserved.remove(at).all_keys());
            keys.sort();
            keys.dedup();
            self.count(settings, event, keys, ts, now);
            return Answer::Counted;
        }
        if self.is_counted(settings, event, ts, now) {
            return Answer::Duplicate;
        }
        let da_log = self.log(settings, event.user, &format!("da:{}", event.da), now);
        let too_old = ts.0 + settings.retention_in_force() <= now.0;
        if too_old || oldest_of_full(settings, da_log, event.kind).is_some_and(|oldest| ts <= oldest) {
            return Answer::Late;
        }
        self.count(settings, event, event.all_keys(), ts, now);
        Answer::Counted
    }

    /// "A log holds at most 16 kinds": whether the kind of an event is, or may become, one of each of its logs.
    pub fn takes_kind(&self, settings: &Settings, event: &Sent, now: TsMs) -> bool {
        event.all_keys().iter().all(|key| {
            let log = self.log(settings, event.user, key, now).iter().map(|it| it.event.kind);
            let of_key = |it: &&Reserved| it.user == event.user && it.is_in(key) && now < it.expires_at;
            let kinds: BTreeSet<Kind> = log.chain(self.reserved.iter().filter(of_key).map(|it| it.kind)).collect();
            kinds.contains(&event.kind) || kinds.len() < settings.max_kinds
        })
    }

    /// Whether the log of the ad has this very event: the same id, and no further away than ids are unique.
    pub fn is_counted(&self, settings: &Settings, event: &Sent, ts: TsMs, now: TsMs) -> bool {
        let da_log = self.log(settings, event.user, &format!("da:{}", event.da), now);
        let same = |it: &&Counted| event.id.is_some() && it.event.id == event.id;
        let distance = |it: &Counted| if it.ts > ts { it.ts.0 - ts.0 } else { ts.0 - it.ts.0 };
        let near = |it: &Counted| settings.duplicate_window_ms.is_none_or(|window| distance(it) <= window);
        kept(settings, da_log, event.kind).into_iter().filter(same).any(near)
    }

    fn count(&mut self, settings: &Settings, event: &Sent, keys: Vec<String>, ts: TsMs, now: TsMs) {
        for key in keys {
            self.drop_lapsed(event.user, &key, now);
            let mut log = self.log(settings, event.user, &key, now).to_vec();
            let only_counted = oldest_of_full(settings, &log, event.kind).is_some_and(|oldest| ts <= oldest);
            log.push(Counted { ts, event: event.clone(), only_counted });
            self.logs.insert((event.user, key), log);
        }
    }

    /// Reserves an ad at `now`, unless it is capped. With `ttl_ms` `None` it is counted for good. What `is_counted` when
    /// the call comes is granted, and nothing changes: its impression is there already.
    pub fn reserve(
        &mut self,
        settings: &Settings,
        event: &Sent,
        ttl_ms: Option<u64>,
        is_counted: bool,
        now: TsMs,
    ) -> bool {
        let Sent { user, da, kind, id, ref keys, .. } = *event;
        if self.judge(settings, &Asked { user, da, keys: keys.clone(), kind: None, at: None }, now).capped {
            return false;
        }
        if is_counted {
            return true;
        }
        match (ttl_ms, id) {
            (Some(ttl), Some(id)) => {
                self.rewrite(settings, user, event.all_keys(), now);
                let (keys, expires_at) = (keys.clone(), TsMs(now.0 + ttl));
                let gone_from = BTreeSet::new();
                self.reserved.push(Reserved { user, da, kind, id, keys, ts: now, expires_at, gone_from });
            }
            _ => self.count(settings, event, event.all_keys(), now, now),
        }
        true
    }

    /// Gives back the reservations that wait for this event.
    pub fn release(&mut self, settings: &Settings, event: &Sent, now: TsMs) -> usize {
        let of_event = |it: &Reserved| it.is_for(event) && now < it.expires_at;
        let (released, others): (Vec<_>, Vec<_>) = self.reserved.drain(..).partition(of_event);
        self.reserved = others;
        for it in &released {
            self.rewrite(settings, it.user, it.all_keys(), now);
        }
        released.len()
    }

    /// Whatever writes a log that is void begins a new one.
    fn rewrite(&mut self, settings: &Settings, user: &'static str, keys: Vec<String>, now: TsMs) {
        for key in keys {
            self.drop_lapsed(user, &key, now);
            let log = self.log(settings, user, &key, now).to_vec();
            self.logs.insert((user, key), log);
        }
    }

    /// What has lapsed leaves a log with the next write of it.
    fn drop_lapsed(&mut self, user: &'static str, key: &str, now: TsMs) {
        for it in self.reserved.iter_mut().filter(|it| it.user == user && it.expires_at <= now) {
            it.gone_from.insert(key.to_owned());
        }
    }

    /// Forgets a user for good.
    pub fn erase(&mut self, user: &'static str, now: TsMs) {
        self.logs.retain(|(of, _), _| *of != user);
        self.reserved.retain(|it| it.user != user);
        self.erased.insert(user, now);
    }

    /// The reservations of a kind that count under a key at `now`.
    pub fn held(&self, user: &'static str, key: &str, kind: Kind, now: TsMs) -> Vec<&Reserved> {
        let of_key = |it: &&Reserved| it.user == user && it.kind == kind && it.is_in(key);
        self.reserved.iter().filter(of_key).filter(|it| now < it.expires_at).collect()
    }

    /// Until when the enforced rules cap a key now, and the first of those that do so for longest.
    pub fn user_cap(&self, settings: &Settings, user: &'static str, key: &str, now: TsMs) -> Option<UserCap> {
        let verdicts = self.key_verdicts(settings, user, key, now, None);
        let caps = verdicts.iter().filter(|it| it.mode == Mode::Enforce && it.capped);
        let latest = caps.clone().filter_map(|it| it.capped_until).max()?;
        let by = caps.clone().find(|it| it.capped_until == Some(latest))?;
        Some(UserCap { key: by.key.clone(), capped_until: latest, rule: by.rule.clone(), kind: by.kind })
    }

    /// The answer of `GET /cap`.
    pub fn judge(&self, settings: &Settings, asked: &Asked, now: TsMs) -> Verdict {
        let da = format!("da:{}", asked.da);
        let keys = std::iter::once(da.as_str()).chain(asked.keys.iter().copied());
        let rules: Vec<RuleVerdict> = keys
            .flat_map(|key| self.key_verdicts(settings, asked.user, key, now, asked.at))
            .filter(|it| asked.kind.is_none_or(|kind| it.kind == kind))
            .collect();
        // `rules` goes by keys in the order asked, then by rule id: so the first of equals is the one that ties go to.
        let enforced = || rules.iter().filter(|it| it.mode == Mode::Enforce && it.limit.is_some());
        let latest = enforced().filter_map(|it| it.capped_until).max();
        let least = enforced().filter_map(|it| it.remaining).min();
        let binding = match latest {
            Some(_) => enforced().find(|it| it.capped_until == latest),
            None => enforced().find(|it| it.remaining == least),
        };
        let (listed, shadow_omitted) = bounded(&rules);
        let Some(binding) = binding else {
            let kind = asked.kind.unwrap_or(Kind::IMPRESSION);
            let log = self.log(settings, asked.user, &da, now);
            let t = asked.at.unwrap_or(now);
            let retention = settings.retention_in_force();
            let (counting, partial) = rolling(settings, log, kind, retention, t, asked.at);
            let held = self
                .held(asked.user, &da, kind, now)
                .into_iter()
                .filter(|it| it.ts.0 + retention > t.0 && it.expires_at > t && asked.at.is_none_or(|at| it.ts <= at));
            let count = (counting.len() + held.count()).min(settings.history_limit);
            return Verdict {
                capped: false,
                capped_until: None,
                rule: None,
                key: None,
                kind,
                window: None,
                count: count as u64,
                limit: None,
                remaining: None,
                partial,
                rules: listed,
                shadow_omitted,
            };
        };
        Verdict {
            capped: binding.capped,
            capped_until: binding.capped_until,
            rule: Some(binding.rule.clone()),
            key: Some(binding.key.clone()),
            kind: binding.kind,
            window: Some(binding.window.clone()),
            count: binding.count,
            limit: binding.limit,
            remaining: binding.remaining,
            partial: binding.partial,
            rules: listed,
            shadow_omitted,
        }
    }

    /// What every rule that applies to a key says of it.
    fn key_verdicts(
        &self,
        settings: &Settings,
        user: &'static str,
        key: &str,
        now: TsMs,
        at: Option<TsMs>,
    ) -> Vec<RuleVerdict> {
        let log = self.log(settings, user, key, now);
        let verdict = |rule: &Rule| {
            let held = self.held(user, key, rule.kind, now);
            rule_verdict(settings, rule, key, (log, &held), now, at)
        };
        settings.rules_on(key).into_iter().map(verdict).collect()
    }
}

fn rule_verdict(
    settings: &Settings,
    rule: &Rule,
    key: &str,
    (log, held): (&[Counted], &[&Reserved]),
    now: TsMs,
    at: Option<TsMs>,
) -> RuleVerdict {
    let t = at.unwrap_or(now);
    // "Every entry leaves a window at a known instant, ... or, for an unconfirmed reservation, its `expires_at` if sooner."
    let lifetime = matches!(rule.window, Window::Lifetime);
    let made = held.iter().filter(|it| lifetime || at.is_none_or(|at| it.ts <= at));
    let held: Vec<TsMs> = made
        .filter_map(|it| {
            let leaves = match &rule.window {
                Window::Rolling(span) => it.ts.0 + span.as_millis(),
                Window::Calendar(calendar) => {
                    let period = |t| calendar::period(calendar.unit(), calendar.zone(), t);
                    if it.ts < period(t).0 {
                        return None;
                    }
                    period(it.ts).1.0
                }
                Window::Lifetime => it.ts.0 + settings.keep(key),
            };
            Some(TsMs(leaves).min(it.expires_at)).filter(|leaves| *leaves > t)
        })
        .collect();
    let (mut leaves, partial): (Vec<TsMs>, bool) = match &rule.window {
        Window::Rolling(span) => {
            let (counting, partial) = rolling(settings, log, rule.kind, span.as_millis(), t, at);
            (counting.into_iter().map(|ts| TsMs(ts.0 + span.as_millis())).collect(), partial)
        }
        Window::Calendar(calendar) => {
            let period = |t| calendar::period(calendar.unit(), calendar.zone(), t);
            let (start, _) = period(t);
            // Without `at`, events of a later period count too once the clock steps back, each until its own ends.
            let (counting, partial) = since(settings, log, rule.kind, start, at);
            (counting.into_iter().map(|ts| period(ts).1).collect(), partial)
        }
        Window::Lifetime => {
            let end = TsMs(log.iter().map(|it| it.ts.0).max().unwrap_or(0) + settings.keep(key));
            let counting = log.iter().filter(|it| t < end && it.event.kind == rule.kind);
            (counting.map(|_| end).collect(), false)
        }
    };
    leaves.extend(held);
    leaves.sort();
    let all = leaves.len() as u64;
    let count = if lifetime { all } else { all.min(settings.history_limit as u64) };
    let capped = rule.limit.is_some_and(|limit| all >= limit);
    RuleVerdict {
        rule: rule.id.clone(),
        key: key.into(),
        kind: rule.kind,
        mode: rule.mode,
        limit: rule.limit,
        window: rule.window.clone(),
        count,
        remaining: rule.limit.map(|limit| limit.saturating_sub(count)),
        capped,
        // "The (c - limit + 1)-th earliest of these instants", counted from one.
        capped_until: rule.limit.filter(|_| capped).map(|limit| leaves[(all - limit) as usize]),
        partial,
    }
}

/// What an answer lists of the rules: every enforced one and the first 16 shadow rules; and how many it leaves out.
fn bounded(rules: &[RuleVerdict]) -> (Vec<RuleVerdict>, usize) {
    let shadows: Vec<&RuleVerdict> = rules.iter().filter(|it| it.mode == Mode::Shadow).collect();
    let omitted: Vec<&RuleVerdict> = shadows.into_iter().skip(16).collect();
    let listed = rules.iter().filter(|it| !omitted.iter().any(|omitted| std::ptr::eq(*omitted, *it)));
    (listed.cloned().collect(), omitted.len())
}

/// The times of the events of a kind with `t - width < ts`, as [`since`] gives them.
fn rolling(
    settings: &Settings,
    log: &[Counted],
    kind: Kind,
    width: u64,
    t: TsMs,
    at: Option<TsMs>,
) -> (Vec<TsMs>, bool) {
    since(settings, log, kind, TsMs(t.0 - width + 1), at)
}

/// The times of the events of a kind in a window that begins at `start`: the newest `history_limit` of all that were
/// ever counted, kept or not. And whether that cannot be told for sure, for `at` is before what a full log keeps, or
/// hides part of that while the window reaches back to where the log was cut: then, those that are kept.
fn since(settings: &Settings, log: &[Counted], kind: Kind, start: TsMs, at: Option<TsMs>) -> (Vec<TsMs>, bool) {
    let within = |ts: &TsMs| *ts >= start && at.is_none_or(|at| *ts <= at);
    let times = kept(settings, log, kind).into_iter().map(|it| it.ts);
    let full = times.len() == settings.history_limit;
    let newest = times.clone().max();
    if full && start <= times.clone().min().unwrap_or(start) && at < newest && at.is_some() {
        return (times.filter(within).collect(), true);
    }
    let mut counting: Vec<TsMs> =
        log.iter().filter(|it| it.event.kind == kind).map(|it| it.ts).filter(within).collect();
    counting.sort();
    (counting.split_off(counting.len().saturating_sub(settings.history_limit)), false)
}
