//! Tells a stream that failed so that a person can follow it: every call with its instants, counted from the start.

use crate::model::oracle::Settings;
use freqcap::engine::Policy;
use freqcap::model::TsMs;
use std::fmt::Debug;

/// What happened, step by step; silent unless somebody wants to read it.
#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
}

impl Story {
    pub fn aloud() -> Self {
        Self { lines: Some(Vec::new()) }
    }

    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }

    /// Tells what is in force from here on.
    pub fn settings(&mut self, settings: &Settings, policy: &Policy) {
        self.line(|| {
            let rules = settings.rules.iter().map(|rule| {
                let limit = rule.limit.map_or("without limit".to_owned(), |limit| format!("at most {limit}"));
                let (id, key, kind, window, mode) = (rule.id.as_str(), &rule.key, rule.kind, &rule.window, rule.mode);
                format!("\n       {id}: {key} {limit} {kind} in {window:?}, {mode:?}")
            });
            let retention = (policy.retention_ms(), policy.lifetime_retention_ms(), policy.max_skew_ms());
            format!(
                "history_limit {}, (retention, lifetime_retention, max_skew) in force {retention:?} ms, rules:{}",
                settings.history_limit,
                rules.collect::<String>()
            )
        });
    }

    /// The whole story, counting time from `start`.
    pub fn told(self, start: TsMs) -> String {
        let lines = self.lines.unwrap_or_default().into_iter().enumerate();
        let lines: String = lines.map(|(i, line)| format!("\n  {:>3}. {line}", i + 1)).collect();
        counted_from(start, &format!("t0 = {} ms{lines}", start.0))
    }
}

/// A value as text; [`counted_from`] makes its instants readable.
pub fn told(value: impl Debug) -> String {
    format!("{value:?}")
}

/// Writes every instant of a text as its distance from `start`: `t0 + 2 d 1 ms`.
pub fn counted_from(start: TsMs, text: &str) -> String {
    let mut parts = text.split("TsMs(");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once(')').unwrap_or((part, ""));
        match digits.parse::<u64>() {
            Ok(t) => out.push_str(&distance(start.0, t)),
            Err(_) => out.push_str(digits),
        }
        out.push_str(rest);
    }
    out
}

fn distance(start: u64, t: u64) -> String {
    let mut ms = t.abs_diff(start);
    let mut out = format!("t0 {}", if t < start { "-" } else { "+" });
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if ms >= length {
            out.push_str(&format!(" {} {unit}", ms / length));
            ms %= length;
        }
    }
    if t == start { "t0".to_owned() } else { out }
}
