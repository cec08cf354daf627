//! Certificates made by openssl, as an operator makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of certificates, their keys and those who issued them.
pub struct Certificates {
    pub dir: tempfile::TempDir,
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Certificates {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Who issues certificates: NAME.pem and NAME.key.
    pub fn authority(&self, name: &str) {
        self.issue(name, None, &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]);
    }

    /// A certificate of these extensions, issued by `issuer` or by itself: NAME.pem and NAME.key.
    pub fn issue(&self, name: &str, issuer: Option<&str>, extensions: &[&str]) {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        openssl(self.dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
        let mut args = vec!["req", "-x509", "-new", "-key", &key, "-out", &pem, "-subj", &subject, "-days", "30"];
        let issuer = issuer.map(|issuer| (format!("{issuer}.pem"), format!("{issuer}.key")));
        if let Some((pem, key)) = &issuer {
            args.extend(["-CA", pem, "-CAkey", key]);
        }
        for extension in extensions {
            args.extend(["-addext", extension]);
        }
        openssl(self.dir.path(), &args);
    }

    /// A certificate for localhost that is in force from one day to another (yymmdd).
    pub fn server_of(&self, name: &str, issuer: &str, from: &str, to: &str) {
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nunique_subject=no\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
            [p]\ncommonName=supplied\n";
        std::fs::write(self.path("ca.conf"), config).unwrap();
        std::fs::write(self.path("index.txt"), "").unwrap();
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let (from, to) = (format!("20{from}000000Z"), format!("20{to}000000Z"));
        let (ca, ca_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        openssl(self.dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
        openssl(self.dir.path(), &["req", "-new", "-key", &key, "-out", &csr, "-subj", "/CN=localhost"]);
        let sign = ["ca", "-config", "ca.conf", "-rand_serial", "-batch", "-notext", "-in", &csr, "-out", &pem];
        let by = ["-cert", &ca, "-keyfile", &ca_key, "-startdate", &from, "-enddate", &to];
        openssl(self.dir.path(), &[&sign[..], &by].concat());
    }

    /// The certificate of a server at localhost, issued by `issuer`.
    pub fn server(&self, name: &str, issuer: &str) {
        self.issue(name, Some(issuer), &["basicConstraints=CA:FALSE", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    }

    /// The certificate of a client, with this name or none, and one file of it and its key: NAME.both.
    pub fn client(&self, name: &str, issuer: &str, dns: Option<&str>) {
        let san = dns.map(|dns| format!("subjectAltName=DNS:{dns}"));
        let mut extensions = vec!["basicConstraints=CA:FALSE"];
        extensions.extend(san.as_deref());
        self.issue(name, Some(issuer), &extensions);
        let both = self.text(&format!("{name}.pem")) + &self.text(&format!("{name}.key"));
        std::fs::write(self.path(&format!("{name}.both")), both).unwrap();
    }
}
