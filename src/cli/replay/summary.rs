//! What came of a replay.

use super::batch::Batch;
use super::send::{Answer, SendError};
use std::fmt::Write as _;
use std::time::Duration;

/// The errors that are told one by one.
const TOLD: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Summary {
    sent: u64,
    counted: u64,
    duplicate: u64,
    late: u64,
    erased: u64,
    ignored: u64,
    rejected: u64,
    /// Events of batches given up.
    failed: u64,
    errors: Vec<String>,
    failure: Option<String>,
}

impl Summary {
    /// Notes an event that was rejected here or there.
    pub fn reject(&mut self, line: u64, code: &str, detail: &str) {
        self.rejected += 1;
        self.tell(line, code, detail);
    }

    fn tell(&mut self, line: u64, code: &str, detail: &str) {
        if self.errors.len() < TOLD {
            self.errors.push(format!("line {line}: {code}: {detail}"));
        }
    }

    pub fn add(&mut self, batch: &Batch, answer: &Answer) {
        self.sent += batch.lines.len() as u64;
        self.counted += answer.counted;
        self.duplicate += answer.duplicate;
        self.late += answer.late;
        self.erased += answer.erased;
        self.ignored += answer.ignored;
        self.rejected += answer.rejected;
        for fault in &answer.errors {
            let line = batch.lines.get(fault.index).copied().unwrap_or_default();
            self.tell(line, &fault.code, &fault.detail);
        }
    }

    pub fn fail(&mut self, batch: &Batch, why: &SendError) {
        self.failed += batch.lines.len() as u64;
        let first = batch.lines.first().copied().unwrap_or_default();
        self.failure.get_or_insert_with(|| format!("gave up at line {first}: {why}"));
    }

    /// Whether all was sent, and taken.
    pub fn is_clean(&self, allow_rejects: bool) -> bool {
        (self.rejected == 0 || allow_rejects) && self.failure.is_none()
    }

    pub fn text(&self, took: Duration) -> String {
        let mut text = String::new();
        let rate = self.sent as f64 / took.as_secs_f64().max(0.001);
        let _ = writeln!(text, "sent {} events in {:.1} s ({rate:.0} events/s)", self.sent, took.as_secs_f64());
        for (name, count) in [
            ("counted", self.counted),
            ("duplicate", self.duplicate),
            ("late", self.late),
            ("erased", self.erased),
            ("ignored", self.ignored),
            ("rejected", self.rejected),
            ("not sent", self.failed),
        ] {
            // Counted is always told, the rest where there is something to tell.
            if count > 0 || name == "counted" {
                let _ = writeln!(text, "  {name:<10}{count:>12}");
            }
        }
        for error in &self.errors {
            let _ = writeln!(text, "  {error}");
        }
        if self.rejected > self.errors.len() as u64 && !self.errors.is_empty() {
            let _ = writeln!(text, "  ... and {} more", self.rejected - self.errors.len() as u64);
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "{failure}");
        }
        text
    }
}
