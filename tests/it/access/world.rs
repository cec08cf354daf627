//! A service that asks for keys.

use crate::support::{Server, Site, binary};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

pub const SCOPES: [&str; 13] = [
    "events",
    "decide",
    "users:read",
    "users:erase",
    "rules:read",
    "rules:write",
    "ads:read",
    "ads:write",
    "reports",
    "stream",
    "sign",
    "metrics",
    "admin",
];

/// The sha256 of a secret.
pub fn sha256(secret: &str) -> String {
    freqcap::auth::Digest::of(secret.as_bytes()).to_hex()
}

/// A row of a keys file.
pub fn row(id: &str, secret: &str, scopes: &[&str], rest: &str) -> String {
    format!("[[key]]\nid = {id:?}\nsha256 = {:?}\nscopes = {scopes:?}\n{rest}\n", sha256(secret))
}

/// A site with a keys file.
pub struct World {
    pub site: Site,
}

impl World {
    pub fn new(keys: &str, flags: &[&str]) -> Self {
        let mut site = Site::new(flags);
        let path = site.dir.path().join("keys.toml");
        std::fs::write(&path, keys).unwrap();
        site.flags.extend(["--keys-file".to_owned(), path.to_str().unwrap().to_owned()]);
        Self { site }
    }

    pub fn keys_file(&self) -> PathBuf {
        self.site.dir.path().join("keys.toml")
    }

    /// Puts another keys file in the place of the one that is there, in one step.
    pub fn replace(&self, keys: &str) {
        let next = self.site.dir.path().join("next");
        std::fs::write(&next, keys).unwrap();
        std::fs::rename(next, self.keys_file()).unwrap();
    }
}

/// Asks with a secret; the status, and the body as JSON.
pub fn ask(server: &Server, method: &str, path: &str, secret: Option<&str>) -> (u16, Value) {
    let bearer = secret.map(|secret| format!("Bearer {secret}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let (status, _, body) = server.send(method, path, &headers, None);
    (status.as_u16(), body)
}

/// Runs the program to its end.
pub fn freqcap(args: &[&str]) -> Output {
    Command::new(binary()).args(args).env_remove("PORT").output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
