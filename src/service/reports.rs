//! What is counted over all users: reach and frequency, and what a rule would do.

use crate::engine::ReachQuestion;
use crate::model::{CapKey, Kind, Level, Rule, Span, Window};
use crate::settings::Value;
use crate::shard::{Asked, Found, Precondition, Rulebook, RulebookError, Survey, SurveyBusy, SurveyQuestion};
use metrics::gauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The gauges of the keys that are watched.
pub(super) const USERS: &str = "freqcap_reach_users";
pub(super) const OVER: &str = "freqcap_reach_over";

/// The window of a question that names none.
pub const WINDOW_DEFAULT: Span = Span::days(7);
/// Calls that wait at a time. More are told at once how far it is.
const WAITING_MAX: usize = 64;
/// Keys that can be watched.
const REPORT_KEYS_MAX: usize = 100;
/// How long the watched keys wait for their pass before they ask again.
const WATCH_PATIENCE: Duration = Duration::from_secs(600);

/// Answers questions about all users. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    survey: Survey,
    rulebook: Rulebook,
    waiting: Arc<Semaphore>,
    /// How long a call waits for its answer before it is told how far that is.
    patience: Duration,
}

/// What a change of a rule would do.
pub struct Tried {
    /// The rule of the same id that it would replace.
    pub replaces: Option<Arc<Rule>>,
    /// What it would do, or how far that is counted.
    pub asked: Asked,
}

/// Why a rule was not tried.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TryError {
    #[error(transparent)]
    Rulebook(#[from] RulebookError),
    #[error(transparent)]
    Busy(#[from] SurveyBusy),
}

impl Reports {
    pub(super) fn new(survey: Survey, rulebook: Rulebook, patience: Duration) -> Self {
        Self { survey, rulebook, waiting: Arc::new(Semaphore::new(WAITING_MAX)), patience }
    }

    /// What a key reaches, as of `max_age` ago at the earliest; `by_hour` with the curve of the day before.
    pub async fn reach(
        &self,
        key: CapKey<'static>,
        asked: ReachQuestion,
        by_hour: bool,
        max_age: Duration,
    ) -> Result<Asked, SurveyBusy> {
        self.ask(SurveyQuestion::Reach { key, asked, by_hour }, max_age).await
    }

    /// The keys of a level that reach most users.
    pub async fn top(
        &self,
        level: Level,
        asked: ReachQuestion,
        top: usize,
        max_age: Duration,
    ) -> Result<Asked, SurveyBusy> {
        self.ask(SurveyQuestion::Top { level, asked, top }, max_age).await
    }

    /// What a rule would do beside the others, or in the place of the one of its id, whoever keeps that. Nothing is stored.
    pub async fn try_rule(&self, rule: Rule) -> Result<Asked, TryError> {
        rule.check(self.rulebook.in_force().history_limit()).map_err(RulebookError::from)?;
        Ok(self.ask_trial(rule).await?)
    }

    /// What a change would do that [`super::Rules::put`] would make. Nothing is stored.
    pub async fn try_change(&self, rule: Rule, expect: &Precondition) -> Result<Tried, TryError> {
        let replaces = self.rulebook.preview(&rule, expect)?;
        Ok(Tried { replaces, asked: self.ask_trial(rule).await? })
    }

    async fn ask_trial(&self, rule: Rule) -> Result<Asked, SurveyBusy> {
        let revision = self.rulebook.in_force().revision();
        self.ask(SurveyQuestion::Trial { rule, revision }, Duration::ZERO).await
    }

    /// An id for a rule that has none, since it is only tried: one that no rule has.
    pub fn free_rule_id(&self) -> String {
        let mut id = String::from("try");
        let mut number = 1u32;
        while self.rulebook.get(&id).is_ok() {
            number += 1;
            id = format!("try-{number}");
        }
        id
    }

    async fn ask(&self, question: SurveyQuestion, max_age: Duration) -> Result<Asked, SurveyBusy> {
        let place = self.waiting.try_acquire().ok();
        let patience = if place.is_some() { self.patience } else { Duration::ZERO };
        self.survey.ask(question, max_age, patience).await
    }

    /// Sets the gauges of these keys now and then, until `drain`.
    pub async fn watch(self, keys: ReportKeys, every: Duration, drain: CancellationToken) {
        loop {
            tokio::select! {
                () = self.measure(&keys) => {}
                () = drain.cancelled() => return,
            }
            if tokio::time::timeout(every, drain.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// One pass answers for all keys: all are asked before any answer is waited for.
    async fn measure(&self, keys: &ReportKeys) {
        let asked = ReachQuestion { kind: Kind::IMPRESSION, window: Window::Rolling(WINDOW_DEFAULT), at: None };
        let question = |key: &CapKey<'static>| {
            let (key, asked) = (key.clone(), asked.clone());
            SurveyQuestion::Reach { key, asked, by_hour: false }
        };
        let asking = keys.0.iter().map(|key| self.survey.ask(question(key), Duration::ZERO, WATCH_PATIENCE));
        for (key, answer) in keys.0.iter().zip(futures_util::future::join_all(asking).await) {
            let Ok(Asked::Answered(answer)) = answer else { continue };
            if let Found::Reach { reach, .. } = &answer.found {
                let key = key.as_str().to_owned();
                gauge!(USERS, "key" => key.clone()).set(reach.reach.reached.users as f64);
                gauge!(OVER, "key" => key).set(reach.reach.over.users as f64);
            }
        }
    }
}

/// The keys whose reach is a metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReportKeys(Vec<CapKey<'static>>);

impl ReportKeys {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value for ReportKeys {
    fn read(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        let mut keys = Vec::new();
        for part in text.split(',').map(str::trim) {
            let key = CapKey::new(part).map_err(|why| format!("has {part:?}, which {why}"))?.into_owned();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.len() > REPORT_KEYS_MAX {
            return Err(format!("has {} keys, at most {REPORT_KEYS_MAX}", keys.len()));
        }
        Ok(Self(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_once_and_bounded() {
        let keys = ReportKeys::read("campaign:1, da:7,campaign:1").unwrap();
        assert_eq!(keys.0.iter().map(CapKey::as_str).collect::<Vec<_>>(), ["campaign:1", "da:7"]);
        assert_eq!(ReportKeys::read("none"), Ok(ReportKeys::default()));
        assert!(ReportKeys::read("campaign:*").is_err() && ReportKeys::read("x").is_err());
        let many = |count: usize| (0..count).map(|n| format!("da:{n}")).collect::<Vec<_>>().join(",");
        assert!(ReportKeys::read(&many(100)).is_ok());
        assert_eq!(ReportKeys::read(&many(101)), Err("has 101 keys, at most 100".to_owned()));
    }
}
