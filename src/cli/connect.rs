//! How a command calls a running service: with which key, and whose certificate it trusts.

use crate::auth::read_secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use std::path::PathBuf;

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ConnectArgs {
    /// File with the secret of the key to call with
    #[arg(long, value_name = "FILE", env = "FREQCAP_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// File with certificates of authorities (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// File with a client certificate, its chain and its key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_identity: Option<PathBuf>,
}

/// Why nobody can be called like this.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {} {why}", path.display())]
pub struct ConnectError {
    flag: &'static str,
    path: PathBuf,
    why: String,
}

impl ConnectArgs {
    /// A client for a service on this machine, whose certificate is of another name than localhost. It takes any certificate,
    /// and so it calls without a key.
    pub(super) fn client_for_this_machine(&self) -> Result<ClientBuilder, ConnectError> {
        let without_key = Self { key_file: None, ..self.clone() };
        Ok(without_key.client()?.tls_danger_accept_invalid_certs(true))
    }

    /// A client that calls like this.
    pub(super) fn client(&self) -> Result<ClientBuilder, ConnectError> {
        // Refused only where one is installed already, which will do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder();
        if let Some(path) = &self.key_file {
            let fail = |why: String| ConnectError { flag: "--key-file", path: path.clone(), why };
            let secret = read_secret(path).map_err(fail)?;
            let field = HeaderValue::from_str(&format!("Bearer {}", secret.expose()));
            let mut field = field.map_err(|_| fail("does not hold one secret".to_owned()))?;
            field.set_sensitive(true);
            client = client.default_headers(HeaderMap::from_iter([(AUTHORIZATION, field)]));
        }
        if let Some(path) = &self.tls_ca {
            let fail = |why: String| ConnectError { flag: "--tls-ca", path: path.clone(), why };
            let text = std::fs::read(path).map_err(|why| fail(format!("cannot be read: {why}")))?;
            let all = Certificate::from_pem_bundle(&text).map_err(|why| fail(format!("is no certificate: {why}")))?;
            client = client.tls_certs_merge(all);
        }
        if let Some(path) = &self.tls_identity {
            let fail = |why: String| ConnectError { flag: "--tls-identity", path: path.clone(), why };
            let text = std::fs::read(path).map_err(|why| fail(format!("cannot be read: {why}")))?;
            let identity =
                Identity::from_pem(&text).map_err(|_| fail("does not hold a certificate and its key".to_owned()))?;
            client = client.identity(identity);
        }
        Ok(client)
    }
}
