//! Reach and frequency, and what a rule would do, as they are answered.

use super::rule::RuleAnswer;
use super::verdict::{Mode, window_of_rule};
use crate::engine::{KeyReach, ReachQuestion};
use crate::model::{self, HOUR_MS, Kind, Limit, REACH_HOURS, Rule, RuleId, TsMs, Window, share};
use crate::shard::{Answer, TopKey, TopReach};
use serde::Serialize;

/// Users, and their events.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub struct UserEvents {
    users: u64,
    impressions: u64,
}

impl From<model::UserEvents> for UserEvents {
    fn from(all: model::UserEvents) -> Self {
        Self { users: all.users, impressions: all.impressions }
    }
}

/// How often a user of a bin sees it: 1 to 9, or `10+`.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(example = 1)]
pub enum Frequency {
    /// So often.
    Exactly(u64),
    /// `10+`: so often at least.
    AtLeast(&'static str),
}

/// A bin of a histogram.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub struct FrequencyBin {
    frequency: Frequency,
    users: u64,
    impressions: u64,
}

fn bins(histogram: &model::Histogram) -> Vec<FrequencyBin> {
    let bin = |(n, bin): (u64, &model::UserEvents)| FrequencyBin {
        frequency: if n < model::FREQUENCY_BINS as u64 { Frequency::Exactly(n) } else { Frequency::AtLeast("10+") },
        users: bin.users,
        impressions: bin.impressions,
    };
    (1..).zip(histogram).map(bin).collect()
}

/// An hour of a day.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub struct Hour {
    /// The first instant of the hour, which is not part of it; the last hour ends at the instant asked for.
    from: u64,
    /// Users with an event in this hour.
    users: u64,
    /// Their events in this hour.
    impressions: u64,
    /// Users with an event in this hour or one before it, of these 24.
    cumulative: u64,
}

fn hours(hours: &[model::ReachHour; REACH_HOURS], end: TsMs) -> Vec<Hour> {
    let begin = end.saturating_sub(REACH_HOURS as u64 * HOUR_MS);
    let hour = |(n, hour): (u64, &model::ReachHour)| Hour {
        from: begin.0 + n * HOUR_MS,
        users: hour.reached.users,
        impressions: hour.reached.impressions,
        cumulative: hour.cumulative,
    };
    (0..).zip(hours).map(hour).collect()
}

/// What an answer is made of, beside the question.
pub struct ReachView<'a> {
    /// The key.
    pub key: &'a str,
    /// What was asked.
    pub asked: &'a ReachQuestion,
    /// The pass.
    pub answer: &'a Answer,
    /// From here on everything is held.
    pub complete_from: TsMs,
    /// The sums.
    pub reach: &'a KeyReach,
}

/// How many users a key reaches, and how often: exact over what is held.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "key": "campaign:42", "kind": "impression", "window": "7d", "as_of": 1732665600000u64,
    "complete_from": 1732060800000u64, "users": 2, "impressions": 8, "average": 4.0,
    "histogram": [{"frequency": 1, "users": 0, "impressions": 0}, {"frequency": 2, "users": 1, "impressions": 2},
                  {"frequency": "10+", "users": 0, "impressions": 0}],
    "rule": "default", "limit": 5, "limit_window": "5d", "at_limit": 0, "over": {"users": 1, "impressions": 1},
    "capped_now": 1, "saturated": 0, "took_ms": 12, "per": "user"
}))]
pub struct ReachAnswer<'a> {
    #[schema(example = "campaign:42")]
    key: &'a str,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    #[schema(schema_with = window_of_rule)]
    window: &'a Window,
    /// The instant asked for. Only where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    at: Option<TsMs>,
    /// The instant at which the logs were read, and `now` for whatever depends on it.
    #[schema(value_type = u64)]
    as_of: TsMs,
    /// From this instant on everything is held; a window that begins before it may lack events.
    #[schema(value_type = u64)]
    complete_from: TsMs,
    /// Users with an event in the window.
    users: u64,
    /// Their events in the window; reservations that have not lapsed are events, too.
    impressions: u64,
    /// `impressions / users`; 0 without users.
    average: f64,
    /// Users by frequency: ten bins, 1 to 9 and `10+`.
    histogram: Vec<FrequencyBin>,
    /// The enforced rule whose limit is meant: of the kind, with this window if there is one, else the one with the lowest limit.
    #[schema(value_type = Option<String>)]
    rule: Option<&'a RuleId>,
    /// Its limit; null where no enforced rule limits the key.
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    /// The window of the rule, in which `at_limit` and `over` are counted.
    #[schema(schema_with = window_or_null)]
    limit_window: Option<&'a Window>,
    /// Users with exactly as many events as the limit.
    at_limit: u64,
    /// Users with more, and how many events more.
    over: UserEvents,
    /// Users for whom an enforced rule of any kind caps the key at `as_of`.
    capped_now: u64,
    /// Users with `history_limit` events in the window: they may have more than are held.
    saturated: u64,
    /// How long all logs took to be read.
    took_ms: u64,
    /// Whose events are counted together.
    #[schema(example = "user")]
    per: &'static str,
    /// The 24 hours before the instant asked for. Only with `by=hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<Vec<Hour>>,
    /// Rows that could not be read and are not counted. Only where there are any.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(value_type = Option<u64>)]
    unreadable_rows: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A window, or null.
fn window_or_null() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{Object, OneOfBuilder, Type};
    OneOfBuilder::new().item(window_of_rule()).item(Object::with_type(Type::Null)).into()
}

fn took_ms(answer: &Answer) -> u64 {
    u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> From<ReachView<'a>> for ReachAnswer<'a> {
    fn from(ReachView { key, asked, answer, complete_from, reach: found }: ReachView<'a>) -> Self {
        let (reach, limiting) = (&found.reach, found.limiting.as_deref());
        let end = asked.at.unwrap_or(answer.as_of);
        Self {
            key,
            kind: asked.kind,
            window: &asked.window,
            at: asked.at,
            as_of: answer.as_of,
            complete_from,
            users: reach.reached.users,
            impressions: reach.reached.impressions,
            average: reach.average(),
            histogram: bins(&found.histogram),
            rule: limiting.map(|rule| &rule.id),
            limit: limiting.and_then(|rule| rule.limit),
            limit_window: limiting.map(|rule| &rule.window),
            at_limit: reach.at_limit,
            over: reach.over.into(),
            capped_now: reach.capped_now,
            saturated: reach.saturated,
            took_ms: took_ms(answer),
            per: "user",
            hours: found.hours.as_deref().map(|all| hours(all, end)),
            unreadable_rows: answer.unreadable,
        }
    }
}

/// What an answer about a level is made of.
pub struct TopView<'a> {
    /// The level.
    pub level: &'a str,
    /// What was asked.
    pub asked: &'a ReachQuestion,
    /// The pass.
    pub answer: &'a Answer,
    /// From here on everything is held.
    pub complete_from: TsMs,
    /// The keys.
    pub top: &'a TopReach,
}

/// The keys of a level that reach most users.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TopAnswer<'a> {
    #[schema(example = "campaign")]
    level: &'a str,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    #[schema(schema_with = window_of_rule)]
    window: &'a Window,
    /// The instant asked for. Only where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    at: Option<TsMs>,
    /// As of `GET /reach/{key}`.
    #[schema(value_type = u64)]
    as_of: TsMs,
    /// As of `GET /reach/{key}`.
    #[schema(value_type = u64)]
    complete_from: TsMs,
    /// The keys, those with most users first.
    keys: Vec<KeyTop<'a>>,
    /// Only where it is false: the level has so many keys that users of some of these may be missing (`missed_at_most`), or
    /// other keys may reach more.
    #[serde(skip_serializing_if = "is_true")]
    #[schema(value_type = Option<bool>)]
    exact: bool,
    /// How long all logs took to be read.
    took_ms: u64,
    #[schema(example = "user")]
    per: &'static str,
    /// Rows that could not be read and are not counted. Only where there are any.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(value_type = Option<u64>)]
    unreadable_rows: u64,
}

/// A key of a level.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct KeyTop<'a> {
    #[schema(example = "campaign:42")]
    key: &'a str,
    users: u64,
    impressions: u64,
    average: f64,
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    at_limit: u64,
    over: UserEvents,
    capped_now: u64,
    saturated: u64,
    /// Only where there may be any: how many users more the key may reach.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(value_type = Option<u64>)]
    missed_at_most: u64,
}

impl<'a> From<&'a TopKey> for KeyTop<'a> {
    fn from(TopKey { key, reach, limit, missed }: &'a TopKey) -> Self {
        Self {
            key,
            users: reach.reached.users,
            impressions: reach.reached.impressions,
            average: reach.average(),
            limit: *limit,
            at_limit: reach.at_limit,
            over: reach.over.into(),
            capped_now: reach.capped_now,
            saturated: reach.saturated,
            missed_at_most: *missed,
        }
    }
}

impl<'a> From<TopView<'a>> for TopAnswer<'a> {
    fn from(TopView { level, asked, answer, complete_from, top }: TopView<'a>) -> Self {
        Self {
            level,
            kind: asked.kind,
            window: &asked.window,
            at: asked.at,
            as_of: answer.as_of,
            complete_from,
            keys: top.keys.iter().map(KeyTop::from).collect(),
            exact: top.exact,
            took_ms: took_ms(answer),
            per: "user",
            unreadable_rows: answer.unreadable,
        }
    }
}

/// How far all logs are read: ask again for the answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Passing {
    /// Shards that are done.
    #[schema(example = 17)]
    pub done: usize,
    /// Shards in all.
    #[schema(example = 256)]
    pub total: usize,
}

/// What a rule would have refused of the events that are held.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WouldRefuse {
    /// So many of them, one after the other: what is refused does not count against later ones.
    impressions: u64,
    /// Their share of all that are held; 0 of none.
    share: f64,
}

/// When the caps of the newly capped would end, in ms since 1970. Null without any. Exact up to 8,192 of them; then it is up to
/// 1 % of the time from `as_of` too late.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Until {
    /// Half of them by then.
    p50: Option<u64>,
    /// 95 of a hundred by then.
    p95: Option<u64>,
}

/// What a rule would do. Nothing is stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TryAnswer {
    /// The instant that was judged.
    #[schema(value_type = u64)]
    as_of: TsMs,
    /// Users with an event of the kind in the rule's window, on a key that it names.
    users: u64,
    /// User and key pairs that no enforced rule caps, and that would be capped.
    newly_capped: u64,
    /// Pairs that are capped, and would not be: by an exemption, or since the rule takes the place of others.
    no_longer_capped: u64,
    would_refuse: WouldRefuse,
    /// Pairs (`users`) by how many events they have in the rule's window: ten bins, 1 to 9 and `10+`.
    histogram: Vec<FrequencyBin>,
    until: Until,
    /// Shards that were read.
    shards: Passing,
    /// Rows that could not be read and are not counted. Only where there are any.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(value_type = Option<u64>)]
    unreadable_rows: u64,
}

impl TryAnswer {
    /// Of a pass.
    pub fn new(answer: &Answer, trial: &model::Trial) -> Self {
        Self {
            as_of: answer.as_of,
            users: trial.users,
            newly_capped: trial.newly_capped,
            no_longer_capped: trial.no_longer_capped,
            would_refuse: WouldRefuse { impressions: trial.refused, share: share(trial.refused, trial.held) },
            histogram: bins(&trial.histogram),
            until: Until { p50: trial.until.map(|until| until.p50.0), p95: trial.until.map(|until| until.p95.0) },
            shards: Passing { done: answer.shards, total: answer.shards },
            unreadable_rows: answer.unreadable,
        }
    }
}

/// A rule as it is, or would be.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PlainRule {
    #[schema(example = "brand-x")]
    id: String,
    #[schema(example = "campaign:42")]
    key: String,
    #[schema(value_type = String, example = "impression")]
    kind: Kind,
    #[schema(value_type = Option<u64>)]
    limit: Limit,
    #[schema(schema_with = window_of_rule)]
    window: Window,
    mode: Mode,
}

impl From<&Rule> for PlainRule {
    fn from(rule: &Rule) -> Self {
        Self {
            id: rule.id.as_str().to_owned(),
            key: rule.key.to_string(),
            kind: rule.kind,
            limit: rule.limit,
            window: rule.window.clone(),
            mode: rule.mode.into(),
        }
    }
}

/// What a change of a rule would change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RuleDiff {
    /// The rule in force; null where there is none of this id.
    before: Option<PlainRule>,
    /// The rule that would be.
    after: PlainRule,
    /// The members that differ; all of them of a new rule.
    #[schema(example = json!(["limit"]))]
    changed: Vec<&'static str>,
}

impl RuleDiff {
    fn new(before: Option<&Rule>, after: &Rule) -> Self {
        let differs = [
            ("key", before.is_none_or(|before| before.key != after.key)),
            ("kind", before.is_none_or(|before| before.kind != after.kind)),
            ("limit", before.is_none_or(|before| before.limit != after.limit)),
            ("window", before.is_none_or(|before| before.window != after.window)),
            ("mode", before.is_none_or(|before| before.mode != after.mode)),
        ];
        let changed = differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        Self { before: before.map(PlainRule::from), after: after.into(), changed }
    }
}

/// What a change of a rule would do. Nothing is stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DryRunAnswer {
    #[serde(flatten)]
    tried: TryAnswer,
    diff: RuleDiff,
}

impl DryRunAnswer {
    /// Of what was tried, and the rule in whose place it would come.
    pub fn new(tried: TryAnswer, before: Option<&Rule>, after: &Rule) -> Self {
        Self { tried, diff: RuleDiff::new(before, after) }
    }
}

/// What `PUT /rules/{id}` answers: the rule, or with `dry_run=true` what the change would do.
// The two forms; each is written by itself.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
pub enum PutRuleAnswer {
    /// The rule, which is in force.
    Changed(RuleAnswer),
    /// What the change would do.
    DryRun(Box<DryRunAnswer>),
}
