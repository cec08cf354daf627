//! A record that no writer counted, and the reason that its dead letter gives.

use crate::shard::{ROW_UNREADABLE, TOO_MANY_KINDS};

/// A record that was not counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut {
    /// The chunk that waits for its letter.
    pub chunk: u64,
    pub offset: u64,
    /// Why.
    pub code: &'static str,
}

/// The code that a writer stored, for a letter that may not have arrived before the last end.
pub(super) fn known_code(stored: &str) -> &'static str {
    if stored == TOO_MANY_KINDS { TOO_MANY_KINDS } else { ROW_UNREADABLE }
}

/// What a letter says of it.
pub(super) fn detail(code: &str) -> String {
    let detail = match code {
        TOO_MANY_KINDS => "one of the event's logs has as many kinds as a log may",
        _ => "something that is held of the user cannot be read",
    };
    detail.to_owned()
}
