//! A record that no writer counted, and the reason that its dead letter gives.

use crate::shard::{ROW_UNREADABLE, TOO_MANY_KINDS};

/// A record that was not counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut {
    /// The chunk that waits for its dead letter.
    pub chunk: u64,
    pub offset: u64,
    /// The code of its dead letter.
    pub code: &'static str,
}

/// The code as a writer stored it, for a letter that may not have arrived before the process ended.
pub(super) fn known_code(stored: &str) -> &'static str {
    if stored == TOO_MANY_KINDS { TOO_MANY_KINDS } else { ROW_UNREADABLE }
}

/// The detail of its dead letter.
pub(super) fn detail(code: &str) -> String {
    let detail = match code {
        TOO_MANY_KINDS => "one of the event's logs has as many kinds as a log may",
        _ => "something that is held of the user cannot be read",
    };
    detail.to_owned()
}
