//! The audit: who changed what, and when. A line is durable before the change is answered.

use crate::clock::Clock;
use crate::model::TsMs;
use crate::store::{AuditRow, Store, StoreError};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest line, in bytes. What a longer one has before and after is left out.
const LINE_MAX: usize = 8 << 10;

/// A change.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// The id of the key that it was made with; `None` where nobody asks for keys, or it was no call.
    pub key: Option<String>,
    /// What was done: the method and path of a call, without the id of a user.
    pub call: String,
    /// What it was before; null where there was nothing.
    pub before: Value,
    /// What it is now; null where there is nothing.
    pub after: Value,
}

/// Why a change is not in the audit, or the audit cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The line could not be written.
    #[error("the change was made, but not written into the audit: {0}")]
    NotWritten(StoreError),
    /// The lines could not be read.
    #[error(transparent)]
    Store(StoreError),
    /// It ended by a panic.
    #[error("the thread that writes the audit ended")]
    Gone,
}

/// Writes and reads the audit. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    store: Arc<Store>,
    clock: Clock,
}

impl Audit {
    /// The audit of a store.
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Writes a line, into the log, too. Blocks on disk.
    pub fn record_now(&self, entry: &AuditEntry) -> Result<(), AuditError> {
        let at = self.clock.now();
        let AuditEntry { key, call, before, after } = entry;
        let mut line = json!({"key": key, "call": call, "before": before, "after": after}).to_string();
        if line.len() > LINE_MAX {
            line = json!({"key": key, "call": call, "before": null, "after": null, "cut": true}).to_string();
        }
        tracing::info!(target: "audit", at = at.0, key = key.as_deref().unwrap_or_default(), call, %before, %after);
        self.store.audit().append(at, line.as_bytes()).map_err(AuditError::NotWritten)
    }

    /// As [`Audit::record_now`], on a thread that may wait for the disk.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let audit = self.clone();
        let written = tokio::task::spawn_blocking(move || audit.record_now(&entry)).await;
        written.map_err(|_| AuditError::Gone)?
    }

    /// Lines from before a sequence and not from before an instant, newest first, and whether there are more. Blocks on disk.
    pub fn page(&self, before: Option<u64>, since: TsMs, max: usize) -> Result<(Vec<AuditRow>, bool), AuditError> {
        let mut rows = self.store.audit().page(before, max.saturating_add(1)).map_err(AuditError::Store)?;
        let more = rows.len() > max;
        rows.truncate(max);
        // A clock that stepped may have put an older line behind a newer one, so the others are looked at nevertheless.
        rows.retain(|row| row.at >= since);
        let more = more && !rows.is_empty();
        Ok((rows, more))
    }
}
