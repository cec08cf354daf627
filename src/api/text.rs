//! Values that may be written in more than one way, as the document describes them.

use serde::Serialize;

/// An id: text of 1 to 256 bytes without control characters, or an integer, which is taken as its digits.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
#[schema(example = "u1")]
pub enum IdText {
    /// Text.
    Text(String),
    /// An integer, taken as its digits.
    Integer(i64),
}

/// An instant: ms since 1970 as an integer or as text, or RFC 3339 text.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
#[schema(example = 1732233600000u64)]
pub enum InstantText {
    /// Milliseconds since 1970.
    Integer(u64),
    /// Milliseconds since 1970, or RFC 3339.
    Text(String),
}
