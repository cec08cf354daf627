//! Reading events: from JSON bodies, lines of NDJSON, messages of a topic and rows of a table.
//!
//! Everything that comes in comes through here, so an event means the same wherever it came from. What is read is
//! borrowed from the input: an event without escapes and with at most two keys is read without allocating.

mod body;
mod canonical;
mod csv;
#[cfg(test)]
mod csv_tests;
mod decision;
mod fields;
mod find;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod instant_tests;
mod json;
mod plain;
mod read;
#[cfg(test)]
mod record_tests;
mod rule;
mod table;
#[cfg(test)]
mod tests;

pub use body::{Body, BodyError, EventReader, looks_like_lines};
pub use csv::{CsvRows, Line, ROW_MAX, Row, RowError};
pub use decision::{CheckRequest, MAX_CANDIDATES, MAX_TTL_MS, ReleaseRequest, ReserveRequest};
pub use fields::{FieldsConfig, FieldsError, Framing, TsUnit};
pub use json::{NotJson, json_text, without_mark};
pub use read::Reject;
pub use rule::{RuleReject, read_rule};
pub use table::{TableError, TableReader};
