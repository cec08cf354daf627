//! The policy of the log: rules and settings in force, as a record says.

use super::command::Policy;
use crate::api::read_rule;
use crate::engine;
use crate::input::EventReader;
use crate::model::{Nobody, Rule, RuleSet};
use serde_json::Value;
use std::sync::Arc;

/// The version of the engine's decisions. Raised whenever the same records would do something else.
pub const ENGINE: u32 = 1;

/// Why a policy cannot be brought into force. All nodes of this version find the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The node must stop: others may decide by a newer engine.
    #[error(
        "cluster_engine_newer: the log's policy is for engine {0}, and this freqcap has engine {ENGINE}; update this node"
    )]
    Newer(u32),
    /// The record is void.
    #[error("the policy cannot be read: {0}")]
    Invalid(String),
}

/// A policy in force.
#[derive(Clone)]
pub struct InForce {
    /// What verdicts follow.
    pub policy: Arc<engine::Policy>,
    /// How events are read.
    pub events: EventReader,
}

impl Policy {
    /// Brings it into force.
    pub fn in_force(&self) -> Result<InForce, PolicyError> {
        if self.engine > ENGINE {
            return Err(PolicyError::Newer(self.engine));
        }
        let invalid = |why: String| PolicyError::Invalid(why);
        let rules: Vec<Rule> = self.rules.iter().map(read).collect::<Result<_, _>>().map_err(invalid)?;
        let settings = &self.settings;
        for rule in &rules {
            rule.check(settings.history_limit).map_err(|why| invalid(why.to_string()))?;
        }
        let nobody = settings.nobody.parse::<Nobody>().map_err(|why| invalid(format!("nobody: {why}")))?;
        let events = EventReader::new(&settings.fields).map_err(|why| invalid(why.to_string()))?;
        let (retention, lifetime) = (settings.retention_ms, settings.lifetime_retention_ms);
        let policy =
            engine::Policy::new(RuleSet::new([]), settings.history_limit, retention, lifetime, settings.max_skew_ms)
                .with_max_kinds(settings.max_kinds)
                .with_duplicate_window_ms(settings.duplicate_window_ms)
                .with_nobody(nobody)
                .with_rules(RuleSet::new(rules), self.revision);
        Ok(InForce { policy: Arc::new(policy), events })
    }
}

fn read(rule: &Value) -> Result<Rule, String> {
    let id = rule.get("id").and_then(Value::as_str).ok_or("a rule has no id")?;
    read_rule(id, &rule.to_string()).map_err(|why| format!("rule {id}: {why}"))
}
