//! The settings of caps: the rule of the flags, and what a log keeps.

use super::error::ConfigError;
use super::rules::RuleConfig;
use crate::engine::Policy;
use crate::model::{Kind, Limit, Nobody, Rule, RuleId, RuleSet, Span, Window};
use crate::settings::{Count, Invalid, Value, settings};
use crate::shard::Source;
use std::time::Duration;

settings! {
    /// The settings of caps.
    pub struct CappingSettings, CappingFlags {
        "Capping" {
            limit: Limit = "5", "N|none",
                "The rule `default`: at most N impressions of an ad per user and window; none makes no such rule";
            window: Window = "5d", "WINDOW",
                "Window of the rule `default`: a duration, lifetime, or day@ZONE, week@ZONE, month@ZONE (day@Asia/Seoul)";
            retention: Span = "7d", "DURATION",
                "How long events are held, and how old one may be to count; a rule's longer window wins";
            lifetime_retention: Span = "400d", "DURATION",
                "How long a log under a lifetime rule is held after its newest event";
            max_skew: Duration = "60s", "DURATION",
                "How far ahead of this clock an event may be; one further ahead is rejected";
            history_limit: Count<1, 65_535> = "256", "N",
                "Events of each kind held per user and key; no limit over a window can be higher. Over 4096, a log holds fewer \
                 than 16 kinds: 65536 events in all";
            duplicate_window: DuplicateWindow = "none", "DURATION|none",
                "How far apart in time two events with one id may lie and still be one: for ids that are not unique. none is \
                 as far as the log goes";
            ignore_users: Nobody = "builtin", "PATTERN,..|none",
                "Users that mean nobody, whose events are acknowledged and kept nowhere: patterns (* is any text, upper and \
                 lower case are alike) besides the all-zero advertising id, null, undefined, unknown, [*], ${*}, %%*%%, \
                 {{*}}; none takes those away";
        }
    }
}

/// How far apart two events with one id may lie and still be one: as far as the log goes where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateWindow(Option<Span>);

impl DuplicateWindow {
    /// In milliseconds; `u64::MAX` where it is unlimited.
    pub fn as_millis(self) -> u64 {
        self.0.map_or(u64::MAX, |span| span.as_millis())
    }
}

impl Value for DuplicateWindow {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => Span::read(text).map(|span| Self(Some(span))).map_err(|why| format!("{why}, nor `none`")),
        }
    }
}

impl CappingSettings {
    /// Checks that the settings fit each other.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.max_skew > Duration::from_secs(86_400) {
            return Err(Invalid::new("max_skew", "is more than a day"));
        }
        let most = self.history_limit.get();
        if let Some(rule) = self.default_rule()
            && rule.rule(most).is_err()
        {
            return Err(Invalid::new("limit", format!("is more than a log keeps (--history-limit {most})")));
        }
        Ok(())
    }

    /// The rule that `limit` and `window` make.
    fn default_rule(&self) -> Option<RuleConfig> {
        self.limit.map(|limit| RuleConfig::default_rule(Some(limit), self.window.clone(), Kind::IMPRESSION))
    }

    /// The rules of the flags, and those of the file.
    pub fn fixed_rules(&self, of_file: &[RuleConfig]) -> Result<Vec<(Rule, Source)>, ConfigError> {
        let mut rules: Vec<(Rule, Source)> = Vec::new();
        let default = self.default_rule();
        let flags = default.iter().map(|rule| (rule, Source::Flags));
        for (rule, source) in flags.chain(of_file.iter().map(|rule| (rule, Source::File))) {
            let rule = rule.rule(self.history_limit.get()).map_err(ConfigError)?;
            if rules.iter().any(|(other, _)| other.id == rule.id) {
                let id = rule.id.as_str();
                let by_flags = id == RuleId::DEFAULT && self.limit.is_some();
                let why = if by_flags {
                    "limit and window make one of that name (--limit none makes none)"
                } else {
                    "there are two"
                };
                return Err(ConfigError(format!("rule {id:?}: {why}")));
            }
            rules.push((rule, source));
        }
        Ok(rules)
    }

    /// The rules of the flags and the file, and the limits of what is held.
    pub fn policy(&self, of_file: &[RuleConfig]) -> Result<Policy, ConfigError> {
        Ok(Policy::new(
            RuleSet::new(self.fixed_rules(of_file)?.into_iter().map(|(rule, _)| rule)),
            self.history_limit.get(),
            self.retention.as_millis(),
            self.lifetime_retention.as_millis(),
            u64::try_from(self.max_skew.as_millis()).unwrap_or(u64::MAX),
        )
        .with_duplicate_window_ms(self.duplicate_window.as_millis())
        .with_nobody(self.ignore_users.clone()))
    }
}
