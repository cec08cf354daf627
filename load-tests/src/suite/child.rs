//! A process of the suite: ended by its id whatever happens, its memory and CPU time read from /proc.

use anyhow::Context;
use rustix::process::Signal;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Child {
    child: std::process::Child,
    name: String,
    log: std::path::PathBuf,
}

impl Child {
    /// Starts it with its output in `log`. If the suite itself is killed, the kernel ends the child.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy();
            if variable.starts_with("FREQCAP_") || variable == "PORT" {
                command.env_remove(&*variable);
            }
        }
        #[expect(unsafe_code, reason = "pre_exec runs between fork and exec")]
        // SAFETY: between fork and exec only one system call is made, which is allowed there.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name, log: log.to_owned() })
    }

    /// Polls until `ready`, or fails with what the process had to say.
    pub fn wait_until(&mut self, within: Duration, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let how = ended.map_or_else(|| format!("not ready after {within:?}"), |status| status.to_string());
                anyhow::bail!("{}: {how}. Its output:\n{}", self.name, self.last_words());
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL if that is not enough in this time.
    pub fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, Signal::TERM)?;
        let deadline = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.kill();
                anyhow::bail!("{} did not stop within {within:?}", self.name);
            }
            pause(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The most memory it has held, in bytes, since the start or [`Self::reset_peak`].
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        status_field(self.id(), "VmHWM:")
    }

    pub fn memory(&self) -> anyhow::Result<u64> {
        status_field(self.id(), "VmRSS:")
    }

    /// Lets the peak begin anew at what is held now.
    pub fn reset_peak(&self) -> anyhow::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").context("resetting the peak of memory")
    }

    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status_field(id: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a field of /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// User and system time of a process and of its threads that ended.
pub fn cpu_seconds(id: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold spaces. utime and stime are the 12th and 13th after it.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("/proc/PID/stat");
    Ok((ticks(11)? + ticks(12)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A port of loopback that was free a moment ago.
pub fn free_addr() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Between two looks at a condition.
pub fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
