//! Why events are over: of keys that were capped when they happened.

/// Why an event is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverCause {
    /// It happened before the cap could be known.
    InFlight,
    /// The cap was known, and Redis had not been told yet.
    Mirror,
    /// Whoever served it could have read the cap.
    Ignored,
    /// It was reserved in time, and came after its reservation had expired or was released.
    Lapsed,
    /// When it happened, no rule capped its key; one that came later does.
    RuleChange,
    /// It came from Kafka so late that it is history.
    Backfill,
    /// None of these. There should be no such event.
    Unknown,
}

impl OverCause {
    /// Every cause.
    pub const ALL: [Self; 7] =
        [Self::InFlight, Self::Mirror, Self::Ignored, Self::Lapsed, Self::RuleChange, Self::Backfill, Self::Unknown];

    /// The name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Mirror => "mirror",
            Self::Ignored => "ignored",
            Self::Lapsed => "lapsed",
            Self::RuleChange => "rule_change",
            Self::Backfill => "backfill",
            Self::Unknown => "unknown",
        }
    }
}
