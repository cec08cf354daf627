//! The job that freqcap replaces, on Flink with RocksDB: a script that prints what it measured as its last line.

use crate::suite::bench::Bench;
use crate::suite::child::pause;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/flink/run");
const WITHIN: Duration = Duration::from_secs(900);

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if !Path::new(SCRIPT).exists() {
        bench.skip("flink", "peers/flink/run is not there");
        return Ok(());
    }
    let (output, errors) = (bench.work.join("flink.out"), bench.work.join("flink.err"));
    let mut command = Command::new(SCRIPT);
    command.arg(bench.size.flink_events.to_string()).process_group(0);
    command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
    #[expect(unsafe_code, reason = "pre_exec runs between fork and exec")]
    // SAFETY: between fork and exec only one system call is made, which is allowed there.
    unsafe {
        // The script ends what it started, if it is asked to.
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let mut child = command.spawn().context(SCRIPT)?;
    let Some(status) = wait(&mut child, WITHIN)? else {
        let script = Pid::from_child(&child);
        kill_process(script, Signal::TERM)?;
        if wait(&mut child, Duration::from_secs(10))?.is_none() {
            kill_process_group(script, Signal::KILL)?;
            child.wait()?;
        }
        anyhow::bail!("not done after {WITHIN:?}");
    };
    let (output, errors) = (std::fs::read_to_string(output)?, std::fs::read_to_string(errors)?);
    anyhow::ensure!(status.success(), "{status}: {}", errors.lines().last().unwrap_or_default());
    let line = output.lines().last().context("it printed nothing")?;
    let told: serde_json::Value = serde_json::from_str(line).with_context(|| format!("its last line: {line}"))?;
    let rate = told["per_second"].as_f64().context("per_second in its last line")?;
    bench.add("flink", rate, None, told);
    Ok(())
}

fn wait(child: &mut Child, within: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        pause(Duration::from_millis(100));
    }
    Ok(None)
}
