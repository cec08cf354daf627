//! What is written of a cap besides the log it follows from.

use super::TsMs;

/// What is held of a key that is capped: until when, and when its timer fires. The timer is not moved when the cap is
/// extended, so `due` may be the earlier; it is never the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapRow {
    pub until: TsMs,
    pub due: TsMs,
}

/// The writes that bring a key's rows in line with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapPlan {
    /// The row to write; `None` removes it.
    pub row: Option<CapRow>,
    pub row_changes: bool,
    pub timer_add: Option<TsMs>,
    pub timer_remove: Option<TsMs>,
    /// Whether the mirror must be told.
    pub tell: bool,
}
