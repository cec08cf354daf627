//! The service under test: its own process, port and data directory, all gone when it is dropped.

use super::child::{Child, free_addr, pause};
use crate::load::calls::get;
use crate::load::{self, Tls};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Service {
    pub child: Child,
    pub addr: SocketAddr,
    /// How it is trusted, where it speaks TLS.
    pub tls: Option<Tls>,
    bin: PathBuf,
    flags: Vec<String>,
    dir: TempDir,
}

impl Service {
    pub fn start(bin: &Path, work: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(bin, work, flags, None)
    }

    /// With flags that have it speak TLS, which `tls` trusts.
    pub fn start_with(bin: &Path, work: &Path, flags: &[&str], tls: Option<Tls>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("service-").tempdir_in(work)?;
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (child, addr) = launch(bin, &flags, dir.path())?;
        let mut service = Self { child, addr, tls, bin: bin.to_owned(), flags, dir };
        service.wait_until_well()?;
        Ok(service)
    }

    fn wait_until_well(&mut self) -> anyhow::Result<()> {
        let (addr, tls) = (self.addr, self.tls.as_ref());
        self.child.wait_until(Duration::from_secs(120), || status_over(addr, tls, "/healthz") == Some(200))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kill(&mut self) {
        self.child.kill();
    }

    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.child.stop(Duration::from_secs(20))
    }

    /// Starts it again on what it left, and does not wait until it answers.
    pub fn launch_again(&mut self) -> anyhow::Result<()> {
        (self.child, self.addr) = launch(&self.bin, &self.flags, self.dir.path())?;
        Ok(())
    }

    /// Waits, for so long at the most, until it has nothing more to do than a twentieth of a core: compactions of what
    /// was written before are not to be measured with what comes next.
    pub fn settle(&self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let step = Duration::from_millis(500);
        let mut before = self.child.cpu_seconds()?;
        loop {
            pause(step);
            let now = self.child.cpu_seconds()?;
            if now - before < step.as_secs_f64() / 20.0 || Instant::now() > deadline {
                return Ok(());
            }
            before = now;
        }
    }

    /// A request that must succeed.
    pub fn request(&self, write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<String> {
        let mut request = Vec::new();
        write(&mut request);
        let (status, body) = load::ask(self.addr, self.tls.as_ref(), &request)?;
        anyhow::ensure!((200..300).contains(&status), "answered {status}: {body}");
        Ok(body)
    }
}

fn launch(bin: &Path, flags: &[String], dir: &Path) -> anyhow::Result<(Child, SocketAddr)> {
    let addr = free_addr()?;
    let mut command = Command::new(bin);
    command.args(["serve", "--log", "warn", "--listen", &addr.to_string()]).args(flags);
    command.arg("--data-dir").arg(dir.join("data"));
    let child = Child::start(command, &dir.join("log")).with_context(|| format!("{}", bin.display()))?;
    Ok((child, addr))
}

/// The status of a GET, if it is answered.
pub fn status_of(addr: SocketAddr, target: &str) -> Option<u16> {
    status_over(addr, None, target)
}

fn status_over(addr: SocketAddr, tls: Option<&Tls>, target: &str) -> Option<u16> {
    let mut request = Vec::new();
    get(&mut request, |out| out.extend_from_slice(target.as_bytes()));
    load::ask(addr, tls, &request).ok().map(|(status, _)| status)
}
