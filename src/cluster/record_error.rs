//! Why a record is not applied.

/// The version of commands that is written, and the highest that is read.
pub const VERSION: u32 = 1;

/// Why a record with our header is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The node must stop: it would come to another state than those that understand the record.
    #[error(
        "cluster_record_newer: the log has a command of version {version}, and this freqcap reads up to {VERSION}; \
         update this node"
    )]
    Newer {
        /// The record's version.
        version: u32,
    },
    /// The record is void, for all nodes alike.
    #[error("the command cannot be read: {0}")]
    Malformed(String),
}

impl RecordError {
    pub(super) fn malformed(why: impl ToString) -> Self {
        Self::Malformed(why.to_string())
    }
}
