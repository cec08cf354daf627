//! What must hold of every body of decisions and rules, for the fuzzers of `fuzz/` and the corpus test of
//! [`crate::fuzzing`].

use super::{CheckBody, MAX_CANDIDATES, MAX_TTL_MS, ReleaseBody, ReserveBody, read_rule};
use crate::input::fuzz::{DEPTH, assert_same, check_keys, depth, is_log_time, rewritten};
use crate::model::{Candidate, DaId, Mode, Rule, Window};

/// A body of `/check`, `/reserve` and `/release`.
pub(crate) fn decisions(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    let rewritten = rewritten(body);
    let (check, reserve, release) = (CheckBody::read(body), ReserveBody::read(body), ReleaseBody::read(body));
    if let Ok(check) = &check {
        check_candidates(&check.candidates);
        assert!(check.at.is_none_or(is_log_time), "{check:?}");
    }
    if let Ok(reserve) = &reserve {
        check_candidates(&reserve.candidates);
        assert!(reserve.want > 0 && reserve.ttl_ms.is_none_or(|ttl| (1..=MAX_TTL_MS).contains(&ttl)), "{reserve:?}");
    }
    let Some(rewritten) = &rewritten else { return };
    assert_same(&check, &CheckBody::read(rewritten), body);
    assert_same(&release, &ReleaseBody::read(rewritten), body);
    // A value that is deep is hashed as it is written.
    let (mut reserve, mut again) = (reserve, ReserveBody::read(rewritten));
    if depth(body) > DEPTH {
        [&mut reserve, &mut again].into_iter().flatten().for_each(|request| request.body_hash = 0);
    }
    assert_same(&reserve, &again, body);
}

fn check_candidates(candidates: &[Candidate<'_>]) {
    assert!(candidates.len() <= MAX_CANDIDATES);
    for candidate in candidates {
        assert!(DaId::new(candidate.da.as_str()).is_ok(), "{candidate:?}");
        check_keys(&candidate.keys);
    }
}

/// A rule's body: what it says can be written out and read again.
pub(crate) fn rule(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    let rule = read_rule("r", body);
    if let Some(rewritten) = rewritten(body) {
        match (&rule, &read_rule("r", &rewritten)) {
            (Err(a), Err(b)) => assert_eq!(a, b, "{body:?}"),
            (a, b) => assert_eq!(a, b, "{body:?} {rewritten:?}"),
        }
    }
    let Ok(rule) = rule else { return };
    assert!(!matches!(rule.window, Window::Rolling(span) if span.as_millis() == 0), "{rule:?}");
    assert!(rule.window.retention_ms().is_none_or(|ms| ms > 0), "{rule:?}");
    let written = written(&rule);
    assert_eq!(read_rule("r", &written), Ok(rule), "{body:?} {written:?}");
}

/// A rule as the API takes it and as it stands in files.
pub(crate) fn written(rule: &Rule) -> String {
    let mode = if rule.mode == Mode::Shadow { "shadow" } else { "enforce" };
    let rule = serde_json::json!({
        "id": rule.id.as_str(), "key": rule.key.to_string(), "kind": rule.kind.as_str(), "limit": rule.limit,
        "window": rule.window, "mode": mode,
    });
    rule.to_string()
}
