//! The service under test: its own process, port and data directory, all gone when it is dropped.

use super::child::{Child, free_addr, pause};
use crate::load::calls::{JSON, get, post};
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
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl Service {
    pub fn start(bin: &Path, work: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(bin, work, flags, None, Vec::new())
    }

    /// With flags that have it speak TLS, which `tls` trusts.
    pub fn start_with(bin: &Path, work: &Path, flags: &[&str], tls: Option<Tls>) -> anyhow::Result<Self> {
        Self::start_as(bin, work, flags, tls, Vec::new())
    }

    /// With what it is to have in its environment.
    pub fn start_in(bin: &Path, work: &Path, flags: &[&str], env: Vec<(String, String)>) -> anyhow::Result<Self> {
        Self::start_as(bin, work, flags, None, env)
    }

    fn start_as(
        bin: &Path,
        work: &Path,
        flags: &[&str],
        tls: Option<Tls>,
        env: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("service-").tempdir_in(work)?;
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (child, addr) = launch(bin, &flags, &env, dir.path())?;
        let mut service = Self { child, addr, tls, bin: bin.to_owned(), flags, env, dir };
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
        self.stop_within(Duration::from_secs(20))
    }

    pub fn stop_within(&mut self, within: Duration) -> anyhow::Result<()> {
        self.child.stop(within)
    }

    /// A metric without labels; 0 where it is not there.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.request(|out| get(out, |out| out.extend_from_slice(b"/metrics")))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0.0), str::parse)?)
    }

    /// Starts it again on what it left, and does not wait until it answers.
    pub fn launch_again(&mut self) -> anyhow::Result<()> {
        (self.child, self.addr) = launch(&self.bin, &self.flags, &self.env, self.dir.path())?;
        Ok(())
    }

    /// Starts it again on what it left. Seconds until it reads, and until it counts.
    pub fn answers_again(&mut self) -> anyhow::Result<(f64, f64)> {
        let within = Duration::from_secs(120);
        let start = Instant::now();
        self.launch_again()?;
        let addr = self.addr;
        self.child.wait_until(within, || status_of(addr, "/cap/u0000001/1") == Some(200))?;
        let read = start.elapsed();
        let mut event = Vec::new();
        post(&mut event, "/events", JSON, |out| out.extend_from_slice(br#"{"user":"after","da":"1","id":"after"}"#));
        self.child.wait_until(within, || load::ask(addr, None, &event).is_ok_and(|(status, _)| status == 200))?;
        Ok((read.as_secs_f64(), start.elapsed().as_secs_f64()))
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

fn launch(bin: &Path, flags: &[String], env: &[(String, String)], dir: &Path) -> anyhow::Result<(Child, SocketAddr)> {
    let addr = free_addr()?;
    let mut command = Command::new(bin);
    command.args(["serve", "--log", "warn", "--listen", &addr.to_string()]).args(flags);
    command.arg("--data-dir").arg(dir.join("data")).envs(env.iter().map(|(name, value)| (name, value)));
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
