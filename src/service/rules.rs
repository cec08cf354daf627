//! The rules in force, and how they are changed.

use super::audit::{Audit, AuditEntry, AuditError};
use crate::api::RuleAnswer;
use crate::model::Rule;
use crate::shard::{Precondition, Refusal, Router, RuleView, Rulebook, RulebookError};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Reads and changes rules. Cheap to clone.
#[derive(Clone)]
pub struct Rules {
    rulebook: Rulebook,
    router: Router,
    /// Changes come one after another: the others wait here, not each on a thread that somebody else could use.
    changing: Arc<Mutex<()>>,
    audit: Audit,
}

/// Why a rule was not changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ChangeError {
    #[error(transparent)]
    Rulebook(#[from] RulebookError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the thread that changes rules ended")]
    Gone,
}

impl Rules {
    pub(super) fn new(rulebook: Rulebook, router: Router, audit: Audit) -> Self {
        Self { rulebook, router, changing: Arc::default(), audit }
    }

    /// All rules, by id.
    pub fn list(&self) -> Vec<RuleView> {
        self.rulebook.list()
    }

    /// How many rules there are.
    pub fn count(&self) -> usize {
        self.rulebook.count()
    }

    /// A rule by its id.
    pub fn get(&self, id: &str) -> Result<RuleView, RulebookError> {
        self.rulebook.get(id)
    }

    /// Whether changes are taken now.
    pub fn accepts_changes(&self) -> Result<(), Refusal> {
        self.router.health().refusal().map_or(Ok(()), Err)
    }

    /// Makes or changes a rule. Says whether it is a new one. `key`: who does it.
    pub async fn put(
        &self,
        key: Option<String>,
        rule: Rule,
        expect: Precondition,
    ) -> Result<(bool, RuleView), ChangeError> {
        self.change(move |rules| {
            let id = rule.id.as_str().to_owned();
            let before = rules.told(&id);
            let done = rules.rulebook.put(rule, &expect, &rules.router)?;
            let after = rules.told(&id);
            rules.audit.record_now(&AuditEntry { key, call: format!("PUT /rules/{id}"), before, after })?;
            Ok(done)
        })
        .await
    }

    /// Removes a rule. `key`: who does it.
    pub async fn delete(&self, key: Option<String>, id: String, expect: Precondition) -> Result<(), ChangeError> {
        self.change(move |rules| {
            let before = rules.told(&id);
            rules.rulebook.delete(&id, &expect, &rules.router)?;
            let after = Value::Null;
            rules.audit.record_now(&AuditEntry { key, call: format!("DELETE /rules/{id}"), before, after })?;
            Ok(())
        })
        .await
    }

    /// A rule as the audit has it; null where there is none.
    fn told(&self, id: &str) -> Value {
        let Ok(view) = self.rulebook.get(id) else { return Value::Null };
        let mut rule = serde_json::to_value(RuleAnswer::from(view)).unwrap_or_default();
        // How far the mirror follows is no part of what was changed.
        if let Value::Object(members) = &mut rule {
            members.remove("mirror");
        }
        rule
    }

    /// Runs a change on a thread that may wait for the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Self) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let rules = self.clone();
        let turn = self.changing.clone().lock_owned().await;
        let change = move || {
            // To the end, even if nobody waits for the answer any more.
            let _turn = turn;
            change(&rules)
        };
        let changed = tokio::task::spawn_blocking(change).await;
        changed.map_err(|_| ChangeError::Gone)?
    }
}
