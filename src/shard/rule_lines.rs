//! Rules as the audit tells them.

use crate::model::Rule;
use crate::store::{AuditEntry, ChangedBy};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// More changes of one start than these have one line together.
const LINES_MAX: usize = 1_000;

/// Rules by their ids, as the audit has them.
pub(super) type ToldRules = BTreeMap<String, Value>;

/// A rule as the audit has it. `source`: who keeps it.
pub(super) fn told(rule: &Rule, source: &str) -> Value {
    json!({
        "id": rule.id.as_str(), "key": rule.key.to_string(), "kind": rule.kind, "limit": rule.limit, "window": rule.window,
        "mode": rule.mode, "source": source,
    })
}

/// The line of a change that a call makes.
pub(super) fn line(by: ChangedBy, before: Value, after: Value) -> AuditEntry {
    AuditEntry { by, before, after }
}

/// The lines of what a start changes: rules of the flags and the file that are others than at the start before. They stand
/// before those of the API, which are `api`.
pub(super) fn lines_of_start(before: &ToldRules, after: &ToldRules, api: &ToldRules) -> Vec<AuditEntry> {
    const CALL: &str = "start with other settings";
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut lines = Vec::new();
    for id in ids {
        let in_force = |fixed: &ToldRules| fixed.get(id).or_else(|| api.get(id)).cloned().unwrap_or_default();
        let (was, is) = (in_force(before), in_force(after));
        if was != is {
            lines.push(AuditEntry::without_call(CALL, was, is));
        }
    }
    if lines.len() > LINES_MAX {
        let count = |rules: &ToldRules| json!({"rules_of_settings": rules.len()});
        let mut after = count(after);
        after["changed"] = json!(lines.len());
        return vec![AuditEntry::without_call(CALL, count(before), after)];
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(of: &[(&str, u64)]) -> ToldRules {
        of.iter().map(|(id, limit)| ((*id).to_owned(), json!({"id": id, "limit": limit}))).collect()
    }

    #[test]
    fn a_start_tells_each_rule_that_its_settings_changed() {
        let (before, after) =
            (rules(&[("a", 1), ("b", 1), ("c", 1), ("api", 5)]), rules(&[("a", 1), ("b", 2), ("d", 1)]));
        let lines = lines_of_start(&before, &after, &rules(&[("api", 3), ("other", 1)]));
        let limits = |line: &AuditEntry| (line.before["limit"].as_u64(), line.after["limit"].as_u64());
        let told: Vec<_> = lines.iter().map(limits).collect();
        // The API's rule is in force again where the settings' one is gone.
        assert_eq!(told, [(Some(5), Some(3)), (Some(1), Some(2)), (Some(1), None), (None, Some(1))]);
        assert_eq!(lines_of_start(&after, &after, &ToldRules::new()), []);
    }

    #[test]
    fn very_many_changes_have_one_line() {
        let many: ToldRules = (0..LINES_MAX as u64 + 1).map(|n| (n.to_string(), json!(n))).collect();
        let lines = lines_of_start(&ToldRules::new(), &many, &ToldRules::new());
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].after["changed"], json!(LINES_MAX + 1));
    }
}
