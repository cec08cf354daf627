//! `GET /audit`: who changed what.

use crate::model::TsMs;
use crate::store::AuditRow;
use serde::Serialize;
use serde_json::value::RawValue;

/// Lines of the audit.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AuditAnswer {
    /// Newest first.
    pub entries: Vec<AuditLine>,
    /// Where older ones go on; null where there are none.
    #[schema(example = "42")]
    pub cursor: Option<String>,
}

/// A change of rules or keys, an erasure, a snapshot.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// One more than that of the line before, in the same unit.
    #[schema(example = 42)]
    pub seq: u64,
    /// The unit that has it; absent where there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "p-017")]
    pub unit: Option<String>,
    /// When it was made.
    #[schema(value_type = u64, example = 1732233600000u64)]
    pub at: TsMs,
    /// The id of the key; null without keys, and where it was no call.
    #[schema(value_type = Option<String>, example = "ops")]
    pub key: Option<Box<RawValue>>,
    /// The method and path of the call, without the id of a user.
    #[schema(value_type = String, example = "PUT /rules/brand-x")]
    pub call: Option<Box<RawValue>>,
    /// What it was before; null where there was nothing.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Box<RawValue>>,
    /// What it is now; null where there is nothing.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Box<RawValue>>,
}

impl AuditLine {
    /// A line as it was written; one that cannot be read has nothing but its place and time.
    pub fn new(row: &AuditRow, unit: Option<String>) -> Self {
        #[derive(serde::Deserialize, Default)]
        struct Written {
            key: Option<Box<RawValue>>,
            call: Option<Box<RawValue>>,
            before: Option<Box<RawValue>>,
            after: Option<Box<RawValue>>,
        }
        let Written { key, call, before, after } = serde_json::from_slice(&row.line).unwrap_or_default();
        Self { seq: row.seq, unit, at: row.at, key, call, before, after }
    }
}
