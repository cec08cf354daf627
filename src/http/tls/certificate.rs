//! Certificates and keys in PEM, checked before anybody is shown them.

use crate::model::TsMs;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The most names of a client certificate that are looked at.
const NAMES_MAX: usize = 64;

/// Why files of certificates and keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct TlsError {
    file: PathBuf,
    why: String,
}

impl TlsError {
    pub(super) fn new(file: &Path, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), why: why.into() }
    }
}

/// A file and what it holds.
#[derive(Clone, Copy)]
pub(super) struct Pem<'a> {
    pub path: &'a Path,
    pub text: &'a [u8],
}

impl Pem<'_> {
    fn error(&self, why: impl Into<String>) -> TlsError {
        TlsError::new(self.path, why)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.text).collect();
        let all = all.map_err(|why| self.error(format!("it is no PEM: {why}")))?;
        if all.is_empty() { Err(self.error("it holds no certificate (PEM)")) } else { Ok(all) }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        // What the reader says of a key could quote it.
        PrivateKeyDer::from_pem_slice(self.text).map_err(|_| self.error("it holds no private key (PEM, not encrypted)"))
    }
}

/// What is wanted of clients.
#[derive(Clone, Copy)]
pub(super) struct ClientCa<'a> {
    pub pem: Pem<'a>,
    /// Whether a client without a certificate is turned away at once.
    pub is_required: bool,
}

/// What is shown to clients, and until when.
pub(super) struct Identity {
    pub config: ServerConfig,
    /// When the first certificate of the chain expires, in ms.
    pub expires_ms: i64,
}

/// Checks the certificate, its chain and its key, and makes of them what a server needs.
pub(super) fn identity(
    certificate: Pem<'_>,
    key: Pem<'_>,
    client_ca: Option<ClientCa<'_>>,
    now: TsMs,
) -> Result<Identity, TlsError> {
    let chain = certificate.certificates()?;
    let expires_ms = check_chain(certificate, &chain, now)?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|why| certificate.error(why.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca.pem, now)?), provider);
            let verifier = if ca.is_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|why| ca.pem.error(why.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key.key()?).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            certificate.error(format!("the certificate is not of the key in {}", key.path.display()))
        }
        why => key.error(why.to_string()),
    })?;
    config.ticketer = Ticketer::new().map_err(|why| key.error(why.to_string()))?;
    Ok(Identity { config, expires_ms })
}

fn roots(pem: Pem<'_>, now: TsMs) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem.certificates()? {
        check_time(pem, &parse(pem, &certificate)?, now)?;
        roots.add(certificate).map_err(|why| pem.error(why.to_string()))?;
    }
    Ok(roots)
}

fn parse<'c>(pem: Pem<'_>, der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, TlsError> {
    let parsed = X509Certificate::from_der(der);
    parsed.map(|(_, certificate)| certificate).map_err(|_| pem.error("it holds what is no certificate"))
}

/// Checks that every certificate is in force, and each one issued by the next. Gives when the first of them expires.
fn check_chain(pem: Pem<'_>, chain: &[CertificateDer<'_>], now: TsMs) -> Result<i64, TlsError> {
    let chain = chain.iter().map(|der| parse(pem, der)).collect::<Result<Vec<_>, _>>()?;
    for certificate in &chain {
        check_time(pem, certificate, now)?;
    }
    for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1)) {
        let (issued_by, next) = (certificate.issuer(), issuer.subject());
        if issued_by.as_raw() != next.as_raw() {
            let why = format!("wrong chain: {} was issued by {issued_by}, but {next} follows", certificate.subject());
            return Err(pem.error(why));
        }
        if certificate.verify_signature(Some(issuer.public_key())).is_err() {
            let why = format!("wrong chain: {next} did not sign {}", certificate.subject());
            return Err(pem.error(why));
        }
    }
    let expires = chain.iter().map(|certificate| certificate.validity().not_after.timestamp()).min();
    Ok(expires.unwrap_or_default().saturating_mul(1_000))
}

fn check_time(pem: Pem<'_>, certificate: &X509Certificate<'_>, now: TsMs) -> Result<(), TlsError> {
    let (validity, now_s) = (certificate.validity(), i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX));
    if now_s > validity.not_after.timestamp() {
        return Err(pem.error(format!("{} has expired: {}", certificate.subject(), validity.not_after)));
    }
    if now_s < validity.not_before.timestamp() {
        let why = format!("{} is not in force before {}", certificate.subject(), validity.not_before);
        return Err(pem.error(why));
    }
    Ok(())
}

/// The DNS names of a client certificate (subject alternative names), which may be ids of keys.
pub(in crate::http) fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.take(NAMES_MAX).collect()
}
