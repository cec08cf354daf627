//! What a run says at its end: the table, and the files that keep it.

use super::bench::Bench;
use super::goal::{GOALS, Goal, Row};
use super::scenario::{Kind, Scenario};
use super::{Failures, SuiteArgs, table};
use anyhow::Context;
use serde_json::{Value, json};
use std::path::Path;

pub fn report(args: &SuiteArgs, benches: &[Bench], scenarios: &[&Scenario], failures: &Failures) -> anyhow::Result<()> {
    let ran = |goal: &&Goal| scenarios.iter().any(|scenario| scenario.name == goal.scenario);
    let why = |scenario: &str| failures.get(scenario).or_else(|| benches[0].skipped.get(scenario)).cloned();
    let judge = |goal: &Goal| goal.judge(&benches[0].figures, &benches[0].size, why);
    let rows: Vec<_> = GOALS.iter().filter(ran).map(judge).collect();

    let machine = machine(&benches[0].work)?;
    let figures: Vec<_> = benches.iter().map(|bench| bench.figures.to_json()).collect();
    let all = json!({
        "machine": machine, "quick": args.quick, "rounds": args.rounds,
        "goals": rows, "figures": figures, "failures": failures,
    });
    let text = text(args, benches, scenarios, &rows);
    if let Some(results) = args.results.as_deref().filter(|_| args.scenarios.is_empty() && args.compare.is_none()) {
        write(results, &machine, &text, &all)?;
    }
    if args.json {
        println!("{all}");
    } else {
        println!("{text}");
    }
    Ok(())
}

/// For those who read it.
fn text(args: &SuiteArgs, benches: &[Bench], scenarios: &[&Scenario], rows: &[Row]) -> String {
    let mut text = String::new();
    if args.quick {
        text += "A quick look: the counts in these lines are smaller than those that the goals speak of.\n\n";
    }
    if !rows.is_empty() {
        text += &table::goals(rows);
    }
    if scenarios.iter().all(|scenario| scenario.kind == Kind::Peer) {
        text += &table::figures(&benches[0].figures);
    }
    if let [one, other, ..] = benches {
        text += &format!("\none:   {}\nother: {}\n\n", one.bin.display(), other.bin.display());
        text += &table::comparison(&one.figures, &other.figures);
    }
    text
}

/// What it was measured on.
fn machine(work: &Path) -> anyhow::Result<Value> {
    let uname = rustix::system::uname();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = meminfo.split_whitespace().nth(1).context("/proc/meminfo")?.parse()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(json!({
        "cpu": model.trim_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "memory_gib": (kib as f64 / f64::from(1 << 20)).round(),
        "kernel": format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
        "filesystem": format!("{:#x}", rustix::fs::statfs(work)?.f_type),
        "load_average_at_the_end": load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }))
}

fn write(results: &Path, machine: &Value, table: &str, all: &Value) -> anyhow::Result<()> {
    let name = results.file_name().context("a file name for the results")?.to_string_lossy();
    let text = format!(
        "# freqcap, measured: {name}\n\n\
         {}, {} cores, {} GiB of memory, {}. The load generator shared the cores with what was measured; what others had \
         of them is in the last column. Load average at the end: {}. Only ratios of one run mean anything; README.md, a \
         directory up, says how each figure is got.\n\n{table}",
        machine["cpu"].as_str().unwrap_or_default(),
        machine["cores"],
        machine["memory_gib"],
        machine["kernel"].as_str().unwrap_or_default(),
        machine["load_average_at_the_end"].as_str().unwrap_or_default(),
    );
    if let Some(parent) = results.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // A dot in the name is not the beginning of an extension.
    std::fs::write(format!("{}.md", results.display()), text)?;
    std::fs::write(format!("{}.json", results.display()), serde_json::to_string_pretty(all)? + "\n")?;
    Ok(())
}
