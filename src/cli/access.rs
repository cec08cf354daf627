//! Who may call: the file of keys, read at the start and again whenever it changes.

use crate::auth::{self, Hosts, Keyring, KeyringError, NotedKeys, Reloaded};
use crate::clock::Clock;
use crate::http::{Gate, Tls, TlsError, TlsFiles, describe_tls_metrics};
use crate::service::{Audit, StatusBoard};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The most ids of keys of each kind that a line of the audit names.
const IDS_TOLD: usize = 50;
/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("--keys-file: {0}")]
    Keys(#[from] KeyringError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("SIGHUP cannot be heard: {0}")]
    Signal(std::io::Error),
}

/// What decides who may call. Clones share it.
#[derive(Clone)]
pub(super) struct Access {
    keyring: Option<Arc<Keyring>>,
    hosts: Hosts,
    tls: Option<Arc<Tls>>,
    clock: Clock,
}

impl Access {
    /// Reads the files. Blocks.
    pub(super) fn open(options: &auth::Settings, clock: Clock) -> Result<Self, AccessError> {
        auth::describe_metrics();
        describe_tls_metrics();
        let keyring = options.keys_file.as_deref().map(Keyring::open).transpose()?;
        match &keyring {
            Some(keyring) => {
                tracing::info!(keys = keyring.keys().len(), file = %keyring.path().display(), "calls need a key")
            }
            None => tracing::info!("calls need no key (--keys-file names none)"),
        }
        let files = options.tls_cert.clone().zip(options.tls_key.clone()).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: options.tls_client_ca.clone(),
            is_client_required: keyring.is_none(),
        });
        let tls = files.map(|files| Tls::open(files, clock.now())).transpose()?;
        Ok(Self { keyring: keyring.map(Arc::new), hosts: options.hosts.clone(), tls: tls.map(Arc::new), clock })
    }

    pub(super) fn gate(&self) -> Gate {
        Gate::new(self.keyring.clone(), self.hosts.clone(), self.clock.clone())
    }

    /// What connections are encrypted with.
    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Puts on the board who may call.
    pub(super) fn publish(&self, board: &StatusBoard) {
        let (keyring, tls) = (self.keyring.clone(), self.tls.clone());
        board.add("access", move || {
            let mut told = keyring.as_ref().map_or_else(|| json!({"keys": null}), |keyring| keyring.status());
            told["tls"] = tls.as_ref().map_or(Value::Null, |tls| tls.status());
            told
        });
    }

    /// Tells the audit how the keys differ from those of the last run: they may have changed while the service was down.
    pub(super) async fn tell_start(&self, audit: &Audit) {
        note_keys(self.keyring.as_deref(), audit, "start with other keys").await;
    }

    /// Reads files again when they change, and all of them on SIGHUP. Runs until `drain`.
    pub(super) async fn watch(self, audit: Audit, drain: CancellationToken) -> Result<(), AccessError> {
        let mut hang_up = signal(SignalKind::hangup()).map_err(AccessError::Signal)?;
        loop {
            let forced = tokio::select! {
                () = drain.cancelled() => return Ok(()),
                _ = hang_up.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if let Some(keyring) = &self.keyring
                && let Some(reloaded) = keyring.reload(forced)
            {
                tell(keyring, reloaded, &audit).await;
            }
            match self.tls.as_ref().and_then(|tls| tls.reload(forced, self.clock.now())) {
                Some(Ok(())) => tracing::info!("the certificate was read again: new connections are shown it"),
                Some(Err(why)) => {
                    tracing::error!(%why, "the files of TLS cannot be used: what was read before stays in force");
                }
                None => {}
            }
        }
    }
}

async fn tell(keyring: &Keyring, reloaded: Reloaded, audit: &Audit) {
    let file = keyring.path().display();
    match reloaded {
        Reloaded::Taken { before, after, diff } => {
            let (added, changed, removed) = (diff.added.len(), diff.changed.len(), diff.removed.len());
            tracing::info!(%file, before, after, added, changed, removed, "the keys were read again");
            note_keys(Some(keyring), audit, "keys file read again").await;
        }
        Reloaded::Refused(why) => {
            tracing::error!(%why, "the file of keys cannot be used: the keys from before stay in force");
        }
    }
}

/// Notes the keys in force, and tells the audit how they differ from those that were noted last.
async fn note_keys(keyring: Option<&Keyring>, audit: &Audit, call: &'static str) {
    let now = NotedKeys::of(keyring.map(|keyring| keyring.keys().clone()).as_deref());
    // Serializing text to memory cannot fail.
    let noted = serde_json::to_vec(&now).unwrap_or_default();
    let change = move |before: Option<&[u8]>| change_of_keys(before, &now);
    if let Err(error) = audit.note_keys(noted, change, call).await {
        tracing::error!(%error, "the audit failed");
    }
}

/// Before and after, as the audit tells them; `None` where nothing was noted before.
fn change_of_keys(before: Option<&[u8]>, now: &NotedKeys) -> Option<(Value, Value)> {
    let before: NotedKeys = match serde_json::from_slice(before?) {
        Ok(before) => before,
        Err(error) => {
            tracing::warn!(%error, "which keys there were before cannot be read");
            return Some((Value::Null, json!({"keys": now.count()})));
        }
    };
    let diff = now.changes_since(&before);
    let named = |ids: &[String]| ids.iter().take(IDS_TOLD).cloned().collect::<Vec<_>>();
    let after = json!({
        "keys": now.count(), "added": named(&diff.added), "changed": named(&diff.changed), "removed": named(&diff.removed),
    });
    Some((json!({"keys": before.count()}), after))
}
