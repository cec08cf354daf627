//! The generator: connections that send what [`calls`] makes, in a closed or an open loop, on a thread or two of its own.

pub mod calls;
mod connection;
mod open;
mod outcome;
pub mod stream;
pub mod text;
mod tls;

pub use calls::Calls;
pub use connection::Connection;
pub use outcome::Outcome;
pub use tls::Tls;

use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Clone)]
pub struct Load {
    pub addr: SocketAddr,
    pub connections: usize,
    /// Threads of the generator, which share the connections.
    pub threads: usize,
    pub pace: Pace,
    /// Longer than this it does not take.
    pub time: Duration,
    /// Ends it sooner.
    pub stop: Stop,
    /// How the service is trusted, if it is called over TLS.
    pub tls: Option<Tls>,
}

/// A flag that ends a load from outside.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection sends its next request when the last was answered: the peak rate. A connection sends no more
    /// than its equal part of `requests`.
    Closed { requests: u64 },
    /// Requests arrive at a constant rate, whatever becomes of them. The latency of each counts from the instant at
    /// which it was to be sent, so that a stall is felt by all who arrive in it.
    Open { per_second: f64 },
}

impl Load {
    pub fn closed(addr: SocketAddr, connections: usize, time: Duration) -> Self {
        let pace = Pace::Closed { requests: u64::MAX };
        Self { addr, connections, threads: 2, pace, time, stop: Stop::default(), tls: None }
    }

    pub fn requests(self, requests: u64) -> Self {
        Self { pace: Pace::Closed { requests }, ..self }
    }

    pub fn open(addr: SocketAddr, connections: usize, time: Duration, per_second: f64) -> Self {
        let pace = Pace::Open { per_second };
        Self { addr, connections, threads: 1, pace, time, stop: Stop::default(), tls: None }
    }

    /// Runs until the time or the requests are used up. `calls` makes those of each connection.
    pub fn run<C: Calls + 'static>(&self, calls: impl Fn(usize) -> C + Sync) -> anyhow::Result<Outcome> {
        let threads = self.threads.clamp(1, self.connections.max(1));
        let parts = std::thread::scope(|scope| {
            let part = |thread: usize| {
                let calls = (thread..self.connections).step_by(threads).map(&calls).collect();
                scope.spawn(move || self.run_thread(thread, threads, calls))
            };
            let running: Vec<_> = (0..threads).map(part).collect();
            let joined = running.into_iter().map(|thread| thread.join().expect("a thread of the generator panicked"));
            joined.collect::<Vec<_>>()
        });
        let mut whole = Outcome::new();
        for part in parts {
            whole.add(part?)?;
        }
        Ok(whole)
    }

    fn run_thread<C: Calls + 'static>(&self, thread: usize, threads: usize, calls: Vec<C>) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A service that stops answering ends the load.
        let within = self.time + Duration::from_secs(30);
        runtime.block_on(async {
            let load = tokio::time::timeout(within, self.run_paced(thread, threads, calls)).await;
            load.with_context(|| format!("answers did not come within {within:?}"))?
        })
    }

    async fn run_paced<C: Calls + 'static>(
        &self,
        thread: usize,
        threads: usize,
        calls: Vec<C>,
    ) -> anyhow::Result<Outcome> {
        let mut connections = Vec::new();
        for calls in calls {
            connections.push((Connection::open(self.addr, self.tls.as_ref()).await?, calls));
        }
        match self.pace {
            Pace::Closed { requests } => self.run_closed(thread, threads, requests, connections).await,
            Pace::Open { per_second } => {
                let arrivals = open::Arrivals { per_second: per_second / threads as f64, time: self.time };
                open::run(arrivals, self.stop.clone(), connections).await
            }
        }
    }

    async fn run_closed<C: Calls + 'static>(
        &self,
        thread: usize,
        threads: usize,
        requests: u64,
        connections: Vec<(Connection, C)>,
    ) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let all = self.connections as u64;
        let mut tasks = JoinSet::new();
        for (nth, (connection, calls)) in connections.into_iter().enumerate() {
            let number = (thread + nth * threads) as u64;
            let requests = requests / all + u64::from(number < requests % all);
            tasks.spawn(closed_loop(connection, calls, requests, start, self.time, self.stop.clone()));
        }
        let mut whole = sum(tasks).await?;
        whole.elapsed = start.elapsed();
        Ok(whole)
    }
}

async fn closed_loop<C: Calls + 'static>(
    mut connection: Connection,
    mut calls: C,
    requests: u64,
    start: Instant,
    time: Duration,
    stop: Stop,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut request = Vec::new();
    let mut sent = Instant::now();
    for _ in 0..requests {
        if sent - start >= time || stop.is_set() {
            break;
        }
        request.clear();
        calls.next(&mut request);
        sent = Instant::now();
        let answer = connection.call(&request).await?;
        let answered = Instant::now();
        outcome.answered(&mut calls, &answer, answered - sent, answered - start)?;
        sent = answered;
    }
    Ok(outcome)
}

/// What the tasks gave, added up; the first error ends them all.
async fn sum(mut tasks: JoinSet<anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    let mut whole = Outcome::new();
    while let Some(part) = tasks.join_next().await {
        whole.add(part.context("a task of the generator")??)?;
    }
    Ok(whole)
}

/// For what is asked now and then: the answer's status and body as text.
pub fn ask(addr: SocketAddr, tls: Option<&Tls>, request: &[u8]) -> anyhow::Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(addr, tls).await?;
        let answer = connection.call(request);
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await.context("no answer in 30 s")??;
        Ok((answer.status, String::from_utf8_lossy(answer.body).into_owned()))
    })
}
