//! The rules in force, and how they are changed.

use crate::model::{Rule, RuleId};
use crate::shard::{Precondition, Refusal, Router, RuleView, Rulebook, RulebookError};
use crate::store::ChangedBy;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Reads and changes rules. Cheap to clone.
#[derive(Clone)]
pub struct Rules {
    rulebook: Rulebook,
    router: Router,
    /// Changes come one after another: the others wait here, not each on a thread that somebody else could use.
    changing: Arc<Mutex<()>>,
}

/// Why a rule was not changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ChangeError {
    #[error(transparent)]
    Rulebook(#[from] RulebookError),
    #[error("the thread that changes rules ended")]
    Gone,
}

impl Rules {
    pub(super) fn new(rulebook: Rulebook, router: Router) -> Self {
        Self { rulebook, router, changing: Arc::default() }
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
            let by = ChangedBy { key, call: format!("PUT /rules/{}", rule.id.as_str()) };
            Ok(rules.rulebook.put(rule, &expect, by, &rules.router)?)
        })
        .await
    }

    /// Makes or changes rules and removes others, all at once. `expect` is of the first of `put`; `key`: who does it, by `call`.
    pub async fn change_several(
        &self,
        key: Option<String>,
        call: String,
        (put, remove): (Vec<Rule>, Vec<RuleId>),
        expect: Precondition,
    ) -> Result<Vec<(bool, RuleView)>, ChangeError> {
        self.change(move |rules| {
            Ok(rules.rulebook.change(put, &remove, &expect, ChangedBy { key, call }, &rules.router)?)
        })
        .await
    }

    /// Removes a rule. `key`: who does it.
    pub async fn delete(&self, key: Option<String>, id: String, expect: Precondition) -> Result<(), ChangeError> {
        self.change(move |rules| {
            let by = ChangedBy { key, call: format!("DELETE /rules/{id}") };
            Ok(rules.rulebook.delete(&id, &expect, by, &rules.router)?)
        })
        .await
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
