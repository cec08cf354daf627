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
            public_listen: Option<SocketAddr> = "none", "ADDR|none",
                "Another address for what the internet may reach, without a key: /healthz alone";
        }
    }
}

by_own_error!(Hosts);

impl Settings {
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
