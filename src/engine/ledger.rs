//! All logs in memory: what the backtest runs on, and the model test.

use super::{KeyLog, Outcome, Policy, Question, classify, judge};
use crate::model::{CapKey, Entry, Event, Log, TsMs, Verdict};
use hashbrown::HashMap;

/// The logs of every (user, key) seen, without disk or shards.
#[derive(Debug, Default)]
pub struct Ledger {
    users: HashMap<String, HashMap<String, Log>>,
}

impl Ledger {
    /// Counts an event under the time `ts`, which [`super::admit`] gave.
    pub fn count(&mut self, policy: &Policy, event: &Event<'_>, ts: TsMs, now: TsMs) -> Outcome {
        let hash = event.hash();
        let da = CapKey::of_da(&event.da);
        let da_log = self.log(policy, event.user.as_str(), da.as_str(), now);
        let outcome = classify(policy, &da_log, event.kind, ts, hash, now);
        if outcome == Outcome::Counted {
            let logs = self.users.entry_ref(event.user.as_str()).or_default();
            for key in std::iter::once(&da).chain(&event.keys) {
                let log = logs.entry_ref(key.as_str()).or_default();
                if policy.is_void(key.as_str(), log, now) {
                    *log = Log::default();
                }
                log.insert(event.kind, Entry { ts, hash }, policy.history_limit());
            }
        }
        outcome
    }

    /// The log of a key as judgements see it: empty where there is none or it is void.
    pub fn log(&self, policy: &Policy, user: &str, key: &str, now: TsMs) -> Log {
        let log = self.users.get(user).and_then(|logs| logs.get(key));
        log.filter(|log| !policy.is_void(key, log, now)).cloned().unwrap_or_default()
    }

    /// Judges an ad of a user, over its own key and `keys`.
    pub fn judge(
        &self,
        policy: &Policy,
        user: &str,
        da: &CapKey<'_>,
        keys: &[CapKey<'_>],
        question: Question,
        now: TsMs,
    ) -> Verdict {
        let keys: Vec<_> = std::iter::once(da)
            .chain(keys)
            .map(|key| KeyLog { key: key.as_str(), log: self.log(policy, user, key.as_str(), now) })
            .collect();
        judge(policy, &keys, question, now)
    }
}
