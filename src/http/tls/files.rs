//! The files of certificates and keys. What they hold is changed without dropping a connection: it is for new ones.

use super::certificate::{ClientCa, Identity, Pem, TlsError, identity};
use crate::auth::WatchedFiles;
use crate::model::TsMs;
use arc_swap::ArcSwap;
use metrics::{describe_counter, describe_gauge, gauge};
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the certificate, its key and those of clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// With its chain.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Whose certificates of clients are believed; `None`: clients are asked for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away at once: where nothing else says who it is.
    pub is_client_required: bool,
}

impl TlsFiles {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [self.certificate.clone(), self.key.clone()].into_iter().chain(self.client_ca.clone())
    }

    fn identity(&self, texts: &[Vec<u8>], now: TsMs) -> Result<Identity, TlsError> {
        let text = |index: usize| texts.get(index).map(Vec::as_slice).unwrap_or_default();
        let client_ca = self
            .client_ca
            .as_deref()
            .map(|path| ClientCa { pem: Pem { path, text: text(2) }, is_required: self.is_client_required });
        let certificate = Pem { path: &self.certificate, text: text(0) };
        identity(certificate, Pem { path: &self.key, text: text(1) }, client_ca, now)
    }
}

/// What new connections are shown.
struct Shown {
    /// With HTTP/2.
    config: Arc<ServerConfig>,
    /// HTTP/1.1 alone, for connections of which each answers one request.
    plain: Arc<ServerConfig>,
    expires_ms: i64,
}

impl Shown {
    fn new(Identity { mut config, expires_ms }: Identity) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let plain = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        gauge!("freqcap_tls_certificate_expires_seconds").set(expires_ms as f64 / 1e3);
        Self { config: Arc::new(config), plain, expires_ms }
    }
}

/// The certificate in force, and the files that it comes from. Shared by all listeners.
pub struct Tls {
    files: TlsFiles,
    shown: ArcSwap<Shown>,
    watched: Mutex<WatchedFiles>,
    /// What is wrong with the files as they are now.
    wrong: Mutex<Option<TlsError>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Blocks.
    pub fn open(files: TlsFiles, now: TsMs) -> Result<Self, TlsError> {
        let mut watched = WatchedFiles::new(files.paths());
        let texts = watched.read_changed(true).unwrap_or_else(|| Ok(Vec::new()));
        let texts = texts.map_err(|why| TlsError::new(&why.path, format!("cannot be read: {}", why.kind)))?;
        let shown = Shown::new(files.identity(&texts, now)?);
        note_reload(false);
        Ok(Self { files, shown: ArcSwap::from_pointee(shown), watched: Mutex::new(watched), wrong: Mutex::default() })
    }

    /// Reads the files again if they have changed; `forced`: in any case. What is in force stays so where they cannot be used.
    /// Blocks.
    pub fn reload(&self, forced: bool, now: TsMs) -> Option<Result<(), TlsError>> {
        let texts = lock(&self.watched).read_changed(forced)?;
        let texts = texts.map_err(|why| TlsError::new(&why.path, format!("cannot be read: {}", why.kind)));
        let reloaded = match texts.and_then(|texts| self.files.identity(&texts, now)) {
            Ok(identity) => {
                self.shown.store(Arc::new(Shown::new(identity)));
                *lock(&self.wrong) = None;
                Ok(())
            }
            Err(why) => {
                *lock(&self.wrong) = Some(why.clone());
                Err(why)
            }
        };
        note_reload(reloaded.is_err());
        Some(reloaded)
    }

    /// What a new connection is shown; `is_spare`: one that answers a single request.
    pub(in crate::http) fn config(&self, is_spare: bool) -> Arc<ServerConfig> {
        let shown = self.shown.load();
        if is_spare { shown.plain.clone() } else { shown.config.clone() }
    }

    /// For `/status`.
    pub fn status(&self) -> Value {
        let wrong = lock(&self.wrong).as_ref().map(ToString::to_string);
        let certificate = self.files.certificate.to_string_lossy();
        json!({
            "certificate": certificate, "expires": self.shown.load().expires_ms,
            "client_certificates": self.files.client_ca.is_some(), "file_error": wrong,
        })
    }
}

fn note_reload(failed: bool) {
    gauge!("freqcap_tls_reload_failed").set(if failed { 1.0 } else { 0.0 });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Describes the metrics of TLS.
pub fn describe_metrics() {
    describe_gauge!(
        "freqcap_tls_certificate_expires_seconds",
        "When the certificate, or one of its chain, expires (time)"
    );
    describe_gauge!(
        "freqcap_tls_reload_failed",
        "Whether the files of the certificate cannot be used as they are now: what was read before is in force"
    );
    describe_counter!("freqcap_tls_handshakes_total", "Handshakes of TLS by result: ok, failed, timeout");
}
