//! Every decoder as a function of bytes alone, with what must hold of what it reads. The fuzzers of `fuzz/` look for bytes
//! of which it does not; the smallest ones that they found to be different stand in `fuzz/corpus-min` and are a test.

use crate::api::{fuzz as api, read_rule};
use crate::config::RuleConfig;
use crate::engine::{KeyLog, Policy, Question, capped_until, judge, user_cap};
use crate::input::fuzz as input;
use crate::model::{Log, RuleSet, TsMs};
use crate::store::decode_log;
use crate::store::fuzz as store;
use crate::{bucket, cli, cluster, config, http, mirror, shard, snapshot};
use std::sync::LazyLock;

/// Panics where something does not hold.
pub type Target = fn(&[u8]);

/// By name, as in `fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Target); 25] = [
    ("bucket_url", bucket::fuzz::bucket_url),
    ("canonical", input::canonical),
    ("caps", store::caps),
    ("command", cluster::fuzz_command),
    ("decisions", api::decisions),
    ("events", input::events),
    ("files", cli::fuzz::files),
    ("instant", input::instant),
    ("journal", store::journal),
    ("judge", judged),
    ("log", store::log),
    ("log_written", store::log_written),
    ("manifest", snapshot::fuzz::manifest),
    ("names", mirror::fuzz::names),
    ("owner", cluster::fuzz_owner),
    ("pulled", store::pulled),
    ("query", http::fuzz::query),
    ("replies", mirror::fuzz::replies),
    ("reservation", store::reservation),
    ("row_key", store::row_key),
    ("rule", api::rule),
    ("rule_list", rule_list),
    ("settings", config::fuzz::settings),
    ("stored_rule", shard::stored_rule),
    ("unpacked", http::fuzz::unpacked),
];

/// The rules of a file: a rule that is taken means the same to the API.
fn rule_list(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    let Ok(rules) = RuleConfig::list(json) else { return };
    for config in rules {
        let Ok(rule) = config.rule(256) else { continue };
        let written = api::written(&rule);
        assert_eq!(read_rule(rule.id.as_str(), &written).as_ref(), Ok(&rule), "{json:?}");
        let again = RuleConfig::list(&format!("[{written}]"));
        assert!(again.as_ref().is_ok_and(|again| again.iter().eq([&config])), "{json:?} {again:?}");
    }
}

/// Every kind of window, on every ad.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    const RULES: &str = r#"[
        {"id":"default","key":"da:*","limit":5,"window":"5d"},
        {"id":"day","key":"da:*","limit":3,"window":"{\"calendar\":\"day\",\"tz\":\"America/New_York\"}"},
        {"id":"week","key":"da:*","limit":2,"kind":"click","window":"{\"calendar\":\"week\",\"tz\":\"Asia/Seoul\"}"},
        {"id":"month","key":"da:*","limit":1,"kind":"conversion","window":"{\"calendar\":\"month\",\"tz\":\"UTC\"}"},
        {"id":"ever","key":"da:*","limit":9,"window":"lifetime"},
        {"id":"shadow","key":"da:*","limit":1,"window":"90s","mode":"shadow"}
    ]"#;
    let rules = RuleConfig::list(RULES).unwrap_or_default();
    let rules = RuleSet::new(rules.iter().filter_map(|rule| rule.rule(16).ok()));
    Policy::new(rules, 16, 7 * 86_400_000, 400 * 86_400_000, 60_000)
});

/// A log, after four bytes that say how long after its first event (signed, in ms) it is judged: the cap lasts for as long
/// as it is told, and not a millisecond longer.
fn judged(bytes: &[u8]) {
    const KEY: &str = "da:77";
    let Some((after, row)) = bytes.split_first_chunk() else { return };
    let Ok(row) = decode_log(row) else { return };
    let times = row.log.sections.iter().flat_map(|section| {
        section.entries.iter().map(|entry| entry.ts).chain(section.reservations.iter().map(|held| held.ts))
    });
    let (first, last) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    let now = TsMs(first.0.saturating_add_signed(i64::from(i32::from_le_bytes(*after))));
    let question = Question { kind: None, at: None, explain: false };
    let seen_at = |now: TsMs| {
        let mut log = row.log.clone();
        POLICY.refresh(KEY, &mut log, now);
        log
    };
    let cap_at = |log: &Log, now| capped_until(&POLICY, KEY, log, now);
    let log = seen_at(now);
    let verdict = judge(&POLICY, &[KeyLog { key: KEY, log: &log }], question, now, |_| {});
    let until = cap_at(&log, now);
    assert_eq!((verdict.capped, verdict.capped_until), (until.is_some(), until));
    assert_eq!(user_cap(&POLICY, KEY, &log, now).map(|cap| cap.capped_until), until);
    let asked = judge(
        &POLICY,
        &[KeyLog { key: KEY, log: &log }],
        Question { kind: None, at: Some(now), explain: false },
        now,
        |_| {},
    );
    assert!(asked.rules.iter().zip(&verdict.rules).all(|(asked, all)| asked.count <= all.count));
    // Beyond log times the calendar stands still.
    let latest = now.max(last).max(until.unwrap_or_default());
    let Some(until) = until.filter(|_| TsMs::RANGE.contains(&i128::from(latest.0))) else { return };
    assert!(until > now);
    assert_eq!(cap_at(&seen_at(until), until), None, "capped at {until:?}, when the cap ends");
    let last = TsMs(until.0 - 1);
    assert_eq!(cap_at(&seen_at(last), last), Some(until), "no longer capped just before {until:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::{fs, panic};

    /// What was a fault once, and what leads to every place that the fuzzers have reached.
    #[test]
    fn what_fuzzers_found_stays_found() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus-min");
        let mut wrong = Vec::new();
        for (name, target) in TARGETS {
            let mut files = 0;
            for file in fs::read_dir(corpus.join(name)).into_iter().flatten() {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                files += 1;
                if panic::catch_unwind(|| target(&bytes)).is_err() {
                    wrong.push(path);
                }
            }
            assert!(files > 0, "fuzz/corpus-min/{name} is empty");
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_target_has_its_fuzzer() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let mut fuzzers: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        fuzzers.sort();
        assert_eq!(fuzzers, TARGETS.map(|(name, _)| name));
    }
}
