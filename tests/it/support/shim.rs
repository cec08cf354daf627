//! A machine whose clock and disk a test can make go wrong, by a library loaded before all others.

use crate::support::{Server, Site, root};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// What a server with the library goes by.
pub struct Shim {
    file: std::cell::RefCell<std::fs::File>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Shim {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        std::fs::write(&path, [0; 16]).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        Self { file: file.into(), path, _dir: dir }
    }

    /// Has the time of day be so many ms ahead.
    pub fn set_clock(&self, ahead_ms: i64) {
        self.put(0, ahead_ms);
    }

    /// Has no sync return, or those that wait and all others.
    pub fn hang_syncs(&self, hang: bool) {
        self.put(8, i64::from(hang));
    }

    fn put(&self, at: u64, value: i64) {
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&value.to_ne_bytes()).unwrap();
    }

    /// Starts a server on this machine.
    pub fn start(&self, site: &Site) -> Server {
        Server::start(self.on(site.command()))
    }

    pub fn on(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", library()).env("FREQCAP_TEST_SHIM", &self.path);
        command
    }
}

/// Builds the library, once a process.
fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = std::env::temp_dir().join(format!("freqcap-shim-{}.so", std::process::id()));
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(root().join("tests/it/support/shim.c"))
            .arg("-ldl")
            .status();
        assert!(compiler.unwrap().success());
        library
    })
}
