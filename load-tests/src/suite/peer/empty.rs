//! The empty handler of this very binary, in a process of its own.

use crate::suite::child::{Child, free_addr};
use crate::suite::service::status_of;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub struct Empty {
    pub child: Child,
    pub addr: SocketAddr,
}

impl Empty {
    /// One that answers `answer` bytes.
    pub fn start(work: &Path, answer: u64) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        // This very file, even if a build has put another in its place meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["empty", "--listen", &addr.to_string(), "--answer", &answer.to_string()]);
        let mut child = Child::start(command, &work.join("empty.log"))?;
        child.wait_until(Duration::from_secs(10), || status_of(addr, "/healthz") == Some(200))?;
        Ok(Self { child, addr })
    }
}
