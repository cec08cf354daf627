//! Reads `If-Match` and `If-None-Match` (RFC 9110, 13.1).

use super::problem::Problem;
use crate::shard::Precondition;
use http::{HeaderMap, header};

fn values(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default())
}

/// What a change expects.
pub(super) fn expect(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let matching: Vec<&str> =
        values(headers, header::IF_MATCH).flat_map(|value| value.split(',')).map(str::trim).collect();
    let none: Vec<&str> = values(headers, header::IF_NONE_MATCH).collect();
    match (matching.as_slice(), none.as_slice()) {
        ([], []) => Ok(Precondition::Anything),
        ([], ["*"]) => Ok(Precondition::Absent),
        (["*"], []) => Ok(Precondition::Present),
        ([], _) => Err(Problem::bad_request("invalid_precondition", "if-none-match can only be * here")),
        (_, [_, ..]) => {
            Err(Problem::bad_request("invalid_precondition", "if-match and if-none-match are never both meant"))
        }
        (tags, []) => Ok(Precondition::Etag(tags.iter().map(|&tag| tag.to_owned()).collect())),
    }
}

/// Whether whoever reads has this version already.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let mut known = values(headers, header::IF_NONE_MATCH).flat_map(|value| value.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}
