//! `/erasures`: many users at once.

use super::event::EventError;
use super::text::IdText;
use crate::input::{Raw, Reject, TooManyLines, each_line, id_of, members};
use crate::model::{TsMs, UserId};
use crate::store::ErasureReceipt;
use serde::Serialize;

/// The most users of a call.
pub const MAX_ERASED: usize = 10_000;
/// The most rejected lines that an answer lists.
const ERRORS_TOLD: usize = 100;

/// A line of `POST /erasures`: a user, or an object with one.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1"}))]
pub struct ErasureLine {
    /// Who is to be erased.
    pub user: IdText,
}

/// The users of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ErasureLines {
    /// Each once.
    pub users: Vec<String>,
    /// How many lines were rejected.
    pub rejected: usize,
    /// The first 100 of them.
    pub errors: Vec<(usize, Reject)>,
}

impl ErasureLines {
    /// Reads them. A bad line rejects itself alone.
    pub fn read(body: &[u8]) -> Result<Self, TooManyLines> {
        let mut lines = Self::default();
        each_line(body, MAX_ERASED, |index, line| match line.and_then(read_user) {
            Ok(user) => lines.users.push(user),
            Err(reject) => {
                lines.rejected += 1;
                if lines.errors.len() < ERRORS_TOLD {
                    lines.errors.push((index, reject));
                }
            }
        })?;
        lines.users.sort_unstable();
        lines.users.dedup();
        Ok(lines)
    }
}

fn read_user(line: &str) -> Result<String, Reject> {
    let mut raw = Raw::new(line)?;
    if line.starts_with('{') {
        let mut user = None;
        members(
            line,
            |name| (name == "user").then_some(()),
            |(), value| {
                user = Some(value).filter(|value| !value.is_null());
                Ok(())
            },
        )?;
        raw = user.ok_or_else(|| Reject::new(Reject::MISSING_USER, "user is missing"))?;
    }
    Ok(id_of(raw, UserId::new, Reject::INVALID_USER, "user")?.as_str().to_owned())
}

/// A call that erases many users was taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErasureTaken {
    /// That of `GET /erasures/{id}`.
    #[schema(example = "5f2c9b0e4d1a4c3f8b7a6d5e4c3b2a10")]
    pub id: String,
    /// Users who will be erased.
    #[schema(example = 998)]
    pub total: usize,
    /// Lines that are invalid; `errors` says why.
    pub rejected: usize,
    /// The first 100 rejected.
    pub errors: Vec<EventError>,
}

/// What became of a call that erases many users. It names nobody.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErasureProgress {
    /// Of the call.
    pub id: String,
    /// Users who are erased.
    #[schema(example = 998)]
    pub done: u64,
    /// Users in all.
    #[schema(example = 998)]
    pub total: u64,
    /// Logs of theirs that were removed.
    pub logs: u64,
    /// Events in those.
    pub events: u64,
    /// Caps of theirs that ended.
    pub caps: u64,
    /// When it was asked for.
    #[schema(value_type = u64)]
    pub created_at: TsMs,
    /// When the last of them was erased; null until then.
    #[schema(value_type = Option<u64>)]
    pub finished_at: Option<TsMs>,
}

impl ErasureProgress {
    /// Of a receipt.
    pub fn new(id: String, receipt: &ErasureReceipt) -> Self {
        let ErasureReceipt { created_at, total, done, logs, events, caps, finished_at } = *receipt;
        Self { id, done, total, logs, events, caps, created_at, finished_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_or_an_object_with_one() {
        let body = b"\"u1\"\n\n7\n{\"user\":\"u2\",\"why\":\"x\"}\n{\"user\":8}\n\"u1\"\n{}\nx\n\"\"\n";
        let lines = ErasureLines::read(body).unwrap();
        assert_eq!(lines.users, ["7", "8", "u1", "u2"]);
        let errors: Vec<_> = lines.errors.iter().map(|(index, reject)| (*index, reject.code)).collect();
        assert_eq!((lines.rejected, errors), (3, vec![(6, "missing_user"), (7, "invalid_json"), (8, "invalid_user")]));
        assert!(ErasureLines::read("1\n".repeat(MAX_ERASED + 1).as_bytes()).is_err());
        assert!(ErasureLines::read("1\n".repeat(MAX_ERASED).as_bytes()).is_ok());
    }
}
