//! Load for freqcap over real sockets.
//!
//! Closed loop: every connection sends its next request when the last was answered, so the figures are peak rates and
//! the latencies are those at that rate. Bounded in count and time.

mod empty;
mod generate;
mod run;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Load for freqcap: peak rates over real sockets", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// POST /events with NDJSON batches
    Ingest {
        #[command(flatten)]
        load: Load,
        /// Events of a batch
        #[arg(long, default_value_t = 1_000)]
        batch: usize,
    },
    /// POST /events with one event each
    Single {
        #[command(flatten)]
        load: Load,
    },
    /// GET /cap/{user}/{da}
    Get {
        #[command(flatten)]
        load: Load,
    },
    /// POST /check of one user
    Check {
        #[command(flatten)]
        load: Load,
        /// Ads of a call; each is a verdict
        #[arg(long, default_value_t = 100)]
        candidates: usize,
    },
    /// POST /reserve of one user, with an id of its own each
    Reserve {
        #[command(flatten)]
        load: Load,
        /// Ads of a call, of which the first that is not capped is taken
        #[arg(long, default_value_t = 10)]
        candidates: usize,
    },
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
struct Load {
    /// Where the service listens (loopback only)
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How long, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Requests at the most
    #[arg(long, default_value_t = 10_000_000)]
    requests: u64,
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    #[arg(long, default_value_t = 1_000)]
    ads: u64,
    /// Events without ids
    #[arg(long)]
    no_ids: bool,
    /// Where the stream of events begins: another seed, other events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Ingest { load, batch } => {
                drive(&load, batch as u64, move |part| run::post("/events", "application/x-ndjson", part.lines(batch)))
                    .await
            }
            Command::Single { load } => drive(&load, 1, |part| run::post("/events", JSON, part.one())).await,
            Command::Get { load } => drive(&load, 1, |part| run::get(&part.cap_path())).await,
            Command::Check { load, candidates } => {
                drive(&load, candidates as u64, move |part| run::post("/check", JSON, part.check(candidates))).await
            }
            Command::Reserve { load, candidates } => {
                drive(&load, 1, move |part| run::post("/reserve", JSON, part.reserve(candidates))).await
            }
            Command::Empty { listen, answer } => empty::serve(listen, answer).await,
        }
    })
}

const JSON: &str = "application/json";

/// Sends what `next` makes of each connection's stream; a request counts as `per_request`.
async fn drive(
    load: &Load,
    per_request: u64,
    next: impl Fn(&mut generate::Part) -> run::Call + Copy + Send + 'static,
) -> anyhow::Result<()> {
    anyhow::ensure!(load.addr.ip().is_loopback(), "load is sent to this machine only, not to {}", load.addr);
    let plan = run::Plan {
        addr: load.addr,
        connections: load.connections,
        time: Duration::from_secs(load.seconds),
        requests: load.requests,
    };
    let stream = generate::Stream { users: load.users, ads: load.ads, ids: !load.no_ids, seed: load.seed };
    let result = run::run(&plan, |connection| {
        let mut events = stream.part(connection as u64);
        move || next(&mut events)
    })
    .await?;
    result.print(per_request, load.json);
    Ok(())
}
