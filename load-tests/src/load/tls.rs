//! TLS of the generator: who is trusted.

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connects over TLS to a service whose certificate names `localhost`.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Trusts the certificates of a PEM file, and nobody else.
    pub fn trusting(path: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let reading = || format!("reading {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(reading)? {
            roots.add(certificate.with_context(reading)?).with_context(reading)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub async fn connect(&self, stream: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        self.0.connect(ServerName::try_from("localhost")?, stream).await.context("the handshake of TLS")
    }
}
