//! The loop: a task a connection, the next request when the last was answered.

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

pub struct Plan {
    pub addr: SocketAddr,
    pub connections: usize,
    pub time: Duration,
    pub requests: u64,
}

/// What a run gave.
pub struct Outcome {
    elapsed: Duration,
    ok: u64,
    refused: u64,
    /// Latencies in ns.
    latency: Histogram<u64>,
}

type Body = Full<Bytes>;
/// A request to be sent.
pub type Call = Request<Body>;

fn request(method: Method, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(target).header("host", "freqcap")
}

pub fn post(target: &str, content_type: &str, body: Bytes) -> Call {
    let request = request(Method::POST, target).header("content-type", content_type).body(Full::new(body));
    request.expect("a constant request is valid")
}

pub fn get(target: &str) -> Call {
    request(Method::GET, target).body(Full::default()).expect("generated paths are valid")
}

/// Runs until the time or the requests are used up.
pub async fn run<F, N>(plan: &Plan, mut requests: F) -> anyhow::Result<Outcome>
where
    F: FnMut(usize) -> N,
    N: FnMut() -> Call + Send + 'static,
{
    let left = Arc::new(AtomicU64::new(plan.requests));
    let start = Instant::now();
    let until = start + plan.time;
    let mut tasks = Vec::new();
    for number in 0..plan.connections {
        let stream = TcpStream::connect(plan.addr).await.with_context(|| format!("connecting to {}", plan.addr))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        tasks.push(tokio::spawn(connection_loop(sender, requests(number), left.clone(), until)));
    }
    let mut all = Outcome { elapsed: Duration::ZERO, ok: 0, refused: 0, latency: Histogram::new(3)? };
    for task in tasks {
        let one = task.await??;
        all.ok += one.ok;
        all.refused += one.refused;
        all.latency.add(&one.latency)?;
    }
    all.elapsed = start.elapsed();
    Ok(all)
}

async fn connection_loop(
    mut sender: http1::SendRequest<Body>,
    mut next: impl FnMut() -> Call,
    left: Arc<AtomicU64>,
    until: Instant,
) -> anyhow::Result<Outcome> {
    let mut one = Outcome { elapsed: Duration::ZERO, ok: 0, refused: 0, latency: Histogram::new(3)? };
    let take = |left: u64| left.checked_sub(1);
    while Instant::now() < until && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let request = next();
        let sent = Instant::now();
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        one.latency.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX))?;
        if status.is_success() {
            one.ok += 1;
        } else {
            one.refused += 1;
        }
    }
    Ok(one)
}

impl Outcome {
    pub fn print(&self, per_request: u64, json: bool) {
        let seconds = self.elapsed.as_secs_f64();
        let rate = (self.ok * per_request) as f64 / seconds;
        let ms = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e6;
        let (p50, p99, p999) = (ms(0.5), ms(0.99), ms(0.999));
        if json {
            let line = serde_json::json!({
                "seconds": seconds, "requests": self.ok, "refused": self.refused, "per_second": rate,
                "p50_ms": p50, "p99_ms": p99, "p999_ms": p999,
            });
            println!("{line}");
            return;
        }
        println!(
            "{rate:>12.0}/s   {} requests in {seconds:.1} s, {} refused   p50 {p50:.3} ms  p99 {p99:.3} ms  p99.9 {p999:.3} ms",
            self.ok, self.refused
        );
    }
}
