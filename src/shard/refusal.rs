//! Why a command is refused, or has no answer.

/// The code of an event that is refused because a row of its user cannot be read.
pub const ROW_UNREADABLE: &str = "row_unreadable";

/// The code of everything that would write, once another process has taken over the store.
pub const SUPERSEDED: &str = "superseded";

/// Why events are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum Refusal {
    #[error("the mailbox of a writer is full")]
    Busy,
    #[error("an earlier write failed: this process must be restarted")]
    Poisoned,
    #[error("less than min_free_disk is left in the data directory's file system")]
    DiskFull,
    #[error("a row could not be read; the log of this process says which")]
    ReadFailed,
    #[error(
        "the time of day does not agree with what is known, so an event without a ts has no time; send it with one, or set \
         the clock right (freqcap clock accept, where it is right)"
    )]
    ClockNotBelieved,
    #[error(
        "something that is held of the user cannot be read; the log of this process says more, and DELETE /users/{{user}} erases it"
    )]
    RowUnreadable,
    #[error("another process has taken over the store under this prefix of the bucket: this one must be stopped")]
    Superseded,
    #[error("the service is stopping")]
    Stopping,
    /// Of a user whose shard this unit does not have. To who asks, that is the same as a service that stops: another
    /// process answers.
    #[error("the user belongs to another unit")]
    OtherUnit,
}

impl Refusal {
    /// Stable; programs go by it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Busy => "overloaded",
            Self::Poisoned => "store_failed",
            Self::DiskFull => "disk_full",
            Self::RowUnreadable => ROW_UNREADABLE,
            Self::ReadFailed => "store_read_failed",
            Self::ClockNotBelieved => "clock_not_believed",
            Self::Superseded => SUPERSEDED,
            Self::Stopping | Self::OtherUnit => "stopping",
        }
    }
}
