//! Snapshots, asked for and listed by calls.

use crate::snapshot::{Figures, Handle, SnapshotError, Summary};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Lists that are read at once.
const LISTS_AT_ONCE: usize = 4;

/// How long a call waits for its snapshot. It is taken all the same.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// The snapshots of this process, if it takes any. Cheap to clone.
#[derive(Clone, Default)]
pub struct Snapshots(Option<Arc<Shared>>);

struct Shared {
    /// There once this process may write under the prefix.
    handle: OnceLock<Handle>,
    /// What it waits for until then.
    waits: Mutex<Option<String>>,
    /// Where the bucket is talked to.
    runtime: tokio::runtime::Handle,
    lists: Semaphore,
}

/// Why a call for snapshots failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    /// There is no `--snapshots`.
    #[error("no snapshots are taken: start with --snapshots")]
    Off,
    /// The epoch is not begun yet.
    #[error("no snapshot can be taken yet: {0}")]
    Waiting(String),
    /// Too many calls are under way.
    #[error("too many calls for snapshots are under way")]
    Busy,
    /// The snapshot, or the list.
    #[error(transparent)]
    Failed(#[from] Arc<SnapshotError>),
    /// The service ends.
    #[error("the service is stopping")]
    Gone,
}

impl Snapshots {
    /// Of a process whose bucket is talked to on this runtime.
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        let (handle, waits, lists) = (OnceLock::new(), Mutex::default(), Semaphore::new(LISTS_AT_ONCE));
        Self(Some(Arc::new(Shared { handle, waits, runtime, lists })))
    }

    /// From now on snapshots are taken.
    pub fn begin(&self, handle: Handle) {
        if let Some(shared) = &self.0 {
            // Begun once.
            let _ = shared.handle.set(handle);
        }
    }

    /// Says what is waited for before snapshots are taken.
    pub fn set_waiting(&self, why: String) {
        if let Some(shared) = &self.0 {
            *shared.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
    }

    /// Takes a snapshot, which holds all that was acknowledged before. `None`: it is not done yet, and goes on.
    pub async fn take(&self) -> Result<Option<Summary>, SnapshotsError> {
        let shared = self.shared()?;
        let handle = shared.handle()?.clone();
        let taking = shared.runtime.spawn(async move { handle.take().await });
        match tokio::time::timeout(WAIT_MAX, taking).await {
            Ok(Ok(taken)) => Ok(Some(taken?)),
            Ok(Err(_)) => Err(SnapshotsError::Gone),
            Err(_) => Ok(None),
        }
    }

    /// The snapshots in the bucket, the oldest first.
    pub async fn list(&self) -> Result<Vec<Summary>, SnapshotsError> {
        let shared = self.shared()?;
        let _permit = shared.lists.try_acquire().map_err(|_| SnapshotsError::Busy)?;
        let handle = shared.handle()?.clone();
        let listed = shared.runtime.spawn(async move { handle.list().await }).await;
        Ok(listed.map_err(|_| SnapshotsError::Gone)?.map_err(Arc::new)?)
    }

    /// What `/status` says.
    pub fn status(&self) -> Value {
        let Some(shared) = &self.0 else { return Value::Null };
        match shared.handle.get() {
            Some(handle) => status_of(&handle.figures(), handle.is_superseded()),
            None => {
                let why = shared.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
                json!({"state": "waiting", "why": why})
            }
        }
    }

    fn shared(&self) -> Result<&Shared, SnapshotsError> {
        self.0.as_deref().ok_or(SnapshotsError::Off)
    }
}

impl Shared {
    fn handle(&self) -> Result<&Handle, SnapshotsError> {
        self.handle.get().ok_or_else(|| {
            let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
            SnapshotsError::Waiting(waits.unwrap_or_else(|| "the service has only just started".to_owned()))
        })
    }
}

fn status_of(figures: &Figures, is_superseded: bool) -> Value {
    let state = match figures {
        _ if is_superseded => "superseded",
        Figures { error: Some(_), .. } => "failing",
        _ => "ok",
    };
    let error = figures.error.as_ref().map(|(code, detail)| json!({"code": code, "detail": detail}));
    json!({
        "state": state, "epoch": figures.epoch, "sequence": figures.sequence, "time": figures.taken_ms,
        "bytes": figures.bytes, "files": figures.files, "taking": figures.is_taking, "took_ms": figures.took_ms,
        "taken": figures.taken, "failed": figures.failed, "error": error,
        "shipping": figures.shipping_lag_ms.map(|lag_ms| {
            json!({"lag_ms": lag_ms, "segments": figures.shipped, "bytes": figures.shipped_bytes})
        }),
        "uploaded_bytes": figures.uploaded_bytes, "spared_bytes": figures.spared_bytes,
    })
}
