//! What travels: a type for the body of each call and each answer. It is read or written, and documented, from the same
//! definition. Answers borrow from what they say, so that a conversion copies no text.

mod ad;
mod adcp;
mod audit;
mod decision;
mod decision_answer;
mod erasures;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod operation;
mod rule;
mod sign;
mod snapshot;
mod text;
mod user;
mod verdict;
mod whoami;
mod why;

pub use ad::{Ad, AdAnswer, AdBody, AdLine, AdLines, AdsAnswer, AdsChanged, BackfillProgress, MAX_AD_LINES};
pub use adcp::{AdcpDuration, AdcpRules, FrequencyCap, FrequencyCapBody, is_adcp, read_adcp};
pub use audit::{AuditAnswer, AuditLine};
pub use decision::{CandidateBody, CheckBody, MAX_CANDIDATES, MAX_EXPLAINED, MAX_TTL_MS, ReleaseBody, ReserveBody};
pub use decision_answer::{
    CandidateVerdict, CandidateVerdicts, CheckAnswer, Refused, ReleaseAnswer, ReserveAnswer, Reserved,
    completed_reservation,
};
pub use erasures::{ErasureLine, ErasureLines, ErasureProgress, ErasureTaken, MAX_ERASED};
pub use event::{BatchAnswer, Capped, EventAnswer, EventBody, EventError, EventsAnswer};
pub use operation::{ProbeAnswer, StatusAnswer, VersionAnswer};
pub use rule::{Mirrored, RuleAnswer, RuleBody, RuleReject, RulesAnswer, Source, read_rule};
pub use sign::{MAX_PIXELS, PixelEvent, SignAnswer, SignBody, SignedEvent};
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
