//! The command line: one load against a service that runs already, or the suite, which starts what it measures.

use crate::empty;
use crate::load::calls::{Batches, Caps, Checks, Reserves, Single, call_with};
use crate::load::stream::{Shape, Stream};
use crate::load::{Calls, Load, Outcome, Pace, Tls};
use crate::suite::{self, SuiteArgs};
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Load for freqcap over real sockets, and the table of its speed goals", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// POST /events with NDJSON batches
    Ingest {
        #[command(flatten)]
        load: LoadArgs,
        /// Events of a batch
        #[arg(long, default_value_t = 1_000)]
        batch: usize,
    },
    /// POST /events with one event each
    Single {
        #[command(flatten)]
        load: LoadArgs,
    },
    /// GET /cap/{user}/{da}
    Get {
        #[command(flatten)]
        load: LoadArgs,
        /// Ask for the pairs of the first N events that `ingest` sent over each of as many connections with this seed
        #[arg(long, default_value_t = 1_000_000)]
        held: u64,
    },
    /// POST /check of one user; the rate is in verdicts
    Check {
        #[command(flatten)]
        load: LoadArgs,
        /// Ads of a call; each is a verdict
        #[arg(long, default_value_t = 100)]
        candidates: usize,
    },
    /// POST /reserve of one user, with an id of its own each
    Reserve {
        #[command(flatten)]
        load: LoadArgs,
        /// Ads of a call, of which the first that is not capped is taken
        #[arg(long, default_value_t = 10)]
        candidates: usize,
    },
    /// Starts the service and its peers itself, runs the scenarios and prints the table of goals
    Suite(SuiteArgs),
    /// Serves an axum handler that reads the body and answers as long a text as freqcap would: what the others are
    /// measured beside
    Empty {
        #[arg(long, default_value = "127.0.0.1:8099")]
        listen: SocketAddr,
        /// Bytes of an answer
        #[arg(long, default_value_t = 340)]
        answer: usize,
    },
}

#[derive(clap::Args, Clone)]
struct LoadArgs {
    /// Where the service listens (loopback only)
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// File with the secret of the key to call with
    #[arg(long, env = "FREQCAP_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// Call over TLS, and trust the certificates of this PEM file (they must name localhost)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Threads of the generator
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How long, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Requests at the most
    #[arg(long, default_value_t = u64::MAX)]
    requests: u64,
    /// Open loop: requests arrive at this rate, and latencies count from when each was to be sent. Without it each
    /// connection sends its next request when the last was answered
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, value_enum, default_value_t = Shape::Even)]
    shape: Shape,
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    #[arg(long, default_value_t = 1_000)]
    ads: u64,
    /// Events without ids
    #[arg(long)]
    no_ids: bool,
    /// Another seed, other events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    fn stream(&self) -> Stream {
        Stream { shape: self.shape, users: self.users, ads: self.ads, ids: !self.no_ids, seed: self.seed }
    }

    fn drive<C: Calls + 'static>(&self, calls: impl Fn(usize) -> C + Sync) -> anyhow::Result<()> {
        if let Some(path) = &self.key_file {
            let secret = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            call_with(secret.trim());
        }
        let time = Duration::from_secs(self.seconds);
        let pace = match self.rate {
            Some(per_second) => Pace::Open { per_second },
            None => Pace::Closed { requests: self.requests },
        };
        let tls = self.tls_ca.as_deref().map(Tls::trusting).transpose()?;
        let load = Load { threads: self.threads, pace, tls, ..Load::closed(self.addr, self.connections, time) };
        self.print(&load.run(calls)?);
        Ok(())
    }

    fn print(&self, outcome: &Outcome) {
        if self.json {
            println!("{}", outcome.to_json());
        } else {
            println!("{}", outcome.to_line());
        }
    }
}

pub fn run() -> ExitCode {
    match command(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("freqcap-load-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ingest { load, batch } => {
            let stream = load.stream();
            load.drive(|connection| Batches { events: stream.part(connection), batch })?;
        }
        Command::Single { load } => {
            let stream = load.stream();
            load.drive(|connection| Single { events: stream.part(connection) })?;
        }
        Command::Get { load, held } => {
            let stream = load.stream();
            load.drive(|connection| Caps::of(&stream, connection, held))?;
        }
        Command::Check { load, candidates } => {
            let draws = load.stream();
            load.drive(|connection| Checks { draws: draws.part(connection), candidates })?;
        }
        Command::Reserve { load, candidates } => {
            let draws = load.stream();
            load.drive(|connection| Reserves { draws: draws.part(connection), candidates })?;
        }
        Command::Suite(args) => return suite::run(&args),
        Command::Empty { listen, answer } => empty::serve(listen, answer)?,
    }
    Ok(ExitCode::SUCCESS)
}
