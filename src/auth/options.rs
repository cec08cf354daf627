//! The settings of who may call, and where.

use super::hosts::Hosts;
use crate::settings::{Invalid, by_own_error, settings};
use std::net::SocketAddr;
use std::path::PathBuf;

settings! {
    /// The settings of who may call, and where.
    pub struct Settings, SettingFlags {
        "Access" {
            keys_file: Option<PathBuf> = "none", "FILE|none",
                "File with the keys of those who may call (freqcap key new makes one), read again when it changes. Without it \
                 everybody may do everything, so only loopback addresses are listened on";
            open: bool = "false", "true|false",
                "Listen on addresses beyond loopback without --keys-file: something in front says who may call";
            hosts: Hosts = "loopback", "NAME,..|*",
                "The names that a request may have as Host where no key is asked for: host names and addresses, loopback for \
                 localhost and this machine's loopback addresses, * for any";
            tls_cert: Option<PathBuf> = "none", "FILE|none",
                "File with the certificate (PEM) and its chain: all listeners speak TLS 1.2 or 1.3 (HTTP/1.1 and HTTP/2). Read \
                 again when it changes, like the two below";
            tls_key: Option<PathBuf> = "none", "FILE|none", "File with the certificate's private key (PEM)";
            tls_client_ca: Option<PathBuf> = "none", "FILE|none",
                "File with the certificates (PEM) of whoever issues client certificates: a DNS name of one may be a key's id";
            public_listen: Option<SocketAddr> = "none", "ADDR|none",
                "Another address for what the internet may reach, without a key: the pixel (/i.gif) and /healthz alone";
        }
    }
}

by_own_error!(Hosts);

impl Settings {
    /// Checks that the settings make sense together.
    pub fn check(&self) -> Result<(), Invalid> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => Err(Invalid::new("tls_cert", "is of no use without --tls-key")),
            (None, Some(_)) => Err(Invalid::new("tls_key", "is of no use without --tls-cert")),
            (None, None) if self.tls_client_ca.is_some() => {
                Err(Invalid::new("tls_client_ca", "is of no use without --tls-cert and --tls-key"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the service may listen at an address: who asks for no key listens where only this machine reaches it, unless
    /// told otherwise.
    pub fn check_listener(&self, name: &'static str, addr: SocketAddr) -> Result<(), Invalid> {
        if self.keys_file.is_some() || self.open || addr.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(Invalid::new(
            name,
            "may be reached from other machines, and without keys everybody may do everything: name the keys with --keys-file \
             (freqcap key new makes one), or say --open if something in front keeps others out",
        ))
    }
}
