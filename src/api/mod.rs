//! What travels: a type for the body of each call and each answer. It is read or written, and documented, from the same
//! definition. Answers borrow from what they say, so that a conversion copies no text.

mod audit;
mod decision;
mod decision_answer;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod operation;
mod rule;
mod snapshot;
mod text;
mod user;
mod verdict;
mod whoami;
mod why;

pub use audit::{AuditAnswer, AuditLine};
pub use decision::{CandidateBody, CheckBody, MAX_CANDIDATES, MAX_EXPLAINED, MAX_TTL_MS, ReleaseBody, ReserveBody};
pub use decision_answer::{
    CandidateVerdict, CandidateVerdicts, CheckAnswer, Refused, ReleaseAnswer, ReserveAnswer, Reserved,
};
pub use event::{BatchAnswer, Capped, EventAnswer, EventBody, EventError, EventsAnswer};
pub use operation::{ProbeAnswer, StatusAnswer, VersionAnswer};
pub use rule::{Mirrored, RuleAnswer, RuleBody, RuleReject, RulesAnswer, Source, read_rule};
pub use snapshot::{SnapshotAnswer, SnapshotUnderWay, SnapshotsAnswer};
pub use text::{IdText, InstantText};
pub use user::{
    CallAnswer, Events, HeldEvent, KindAnswer, LogAnswer, Logs, Receipt, RuleExit, UserAnswer, UserCap, UserCaps,
};
pub use verdict::{CapAnswer, Mode, RuleVerdict, Verdict};
pub use whoami::WhoamiAnswer;
pub use why::{WhyAnswer, WhyCode};

/// Leaves a count of nothing out of an answer.
fn is_zero(count: &usize) -> bool {
    *count == 0
}
