//! The job that freqcap replaces, on Flink with RocksDB: a script that prints what it measured as its last line.

use crate::suite::bench::Bench;
use crate::suite::child::pause;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
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
    command.arg(bench.size.flink_events.to_string()).env("TMPDIR", &bench.work).process_group(0);
    command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
    let mut child = command.spawn().context(SCRIPT)?;
    let deadline = Instant::now() + WITHIN;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            // The script and what it started.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            anyhow::bail!("not done after {WITHIN:?}");
        }
        pause(Duration::from_millis(100));
    };
    let (output, errors) = (std::fs::read_to_string(output)?, std::fs::read_to_string(errors)?);
    anyhow::ensure!(status.success(), "{status}: {}", errors.lines().last().unwrap_or_default());
    let line = output.lines().last().context("it printed nothing")?;
    let told: serde_json::Value = serde_json::from_str(line).with_context(|| format!("its last line: {line}"))?;
    let rate = told["per_second"].as_f64().context("per_second in its last line")?;
    bench.add("flink", rate, None, told);
    Ok(())
}
