//! The suite: starts the service and its peers, runs scenarios, judges, prints one table.

mod bench;
mod child;
mod figure;
mod goal;
mod peer;
mod report;
mod scenario;
mod service;
mod size;
mod table;
mod watch;
mod workplace;

use bench::Bench;
use scenario::{Kind, Scenario};
use size::Size;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct SuiteArgs {
    /// Scenarios to run; all of them if none is named
    scenarios: Vec<String>,
    /// The service to measure
    #[arg(long, env = "FREQCAP_BIN", value_name = "FILE")]
    bin: PathBuf,
    /// Another build of the service: every scenario runs alternately with both, and their ratio is printed
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// How often each scenario runs; figures are medians
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// The same lines from smaller counts, in minutes
    #[arg(long)]
    quick: bool,
    /// Without the empty handler, Redis and the others
    #[arg(long)]
    no_peers: bool,
    /// throttlecrab-server [default: where PATH has it]
    #[arg(long, env = "THROTTLECRAB_BIN", value_name = "FILE")]
    throttlecrab: Option<PathBuf>,
    /// How long `soak` takes; it runs only if it is named
    #[arg(long, env = "FREQCAP_SOAK_MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// A directory on a disk; what is made in it is deleted afterwards [default: that for temporary files]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Where FILE.md and FILE.json are written, if all of one build is measured
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What went wrong, by scenario.
type Failures = BTreeMap<&'static str, String>;

pub fn run(args: &SuiteArgs) -> anyhow::Result<ExitCode> {
    let scenarios = chosen(&args.scenarios, args.no_peers)?;
    let work = workplace::make(args.work_dir.as_deref())?;
    let size = if args.quick { Size::QUICK } else { Size::FULL };
    let bench = |bin: &PathBuf| {
        Bench::new(bin.clone(), work.path(), size, !args.no_peers, Duration::from_secs_f64(args.minutes * 60.0))
    };
    let mut benches = vec![bench(&args.bin)];
    benches[0].throttlecrab.clone_from(&args.throttlecrab);
    benches.extend(args.compare.as_ref().map(bench));
    let mut failures = Failures::new();
    for round in 0..args.rounds {
        for scenario in &scenarios {
            let measured = if scenario.kind == Kind::Peer { 1 } else { benches.len() };
            for bench in &mut benches[..measured] {
                run_one(scenario, bench, round, &mut failures);
            }
        }
        benches.iter_mut().for_each(Bench::end);
    }
    report::report(args, &benches, &scenarios, &failures)?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String], no_peers: bool) -> anyhow::Result<Vec<&'static Scenario>> {
    let known = || scenario::ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    for name in names {
        anyhow::ensure!(
            scenario::ALL.iter().any(|known| known.name == name),
            "no scenario {name}. There are: {}",
            known()
        );
    }
    let is_chosen = |scenario: &&Scenario| match scenario.kind {
        Kind::Peer if no_peers => false,
        Kind::OnlyNamed if names.is_empty() => false,
        _ => names.is_empty() || names.iter().any(|name| name == scenario.name),
    };
    Ok(scenario::ALL.iter().filter(is_chosen).collect())
}

/// A scenario that fails says so, and the others go on.
fn run_one(scenario: &Scenario, bench: &mut Bench, round: usize, failures: &mut Failures) {
    let start = Instant::now();
    eprint!("{:<16} {} (round {}) ", scenario.name, bench.bin.display(), round + 1);
    match (scenario.run)(bench) {
        Ok(()) => eprintln!("{:.1} s", start.elapsed().as_secs_f64()),
        Err(error) => {
            eprintln!("FAILED after {:.1} s: {error:#}", start.elapsed().as_secs_f64());
            let which = bench.bin.file_name().unwrap_or_default().to_string_lossy();
            failures.entry(scenario.name).or_insert_with(|| format!("{which} failed: {error:#}"));
            // What it left is not trusted.
            bench.end();
        }
    }
}
