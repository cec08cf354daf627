//! The audit: who changed what, and when. A change of the store has its line in the same write; here are the others.

use crate::clock::Clock;
use crate::model::TsMs;
use crate::store::{AuditEntry, AuditRow, Store, StoreError};
use serde_json::Value;
use std::sync::Arc;

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

    /// Writes a line, into the log, too, on a thread that may wait for the disk.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), AuditError> {
        self.blocking(move |store, at| store.audit().append(at, &entry).map_err(AuditError::NotWritten)).await
    }

    /// Notes the keys of whoever may call, and tells how they differ from those that were noted last: `change` says before and
    /// after of a change, if it is one; it is given `None` where none were ever noted.
    pub async fn note_keys(
        &self,
        keys: Vec<u8>,
        change: impl FnOnce(Option<&[u8]>) -> Option<(Value, Value)> + Send + 'static,
        call: &'static str,
    ) -> Result<(), AuditError> {
        self.blocking(move |store, at| {
            let before = store.audit().noted_keys().map_err(AuditError::Store)?;
            if before.as_deref() == Some(&keys) {
                return Ok(());
            }
            let entry = change(before.as_deref()).map(|(before, after)| AuditEntry::without_call(call, before, after));
            store.audit().note_keys(at, &keys, entry.as_ref()).map_err(AuditError::NotWritten)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, TsMs) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let audit = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&audit.store, audit.clock.now())).await;
        done.map_err(|_| AuditError::Gone)?
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
