//! Who used the cores while something was measured.

use super::child::{Child, cpu_seconds};
use anyhow::Context;
use serde_json::{Value, json};
use std::time::Instant;

/// CPU seconds of the whole machine since it started.
#[derive(Clone, Copy)]
pub struct Machine {
    pub busy: f64,
    pub steal: f64,
}

impl Machine {
    pub fn now() -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks[..] else {
            anyhow::bail!("/proc/stat: {line}")
        };
        let second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Self { busy: (user + nice + system + irq + softirq) / second, steal: steal / second })
    }
}

/// A measurement under way: of this process, which is the generator, and of those that are measured.
pub struct Watch<'a> {
    children: Vec<(&'a str, &'a Child, f64)>,
    generator: f64,
    machine: Machine,
    start: Instant,
}

impl<'a> Watch<'a> {
    /// The peak of memory counts from here on.
    pub fn start(children: &[(&'a str, &'a Child)]) -> anyhow::Result<Self> {
        let mut watched = Vec::new();
        for &(name, child) in children {
            child.reset_peak()?;
            watched.push((name, child, child.cpu_seconds()?));
        }
        let (generator, machine) = (cpu_seconds(std::process::id())?, Machine::now()?);
        Ok(Self { children: watched, generator, machine, start: Instant::now() })
    }

    /// CPU seconds by process, and of everybody else on the machine.
    pub fn finish(self) -> anyhow::Result<Value> {
        let machine = Machine::now()?;
        let generator = cpu_seconds(std::process::id())? - self.generator;
        let mut shares = json!({"seconds": self.start.elapsed().as_secs_f64(), "generator": generator});
        let mut known = generator;
        for (name, child, before) in self.children {
            let used = child.cpu_seconds()? - before;
            known += used;
            shares[name] = used.into();
        }
        shares["others"] = (machine.busy - self.machine.busy - known).max(0.0).into();
        shares["steal"] = (machine.steal - self.machine.steal).into();
        Ok(shares)
    }
}
