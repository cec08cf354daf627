//! What is written of a cap besides the log it follows from.

use super::TsMs;

/// What is held of a key that is capped: until when, and when its timer fires. The timer is not moved when the cap is
/// extended, so `due` may be the earlier; it is never the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapRow {
    /// When the cap ends.
    pub until: TsMs,
    /// When the timer fires.
    pub due: TsMs,
    /// How it came about; `None` of a row of an earlier version.
    pub began: Option<CapBegan>,
}

/// How a cap came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapBegan {
    /// When it was counted: from then on it could be read here.
    pub at: TsMs,
    /// The sequence of the change that told others of it.
    pub seq: u64,
    /// Whether a rule that changed made it, and no event.
    pub by_rules: bool,
}

/// The writes that bring a key's rows in line with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapPlan {
    /// The row to write; `None` removes it.
    pub row: Option<CapRow>,
    /// Whether the row differs from the one that is stored.
    pub row_changes: bool,
    /// The timer to set.
    pub timer_add: Option<TsMs>,
    /// The timer to remove.
    pub timer_remove: Option<TsMs>,
    /// Whether those outside must be notified.
    pub notify: bool,
    /// Until when it was capped before.
    pub was: Option<TsMs>,
}

/// What became of a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CapChange {
    /// The key was not capped before.
    Capped,
    /// It lasts longer than before.
    Extended,
    /// It lasts, but not as long as before.
    Shortened,
    /// The key is no longer capped.
    Ended,
}

impl CapPlan {
    /// What those outside are notified of, and until when the key is capped now.
    pub fn change(&self) -> (CapChange, Option<TsMs>) {
        let until = self.row.map(|row| row.until);
        let change = match (self.was, until) {
            (_, None) => CapChange::Ended,
            (None, Some(_)) => CapChange::Capped,
            (Some(was), Some(until)) if until < was => CapChange::Shortened,
            _ => CapChange::Extended,
        };
        (change, until)
    }
}
