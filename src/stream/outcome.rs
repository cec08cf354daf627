//! How streams end, and why they begin anew.

/// Why a stream cannot resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    ChangesGone,
    OtherStore,
    OtherFilter,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChangesGone => "changes_gone",
            Self::OtherStore => "other_store",
            Self::OtherFilter => "other_filter",
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The reader is gone.
    Closed,
    Lagged,
    Stopped,
    /// Something could not be read.
    Failed,
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lagged => "lagged",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}
