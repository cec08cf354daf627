//! Reading events: from JSON bodies, lines of NDJSON, messages of a topic and rows of a table.
//!
//! Everything that comes in comes through here, so an event means the same wherever it came from. What is read is
//! borrowed from the input: an event without escapes and with at most two keys is read without allocating.

mod body;
mod canonical;
mod csv;
#[cfg(test)]
mod csv_tests;
mod fast_json;
mod field_lookup;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod instant_tests;
mod json;
mod lines;
mod mapping;
mod parse_event;
mod raw;
#[cfg(test)]
mod record_tests;
mod standard_fields;
mod table;
#[cfg(test)]
mod tests;

pub use body::{Body, BodyError, EventReader, looks_like_lines};
pub(crate) use canonical::body_hash;
pub use csv::{CsvRows, Line, ROW_MAX, Row, RowError};
pub use fields::{FieldsConfig, FieldsError, Framing, TsUnit};
pub(crate) use json::{elements, members};
pub use json::{json_text, without_mark};
pub use lines::{TooManyLines, each_line};
pub use parse_event::Reject;
pub(crate) use parse_event::{add_key, id_of, instant_of, key, kind_of};
pub use raw::NotJson;
pub(crate) use raw::Raw;
pub use table::{TableError, TableReader};
