//! Every error code that freqcap gives, once, with its meaning. Programs go by these codes, so none is ever renamed.
//!
//! `docs/reference/errors.md` is made from this list, and a test keeps it complete.

/// An error code, and what it means to whoever gets it.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode {
    /// The `code` of a problem, of a rejected event, or of a dead letter.
    pub code: &'static str,
    /// The HTTP status of an answer with this code. `None`: the code is never that of a whole answer.
    pub status: Option<u16>,
    /// One or two sentences: what is wrong, and what to do.
    pub meaning: &'static str,
}

const fn answer(status: u16, code: &'static str, meaning: &'static str) -> ErrorCode {
    ErrorCode { code, status: Some(status), meaning }
}

const fn other(code: &'static str, meaning: &'static str) -> ErrorCode {
    ErrorCode { code, status: None, meaning }
}

/// All of them, by subject.
pub const ERROR_CODES: &[(&str, &[ErrorCode])] = &[
    ("Events", EVENTS),
    ("Decisions and users", DECISIONS),
    ("Rules", RULES),
    ("Requests", REQUESTS),
    ("Service", SERVICE),
    ("Snapshots", SNAPSHOTS),
    ("Kafka and files", RECORDS),
];

const EVENTS: &[ErrorCode] = &[
    answer(422, "missing_user", "The user is missing."),
    answer(422, "invalid_user", "The user is not text of 1 to 256 bytes without control characters, nor an integer."),
    answer(422, "missing_da", "The ad is missing."),
    answer(422, "invalid_da", "The ad's id has not the form of an id."),
    answer(422, "invalid_id", "The event's id has not the form of an id."),
    answer(422, "invalid_ts", "The time is neither an integer nor RFC 3339 text, or not of the unit in `[fields]`."),
    answer(422, "ts_not_milliseconds", "The time is outside 10^11 to 10^14: seconds or microseconds, most likely."),
    answer(422, "ts_in_future", "The time is further ahead of the service's clock than `--max-skew`."),
    answer(422, "invalid_kind", "The kind is not a lower-case name of at most 32 characters."),
    answer(422, "invalid_key", "A key is not `<level>:<id>`, or names the level `da`."),
    answer(422, "too_many_keys", "More than 16 keys are named besides the ad's own."),
    answer(422, "too_many_kinds", "A log that the event would count in has as many kinds as it may hold."),
    answer(422, "not_an_event", "The body is JSON, but neither an object nor an array."),
    answer(422, "not_an_object", "An event, a rule or another body is JSON, but not an object."),
    answer(
        413,
        "too_many_events",
        "The batch has more events than `--max-batch`. Nothing was counted: send smaller batches.",
    ),
    answer(422, "deleted_row", "A change-data record says that its row was deleted. It is no event."),
    answer(422, "invalid_framing", "The value does not begin as `framing` or `skip_bytes` of `[fields]` say."),
];

const DECISIONS: &[ErrorCode] = &[
    answer(422, "missing_candidates", "`candidates` is missing."),
    answer(422, "invalid_candidates", "`candidates` is not an array."),
    answer(
        422,
        "too_many_candidates",
        "More than 1,000 candidates (50 with `explain`), or ids so long that the answer could exceed 1 MiB.",
    ),
    answer(422, "invalid_at", "`at` is neither ms since 1970 nor RFC 3339 text."),
    answer(422, "invalid_explain", "`explain` is neither `true` nor `false`."),
    answer(422, "invalid_want", "`want` is not a positive integer."),
    answer(422, "invalid_ttl", "`ttl` is neither a duration of at most 1 h nor null."),
    answer(422, "missing_id", "`/release` needs the id of the reservation."),
    answer(409, "id_reused", "The id is known for this user with another body. Use a new id for a new call."),
    answer(
        503,
        "too_many_reservations",
        "A log of this user has as many open reservations as it may hold. Nothing was reserved.",
    ),
    answer(422, "invalid_since", "`since` is no instant."),
    answer(422, "invalid_cursor", "`cursor` is not one that an answer had."),
    answer(
        422,
        "answer_too_large",
        "The answer takes more memory than all reads may have (`--read-memory`). Ask for less at once.",
    ),
];

const RULES: &[ErrorCode] = &[
    answer(404, "unknown_rule", "There is no rule of this id."),
    answer(422, "invalid_rule_id", "The id is not 1 to 64 of `A-Z a-z 0-9 . _ -`, or not the id in the path."),
    answer(422, "unknown_field", "A rule has a member that rules do not have. The detail names it."),
    answer(422, "missing_key", "`key` is missing."),
    answer(422, "missing_limit", "`limit` is missing. Write `null` to exempt the key."),
    answer(422, "invalid_limit", "`limit` is not an integer in its range: of a rule, or of a page."),
    answer(422, "limit_out_of_range", "The limit is higher than `--history-limit`, so it could never be reached."),
    answer(422, "missing_window", "`window` is missing."),
    answer(
        422,
        "invalid_window",
        "The window is neither a duration, nor `lifetime`, nor a calendar period with a time zone.",
    ),
    answer(422, "window_too_long", "The window is longer than can be counted."),
    answer(422, "unknown_zone", "The time zone is not in the IANA database."),
    answer(422, "invalid_mode", "`mode` is neither `enforce` nor `shadow`."),
    answer(422, "shadow_exemption", "A rule with `limit` null cannot be a shadow rule."),
    answer(422, "too_many_rules", "There are as many rules as there may be."),
    answer(409, "rule_is_from_flags", "The rule is kept by `--limit` and `--window`. Change it there."),
    answer(409, "rule_is_from_file", "The rule is kept by the settings file. Change it there."),
    answer(400, "invalid_precondition", "`If-Match` or `If-None-Match` cannot be read."),
    answer(412, "precondition_failed", "The rule was changed since, or exists already. Nothing was changed."),
];

const REQUESTS: &[ErrorCode] = &[
    answer(404, "not_found", "There is no such path. `/docs` lists what there is."),
    answer(405, "method_not_allowed", "The path exists, but not for this method."),
    answer(401, "unauthenticated", "No key is named, or one that there is not, or that has expired."),
    answer(403, "forbidden", "The key has not the scope that the call needs. `scope` names it."),
    answer(421, "host_not_allowed", "Without keys: `Host` is not one of `--hosts`."),
    answer(403, "origin_not_allowed", "Without keys: a page of another origin calls."),
    answer(400, "invalid_request", "This is not a request of HTTP/1.1."),
    answer(400, "invalid_host", "`Host` is missing or named twice."),
    answer(400, "invalid_percent_encoding", "A path or a query is not percent-encoded UTF-8."),
    answer(414, "target_too_long", "The path and query are too long."),
    answer(431, "header_too_large", "The request line and header are over `--max-header`."),
    answer(408, "header_timeout", "The header did not arrive within `--header-timeout`."),
    answer(415, "unsupported_content_type", "The content type is missing or not one that this call takes."),
    answer(415, "unsupported_encoding", "The content encoding is neither gzip nor zstd."),
    answer(400, "invalid_encoding", "The body cannot be unpacked as its content encoding says."),
    answer(400, "invalid_json", "The body, or a line of it, is not JSON."),
    answer(400, "body_incomplete", "The connection ended before the body did."),
    answer(413, "body_too_large", "The body is over `--max-body` (`POST /events`) or 1 MiB (every other call)."),
    answer(
        408,
        "request_timeout",
        "The body did not arrive within `--request-timeout`, or was slower than `--min-body-rate`.",
    ),
];

const SERVICE: &[ErrorCode] = &[
    answer(503, "overloaded", "Too much is under way. Try again after `Retry-After`."),
    answer(503, "stopping", "The service is stopping. Send the request elsewhere."),
    answer(503, "disk_full", "Less than `--min-free-disk` is free, so events are refused. Reads go on."),
    answer(
        503,
        "rules_pending",
        "The change of the rules is durable and in force, but not in the stores of all units; a restart puts it there.",
    ),
    answer(503, "store_failed", "A write failed. This process must be restarted; reads go on until then."),
    answer(503, "store_read_failed", "A read that the write needed failed. The log says why."),
    answer(
        503,
        "row_unreadable",
        "Something stored for this user cannot be read from disk. Other users are served; see `freqcap verify`.",
    ),
    answer(
        503,
        "clock_not_believed",
        "The time of day contradicts what is known, so events without a `ts` are refused; see `freqcap clock accept`.",
    ),
    answer(503, "thread_panicked", "A thread ended by a panic. This process must be restarted."),
    answer(503, "sync_hangs", "The disk has not answered a sync for 5 s. This process must be restarted."),
    answer(503, "kafka_catching_up", "`/readyz?kafka`: what the topic held at the start is not counted yet."),
    answer(500, "internal", "Something failed in the service. Its log says what."),
];

const SNAPSHOTS: &[ErrorCode] = &[
    answer(
        503,
        "starting",
        "The service is starting: it restores a snapshot or waits for its turn. `/readyz` says how far it is.",
    ),
    answer(503, "restoring", "`/readyz`: a snapshot is being restored; `restore` has how far."),
    answer(
        503,
        "waiting_for_lease",
        "`/readyz`: another process writes snapshots under this prefix. Its end is waited for; `--takeover` does not wait.",
    ),
    answer(503, "waiting_for_bucket", "`/readyz`: the bucket does not answer. It is tried again."),
    answer(
        503,
        "superseded",
        "Another process has taken over the store under this prefix. This one takes nothing that would be written: stop it.",
    ),
    answer(409, "snapshots_off", "The service runs without `--snapshots`."),
    answer(
        503,
        "snapshots_waiting",
        "The service does not write under the prefix yet: the bucket did not answer at its start.",
    ),
    answer(503, "bucket_away", "The bucket cannot be reached, or answers with errors of its own. It is tried again."),
    answer(503, "bucket_slow", "The bucket did not answer in time, or asks for fewer requests. It is tried again."),
    answer(
        503,
        "bucket_forbidden",
        "The bucket does not let us: check the credentials and what they may do under the prefix.",
    ),
    answer(503, "bucket_full", "The bucket has no room."),
    answer(503, "bucket_missing", "The bucket, or an object that must be there, is not."),
    answer(503, "bucket_exists", "An object that was to be created is there: another process writes under the prefix."),
    answer(503, "bucket_damaged", "What came from the bucket is not what it must be."),
    answer(503, "bucket_failed", "The bucket answered with something else; the detail has its words."),
    other(
        "bucket_without_conditions",
        "Start: the bucket overwrites what must only be created if absent. It cannot be used.",
    ),
    other("bucket_inconsistent", "Start: the bucket does not give back what was just written. It cannot be used."),
    answer(
        503,
        "snapshot_damaged",
        "An object in the bucket is not what its manifest says. Restore the snapshot before.",
    ),
    other(
        "snapshot_object_missing",
        "Restore: an object that the manifest names is gone. Restore the snapshot before.",
    ),
    answer(503, "snapshot_newer_format", "A newer freqcap wrote the snapshot. Start that version."),
    other("snapshots_of_another_store", "Start: the prefix has snapshots of another store. Choose another prefix."),
    other(
        "data_dir_superseded",
        "Start: another process has written snapshots since this data directory was left, so it lacks what was counted there. \
         Empty it, or name the snapshot that is to replace it with `--restore`.",
    ),
    other("lease_held", "`freqcap snapshot create`: another process writes under the prefix."),
    other("directory_not_empty", "Restore: the directory is not empty."),
    other("restore_unfinished", "Start with `--restore never`: an interrupted restore must be finished first."),
    other("no_snapshot", "There is no such snapshot under the prefix."),
    answer(503, "disk_failed", "The local disk failed while a snapshot was taken or restored."),
    answer(503, "checkpoint_failed", "The store could not be copied on its own disk; the log says why."),
    answer(
        503,
        "snapshot_abandoned",
        "The snapshot took too long and was given up. The next one uses what was uploaded.",
    ),
    other("data_dir_in_use", "Restore: another process uses the data directory."),
    other(
        "restore_failed",
        "Restore: what was restored could not be made ready to be opened. Begin the restore again.",
    ),
];

const RECORDS: &[ErrorCode] = &[
    other(
        "kafka_topic_changed",
        "Logged: a topic was made anew, so its partitions are not read until `--kafka-on-change earliest`.",
    ),
    other("invalid_row", "`replay` and `backtest`: a line is not a row of its table, or is over 1 MiB."),
];

/// Whether a code is in the list.
pub(super) fn is_listed(code: &str) -> bool {
    ERROR_CODES.iter().flat_map(|(_, codes)| *codes).any(|listed| listed.code == code)
}

#[cfg(test)]
mod tests {
    use super::ERROR_CODES;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    /// What stands directly before the literal of a code, in the code base of today.
    const BEFORE_A_CODE: [&str; 11] = [
        "bad_request(",
        "unprocessable(",
        "unavailable(",
        "Problem::new(",
        "Reject::new(",
        "Self::new(StatusCode::",
        "code:",
        "code=",
        "missing(",
        "status,",
        "&'staticstr=",
    ];

    /// Names that look like codes, and are none.
    const NO_CODES: [&str; 0] = [];

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("error_codes.rs") {
                found.push(path);
            }
        }
    }

    /// Every text literal of lower-case words joined by `_`, with the code before it, white space left out.
    fn literals(text: &str) -> Vec<(String, String)> {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut found = Vec::new();
        for (at, _) in text.match_indices('"') {
            let word: String = text[at + 1..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if word.contains('_') && text[at + 1 + word.len()..].starts_with('"') {
                let before: String = text[..at].chars().filter(|c| !c.is_whitespace()).collect();
                found.push((before.chars().rev().take(60).collect::<Vec<_>>().iter().rev().collect(), word));
            }
        }
        found
    }

    fn is_code(before: &str, word: &str) -> bool {
        let statuses = ["StatusCode::", "raw_problem("];
        let after_status = before.ends_with(',') && statuses.iter().any(|status| before.contains(status));
        let prefixes = ["invalid_", "missing_", "too_many_", "unknown_", "unsupported_", "rule_is_"];
        (BEFORE_A_CODE.iter().any(|end| before.ends_with(end)) && !word.starts_with("freqcap_"))
            || after_status
            || prefixes.iter().any(|prefix| word.starts_with(prefix))
    }

    #[test]
    fn every_code_of_the_source_is_listed_and_every_listed_code_is_used() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let listed: Vec<&str> = ERROR_CODES.iter().flat_map(|(_, codes)| *codes).map(|code| code.code).collect();
        let known: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(known.len(), listed.len(), "a code is listed twice");
        let all: Vec<(String, String)> = texts.iter().flat_map(|text| literals(text)).collect();
        let used = all.iter().filter(|(before, word)| is_code(before, word)).map(|(_, word)| word.as_str());
        let used: BTreeSet<&str> = used.filter(|word| !NO_CODES.contains(word)).collect();
        let missing: Vec<_> = used.difference(&known).collect();
        assert!(used.len() > 50 && missing.is_empty(), "list them in src/http/error_codes.rs: {missing:?}");
        let quoted = |code: &&&str| texts.iter().any(|text| text.contains(&format!("\"{code}\"")));
        let unused: Vec<_> = known.iter().filter(|code| !quoted(code)).collect();
        assert!(unused.is_empty(), "listed in src/http/error_codes.rs and used nowhere: {unused:?}");
    }

    #[test]
    fn a_code_is_found_by_what_stands_before_it() {
        let text = "Problem::unavailable(\n    \"sync_hangs\", x); Self::new(StatusCode::NOT_FOUND, \"no_such\", y);\n\
            let member = \"capped_until\"; const A: &'static str = \"a_b\";";
        let found: Vec<_> = literals(text).into_iter().filter(|(before, word)| is_code(before, word)).collect();
        let found: Vec<_> = found.into_iter().map(|(_, word)| word).collect();
        assert_eq!(found, ["sync_hangs", "no_such", "a_b"]);
    }
}
